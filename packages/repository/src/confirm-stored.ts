/**
 * Owns looking again at what was written, before anything refers to it or is deleted in exchange for it.
 *
 * A store that says "stored" and has nothing, or half of it, breaks its promise (blob-store.ts), and such stores exist. So
 * it is asked, past every cache: for the length of each pack, and for the bytes of each new index file, snapshot and key.
 * It costs a question per pack of 16 MiB and two reads per backup.
 */
import { Failure, isFailure } from '@stillpoint/core/kernel'
import type { ObjectName } from './blob/blob-store.ts'
import { readObject, type Vault } from './vault.ts'

/** @throws Failure `storage_failed` where the pack is not there in its length; what is there instead is removed */
export async function confirmPack(vault: Vault, pack: { readonly id: string; readonly bytes: number }): Promise<void> {
  const object: ObjectName = { kind: 'pack', name: pack.id }
  const bytes = await vault.direct().size(object)
  if (bytes === pack.bytes) return
  if (bytes === undefined) throw broken(vault, object, 'it is not there')
  await vault.direct().delete(object)
  throw broken(vault, object, `it had ${bytes} bytes, not ${pack.bytes}`)
}

/** As `confirmPack`, for small objects: they are read. */
export async function confirmDocument(vault: Vault, object: ObjectName): Promise<void> {
  try {
    await readObject(vault.direct(), object)
  } catch (error) {
    if (isFailure(error, 'object_missing')) throw broken(vault, object, 'it is not there', error)
    if (!isFailure(error, 'object_damaged')) throw error
    // Left there, it would keep the repository from being opened, or its snapshots from being listed.
    await vault.direct().delete(object)
    throw broken(vault, object, 'it was damaged', error)
  }
}

function broken(vault: Vault, object: ObjectName, reason: string, cause?: unknown): Failure {
  return new Failure({
    code: 'storage_failed',
    message: `the storage said that it had stored ${object.kind} ${vault.direct().locate(object)}, but ${reason}; nothing refers to it, and nothing that it was to replace was deleted`,
    hint: 'The storage does not do what it says: do not trust it with data. Check the repository with all data read.',
    ...(cause === undefined ? {} : { cause }),
  })
}
