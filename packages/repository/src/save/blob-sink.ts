/**
 * Owns the way of new blobs into packs and indexes: deduplication, assignment to open packs, writing, order.
 * Does not own chunking, trees or locks.
 *
 * Invariants: 1. an index file is written only after all packs in it are durable. 2. A blob that failed to be stored
 * poisons the sink: nothing that refers to it can be finished. 3. Data and tree blobs lie in separate packs.
 * 4. To which of the open packs a blob goes is decided by secure randomness, so that the sizes of chunks in a row cannot
 * be read off a pack (Alexeev, Percival, Zhang: "Chunking Attacks on File Backup Services", IACR ePrint 2025/532).
 */
import { assert, Failure } from '@stillpoint/core/kernel'
import type { BlobType } from '../format/ids.ts'
import { encodeIndex, type IndexedPack, indexBlobsMax } from '../format/index-file.ts'
import { type Vault, writeDocument } from '../vault.ts'
import { type SealedBlob, sealBlob } from './blob-coder.ts'
import { buildPack } from './pack-builder.ts'

/** restic's default target. */
const packBytesTarget = 16 << 20
/** Keeps a pack of tiny blobs well below the largest header. */
const packBlobsMax = 20_000
const openPacks: Readonly<Record<BlobType, number>> = { data: 3, tree: 2 }
/** Packs in the making at one time; more writers wait. */
const packsInFlightMax = 2
const blobsInFlightMax = 8

interface OpenPack {
  blobs: SealedBlob[]
  bytes: number
}

export interface BlobSink {
  /** True where the blob was not stored before. Resolves when it is accepted, not when it is durable. */
  put(blob: { readonly id: string; readonly type: BlobType; readonly plaintext: Uint8Array }): Promise<boolean>
  /** Whether the blob is stored or about to be. */
  has(id: string, type: BlobType): boolean
  /** Everything durable and indexed. The sink is closed. */
  finish(): Promise<void>
  /** Drops what is not indexed and removes packs that nothing refers to. The sink is closed. */
  discard(): Promise<void>
}

export function createBlobSink(vault: Vault): BlobSink {
  const claimed: Record<BlobType, Set<string>> = { data: new Set(), tree: new Set() }
  const open: Record<BlobType, OpenPack[]> = { data: emptyPacks('data'), tree: emptyPacks('tree') }
  const working = new Set<Promise<void>>()
  let unindexed: IndexedPack[] = []
  let unindexedBlobs = 0
  let packsInFlight = 0
  let blobsInFlight = 0
  let waiting: (() => void)[] = []
  let state: 'open' | 'closed' = 'open'
  let poison: { readonly error: unknown } | undefined

  const has = (id: string, type: BlobType) => claimed[type].has(id) || vault.index.blobs.has(id, type)

  function throwIfUnusable(): void {
    if (poison !== undefined) throw poison.error
    if (state === 'closed') {
      throw new Failure({ code: 'save_closed', message: 'this save is finished or discarded; start another one' })
    }
  }

  function settle(): void {
    const woken = waiting
    waiting = []
    for (const wake of woken) wake()
  }

  async function roomForBlob(): Promise<void> {
    while (blobsInFlight >= blobsInFlightMax || packsInFlight >= packsInFlightMax) {
      await new Promise<void>((resolve) => waiting.push(resolve))
      throwIfUnusable()
    }
    blobsInFlight += 1
  }

  /** Remembers work so that finish can wait for it; a failure of it poisons the sink. */
  function track(work: Promise<void>): Promise<void> {
    const tracked = work
      .catch((error: unknown) => {
        poison ??= { error }
      })
      .finally(() => {
        working.delete(tracked)
        settle()
      })
    working.add(tracked)
    return tracked
  }

  function assign(blob: SealedBlob): void {
    const packs = open[blob.type]
    const pack = packs[chooseBelow(packs.length)]
    assert(pack !== undefined, 'the choice is one of the open packs')
    pack.blobs.push(blob)
    pack.bytes += blob.sealed.length
    if (pack.bytes < packBytesTarget && pack.blobs.length < packBlobsMax) return
    const full = pack.blobs
    pack.blobs = []
    pack.bytes = 0
    track(store(full))
  }

  function chooseBelow(count: number): number {
    const bytes = Buffer.alloc(4)
    vault.entropy.fill(bytes)
    return bytes.readUInt32LE() % count
  }

  async function store(blobs: readonly SealedBlob[]): Promise<void> {
    packsInFlight += 1
    try {
      const { id, entries, bytes } = await buildPack(blobs, vault.keys, vault.entropy)
      await vault.store.put({ kind: 'pack', name: id }, bytes)
      unindexed.push({ id, entries })
      unindexedBlobs += entries.length
    } finally {
      packsInFlight -= 1
    }
    if (unindexedBlobs >= indexBlobsMax) await writeIndex()
  }

  async function writeIndex(): Promise<void> {
    const packs = unindexed
    if (packs.length === 0) return
    unindexed = []
    unindexedBlobs = 0
    const name = await writeDocument(vault, 'index', encodeIndex(packs))
    vault.index.adopt(name, packs)
  }

  async function put(blob: { id: string; type: BlobType; plaintext: Uint8Array }): Promise<boolean> {
    throwIfUnusable()
    if (has(blob.id, blob.type)) return false
    claimed[blob.type].add(blob.id)
    await track(
      (async () => {
        await roomForBlob()
        try {
          assign(await sealBlob(blob, vault.keys, vault.entropy))
        } finally {
          blobsInFlight -= 1
        }
      })(),
    )
    if (poison !== undefined) throw poison.error
    return true
  }

  async function idle(): Promise<void> {
    while (working.size > 0) await Promise.all(working)
  }

  /** What is left in the open packs of a type, in random order, in as few packs as possible. */
  function remainders(type: BlobType): SealedBlob[][] {
    const blobs = open[type].flatMap((pack) => pack.blobs)
    open[type] = emptyPacks(type)
    for (let last = blobs.length - 1; last > 0; last -= 1) {
      const other = chooseBelow(last + 1)
      const [left, right] = [blobs[last], blobs[other]]
      assert(left !== undefined && right !== undefined, 'both are within')
      blobs[last] = right
      blobs[other] = left
    }
    return split(blobs)
  }

  return {
    put,
    has,
    async finish() {
      throwIfUnusable()
      state = 'closed'
      await idle()
      for (const type of ['data', 'tree'] as const) for (const blobs of remainders(type)) await track(store(blobs))
      if (poison === undefined) await track(writeIndex())
      if (poison !== undefined) throw poison.error
    },
    async discard() {
      state = 'closed'
      poison ??= { error: new Failure({ code: 'save_closed', message: 'this save was discarded' }) }
      settle()
      await idle()
      // No index has ever named these packs, so nobody can refer to them.
      for (const pack of unindexed) await vault.store.delete({ kind: 'pack', name: pack.id })
      unindexed = []
    },
  }
}

function emptyPacks(type: BlobType): OpenPack[] {
  return Array.from({ length: openPacks[type] }, () => ({ blobs: [], bytes: 0 }))
}

function split(blobs: readonly SealedBlob[]): SealedBlob[][] {
  const packs: SealedBlob[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const blob of blobs) {
    if (bytes >= packBytesTarget || (packs.at(-1)?.length ?? 0) >= packBlobsMax) {
      packs.push([])
      bytes = 0
    }
    packs.at(-1)?.push(blob)
    bytes += blob.sealed.length
  }
  return packs
}
