/**
 * Owns reading one blob or tree, from any place where the index knows it.
 *
 * Invariants: 1. nothing is returned whose SHA-256 is not its id. 2. A blob unknown to the index is looked for once more
 * after reading new index files: it may have been saved since. 3. Damage in one place falls back to another.
 */
import { Failure, isFailure } from '@stillpoint/core/kernel'
import type { BlobPlace } from '../blob-index.ts'
import { DamageError } from '../format/damage.ts'
import type { BlobType, TreeId } from '../format/ids.ts'
import { decodeTree, type TreeNode } from '../format/tree.ts'
import { openBlob } from '../save/blob-coder.ts'
import { damageHint, type Vault } from '../vault.ts'

/** @throws Failure `object_missing`, `object_damaged`, and those of the store */
export async function readBlob(vault: Vault, id: string, type: BlobType): Promise<Buffer> {
  const places = vault.index.blobs.places(id, type)
  const first = await readAnyPlace(vault, places)
  if (first instanceof Buffer) return first
  if (isFailure(first, 'object_damaged')) throw first
  // Not known, or not there any more: it was saved since the index was read, or a prune has moved it.
  await vault.index.refresh()
  const second = await readAnyPlace(vault, vault.index.blobs.places(id, type))
  if (second instanceof Buffer) return second
  throw (
    second ??
    new Failure({
      code: 'object_missing',
      message: `${type} blob ${id} is in no index of the repository`,
      hint: damageHint,
    })
  )
}

/** The blob, or why it could not be read from the last place; undefined where there is no place. */
async function readAnyPlace(vault: Vault, places: readonly BlobPlace[]): Promise<Buffer | Failure | undefined> {
  let failure: Failure | undefined
  for (const place of places) {
    try {
      return await readPlace(vault, place)
    } catch (error) {
      if (!isFailure(error, 'object_damaged') && !isFailure(error, 'object_missing')) throw error
      failure = error
    }
  }
  return failure
}

async function readPlace(vault: Vault, place: BlobPlace): Promise<Buffer> {
  const pack = { kind: 'pack', name: place.pack } as const
  const sealed = await vault.store.get(pack, place)
  try {
    return await openBlob(place, sealed, vault.keys)
  } catch (error) {
    if (!(error instanceof DamageError)) throw error
    const where = `in pack ${vault.store.locate(pack)} at ${place.offset}`
    throw new Failure({
      code: 'object_damaged',
      message: `${place.type} blob ${place.id} ${where} is damaged: ${error.message}`,
      hint: damageHint,
      cause: error,
    })
  }
}

/** @throws as `readBlob` */
export async function readTree(vault: Vault, id: TreeId): Promise<TreeNode[]> {
  const bytes = await readBlob(vault, id, 'tree')
  try {
    return decodeTree(bytes)
  } catch (error) {
    if (!(error instanceof DamageError)) throw error
    throw new Failure({ code: 'object_damaged', message: `tree ${id} is damaged: ${error.message}`, cause: error })
  }
}
