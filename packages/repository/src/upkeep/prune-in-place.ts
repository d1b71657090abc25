/**
 * Owns replacing an index file where there is no room for another one: it is deleted first. For prunes that are told to.
 *
 * Invariants: 1. what is written holds no more than what was deleted, so there is room for it unless others take it.
 * 2. Where it cannot be written all the same, the old one is put back; only who is killed in between leaves none, and
 * then a repair of the index makes one from the packs.
 */
import { Failure, isFailure } from '@stillpoint/core/kernel'
import type { ObjectName } from '../blob/blob-store.ts'
import type { PackId } from '../format/ids.ts'
import { readObject, type Vault } from '../vault.ts'
import { createIndexWriter, readIndexFile } from './index-files.ts'

/** @throws Failure `no_space`, … */
export async function replaceInPlace(vault: Vault, name: string, isDropped: (pack: PackId) => boolean): Promise<void> {
  const object: ObjectName = { kind: 'index', name }
  const kept = (await readIndexFile(vault, name)).filter(({ id }) => !isDropped(id))
  const before = await readObject(vault.store, object)
  await vault.store.delete(object)
  try {
    const writer = createIndexWriter(vault)
    for (const pack of kept) await writer.add(pack)
    await writer.flush()
  } catch (cause) {
    await putBack(vault, object, { before, cause })
    throw cause
  }
}

interface Lost {
  readonly before: Buffer
  readonly cause: unknown
}

async function putBack(vault: Vault, object: ObjectName, { before, cause }: Lost): Promise<void> {
  try {
    await vault.store.put(object, before)
  } catch {
    // Told is why it had to be put back.
    throw new Failure({
      code: isFailure(cause) ? cause.code : 'storage_failed',
      message: `index ${object.name} was deleted to make room, and neither its successor nor itself could be written: ${cause instanceof Error ? cause.message : String(cause)}`,
      hint: 'Nothing of snapshots is lost, but they cannot be read until there is an index again: make room there, then run "repair index".',
      cause,
    })
  }
}
