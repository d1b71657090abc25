/**
 * Owns making packs durable, and then the indexes that name them.
 *
 * Invariant: an index file is written only after all packs in it are durable, and were found to be there.
 */
import { confirmDocument, confirmPack } from '../confirm-stored.ts'
import type { PackId } from '../format/ids.ts'
import { encodeIndex, type IndexedPack, indexBlobsMax } from '../format/index-file.ts'
import { type Vault, writeDocument } from '../vault.ts'

export interface FinishedPack extends IndexedPack {
  readonly id: PackId
  /** The whole file; may lie in shared memory. */
  readonly bytes: Uint8Array
}

export interface PackWriter {
  /** Stores the pack, and an index when enough packs wait for one. Its memory is free again when this settles. */
  write(pack: FinishedPack): Promise<void>
  /** Names all packs that are stored in an index. */
  writeIndex(): Promise<void>
  /** Removes the packs that no index names. Nobody can refer to them. */
  removeUnindexed(): Promise<void>
}

/**
 * @param onIndexed called when an index that names these packs is durable
 * @param indexEveryBytes an index is written after packs of so many bytes, if not before
 */
export function createPackWriter(
  vault: Vault,
  onIndexed: (packs: readonly IndexedPack[]) => void,
  indexEveryBytes: number,
): PackWriter {
  let unindexed: IndexedPack[] = []
  let unindexedBlobs = 0
  let unindexedBytes = 0

  async function writeIndex(): Promise<void> {
    const packs = unindexed
    if (packs.length === 0) return
    unindexed = []
    unindexedBlobs = 0
    unindexedBytes = 0
    const name = await writeDocument(vault, 'index', encodeIndex(packs))
    await confirmDocument(vault, { kind: 'index', name })
    vault.index.adopt(name, packs)
    onIndexed(packs)
  }

  return {
    writeIndex,
    async write({ id, entries, bytes }) {
      const given = vault.store.traits.takesShared === true ? bytes : Uint8Array.from(bytes)
      await vault.store.put({ kind: 'pack', name: id }, given)
      await confirmPack(vault, { id, bytes: given.length })
      unindexed.push({ id, entries })
      unindexedBlobs += entries.length
      unindexedBytes += given.length
      if (unindexedBlobs >= indexBlobsMax || unindexedBytes >= indexEveryBytes) await writeIndex()
    },
    async removeUnindexed() {
      const packs = unindexed
      unindexed = []
      for (const pack of packs) await vault.store.delete({ kind: 'pack', name: pack.id })
    },
  }
}
