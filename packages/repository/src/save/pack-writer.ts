/**
 * Owns making packs durable, and then the indexes that name them.
 *
 * Invariant: an index file is written only after all packs in it are durable.
 */
import { encodeIndex, type IndexedPack, indexBlobsMax } from '../format/index-file.ts'
import { type Vault, writeDocument } from '../vault.ts'
import type { SealedBlob } from './blob-coder.ts'
import { buildPack } from './pack-builder.ts'

export interface PackWriter {
  /** Packs in the making. */
  readonly inFlight: number
  /** Stores the blobs as one pack, and an index when enough packs wait for one. */
  write(blobs: readonly SealedBlob[]): Promise<void>
  /** Names all packs that are stored in an index. */
  writeIndex(): Promise<void>
  /** Removes the packs that no index names. Nobody can refer to them. */
  removeUnindexed(): Promise<void>
}

export function createPackWriter(vault: Vault): PackWriter {
  let unindexed: IndexedPack[] = []
  let inFlight = 0

  async function writeIndex(): Promise<void> {
    const packs = unindexed
    if (packs.length === 0) return
    unindexed = []
    const name = await writeDocument(vault, 'index', encodeIndex(packs))
    vault.index.adopt(name, packs)
  }

  return {
    get inFlight() {
      return inFlight
    },
    writeIndex,
    async write(blobs) {
      inFlight += 1
      try {
        const { id, entries, bytes } = await buildPack(blobs, vault.keys, vault.entropy)
        await vault.store.put({ kind: 'pack', name: id }, bytes)
        unindexed.push({ id, entries })
      } finally {
        inFlight -= 1
      }
      if (unindexed.reduce((sum, pack) => sum + pack.entries.length, 0) >= indexBlobsMax) await writeIndex()
    },
    async removeUnindexed() {
      const packs = unindexed
      unindexed = []
      for (const pack of packs) await vault.store.delete({ kind: 'pack', name: pack.id })
    },
  }
}
