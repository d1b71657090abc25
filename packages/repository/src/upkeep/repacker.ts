/**
 * Owns writing blobs that are stored already into new packs: for prune, for repair. What was sealed stays as it is.
 *
 * Invariants: 1. no blob goes into a new pack that was not verified before, and no pack is stored that was not read back.
 * 2. An index names a new pack only after it is durable. 3. Indexes are written every now and then: what an interrupted
 * run has done is found by the next one.
 */

import { confirmPack } from '../confirm-stored.ts'
import type { BlobType, PackId } from '../format/ids.ts'
import { type SealedBlob, sealBlob } from '../save/blob-coder.ts'
import { createOpenPacks } from '../save/open-packs.ts'
import { buildPack } from '../save/pack-builder.ts'
import type { Vault } from '../vault.ts'
import { createIndexWriter, deleteIfThere } from './index-files.ts'
import type { OpenedBlob } from './pack-stream.ts'

/** New packs of this size in sum are named in an index, so that an interrupted run need not repeat them. */
const indexEveryBytes = 512 << 20

export interface Repacker {
  add(blob: OpenedBlob): Promise<void>
  /** Everything added is durable, in an index, and was found there again when it resolves. */
  finish(): Promise<void>
  /** After a failure: deletes what it has stored and no index names. Returns how many bytes that were. */
  discard(): Promise<number>
}

/** @param compressAll blobs that are not compressed are tried again */
export function createRepacker(vault: Vault, compressAll = false): Repacker {
  const open = createOpenPacks(vault.entropy, vault.writes.packBytes)
  const index = createIndexWriter(vault)
  const { keys, entropy } = vault
  let unindexed: { readonly id: PackId; readonly bytes: number }[] = []
  const bytesOf = (packs: typeof unindexed) => packs.reduce((sum, { bytes }) => sum + bytes, 0)

  async function store(blobs: readonly SealedBlob[]): Promise<void> {
    const pack = await buildPack(blobs, { keys, entropy, selfCheck: vault.writes.selfCheck })
    await vault.store.put({ kind: 'pack', name: pack.id }, pack.bytes)
    unindexed.push({ id: pack.id, bytes: pack.bytes.length })
    await confirmPack(vault, { id: pack.id, bytes: pack.bytes.length })
    await index.add({ id: pack.id, entries: pack.entries })
    if (bytesOf(unindexed) >= indexEveryBytes) await flush()
  }

  async function flush(): Promise<void> {
    await index.flush()
    unindexed = []
  }

  return {
    async add({ entry, sealed, plaintext }) {
      const { id, type, plainBytes } = entry
      const isKept = sealed !== undefined && (plainBytes !== undefined || !compressAll)
      // Copied, lest one small blob keeps the range of which it is a part in memory.
      const blob = isKept
        ? { id, type, plainBytes, sealed: Uint8Array.from(sealed) }
        : await sealBlob({ id, type, plaintext }, { keys, entropy, compression: vault.writes.compression })
      const full = open.add(blob)
      if (full !== undefined) await store(full)
    },
    async finish() {
      const types: readonly BlobType[] = ['data', 'tree']
      for (const type of types) for (const blobs of open.takeRest(type)) await store(blobs)
      await flush()
    },
    async discard() {
      // What an index names, though writing it was told to have failed, has to stay.
      await vault.index.refresh()
      const free = unindexed.filter(({ id }) => vault.index.blobs.packNumber(id) < 0)
      for (const { id } of free) await deleteIfThere(vault, 'pack', id)
      return bytesOf(free)
    },
  }
}
