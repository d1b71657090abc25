/**
 * Owns taking in new blobs: deduplication, how much is under way, and what a failure does to the save.
 * Does not own chunking, trees or locks; nor which pack a blob goes to, nor what threads do with it.
 *
 * What is little stays loose until the end, in memory of its own; from 4 MiB on, blobs are sealed into packs in shared
 * memory. Who puts more than can be sealed and stored waits.
 *
 * Invariants: 1. a blob that failed to be stored poisons the sink: nothing that refers to it can be finished. 2. When the
 * end comes, what is left of all packs is shuffled: see filling-packs.ts.
 */
import { Failure } from '@stillpoint/core/kernel'
import { copyBytes } from '../format/copy-bytes.ts'
import { ivBytes, sealOverheadBytes } from '../format/crypto.ts'
import type { BlobType } from '../format/ids.ts'
import { encodePackHeader, type PackEntry } from '../format/pack.ts'
import type { Vault } from '../vault.ts'
import { createSlabs } from '../work/slabs.ts'
import type { SealedBlob } from './blob-coder.ts'
import { createFillingPacks, type FillingPack } from './filling-packs.ts'
import { finishedPack, gatheredPack } from './gathered-pack.ts'
import { shuffled, split } from './open-packs.ts'
import { filledPart, newRegion } from './pack-region.ts'
import { createPackWriter } from './pack-writer.ts'
import { placeFields, sealedFields } from './seal-blobs.ts'
import { createTrackedWork } from './tracked-work.ts'

/** Of a type; sealed. */
const looseBytesMax = 4 << 20
/** Blobs that come one by one are sealed together, so many bytes or blobs. */
const batchBytes = 1 << 20
const batchBlobs = 500
const batchesInFlightMax = 4
/** So little of a window is copied, and sealed with more: a task for each small directory takes longer than its files. */
const copiedBytesMax = 64 << 10
/** Larger blobs (only trees are) have a pack of their own. */
const assignedBytesMax = 8 << 20

export interface NewBlob {
  readonly id: string
  readonly type: BlobType
  readonly plaintext: Uint8Array
}

/** A blob of data, by where it is in a window. */
export interface WindowBlob {
  readonly id: string
  readonly offset: number
  readonly length: number
}

export interface BlobSink {
  /** True where the blob was not stored before. Resolves when it is accepted, not when it is durable. */
  put(blob: NewBlob): Promise<boolean>
  /**
   * The same for blobs of data in shared memory. Resolves when they are sealed and the memory is free again.
   * @throws the failure that has poisoned the sink
   */
  putAll(window: Uint8Array, blobs: readonly WindowBlob[]): Promise<void>
  /** Whether the blob is stored or about to be. */
  has(id: string, type: BlobType): boolean
  /** Everything durable and indexed. The sink is closed. */
  finish(): Promise<void>
  /** Drops what is not indexed and removes packs that nothing refers to. The sink is closed. */
  discard(): Promise<void>
}

const closed = () =>
  new Failure({ code: 'save_closed', message: 'this save is finished or discarded', hint: 'Start another one.' })

interface Batch {
  readonly blobs: NewBlob[]
  bytes: number
}

const newBatch = (): Batch => ({ blobs: [], bytes: 0 })

export interface BlobSinkOptions {
  /** How much may be stored that no index names, in bytes: whoever is interrupted loses that. Default: any. */
  readonly indexEveryBytes?: number
}

export function createBlobSink(vault: Vault, options: BlobSinkOptions = {}): BlobSink {
  const { indexEveryBytes = Number.POSITIVE_INFINITY } = options
  const claimed: Record<BlobType, Set<string>> = { data: new Set(), tree: new Set() }
  const batches: Record<BlobType, Batch> = { data: newBatch(), tree: newBatch() }
  const loose: Record<BlobType, { blobs: SealedBlob[]; bytes: number }> = {
    data: { blobs: [], bytes: 0 },
    tree: { blobs: [], bytes: 0 },
  }
  const { compression, packBytes, selfCheck } = vault.writes
  const packs = createFillingPacks(vault.entropy, packBytes)
  const writer = createPackWriter(
    vault,
    (indexed) => {
      const entries = isOpen ? indexed.flatMap((pack) => pack.entries) : []
      const [first] = entries
      // The index remembers them in less memory; that of a trial does not take them over.
      if (first === undefined || !vault.index.blobs.has(first.id, first.type)) return
      for (const { id, type } of entries) claimed[type].delete(id)
    },
    indexEveryBytes,
  )
  const work = createTrackedWork()
  const batchSlabs = createSlabs({ slabBytes: 2 * batchBytes, slabsMax: batchesInFlightMax })
  const flushing = new Set<Promise<void>>()
  let isOpen = true

  const has = (id: string, type: BlobType) => claimed[type].has(id) || vault.index.blobs.has(id, type)

  function requireOpen(): void {
    work.throwIfPoisoned()
    if (!isOpen) throw closed()
  }

  /** Seals blobs of a window, all into the regions given; resolves with their places. */
  async function seal(
    type: BlobType,
    window: Uint8Array,
    assigned: readonly Assigned[],
  ): Promise<readonly PackEntry[]> {
    const regions = [...new Set(assigned.map(({ region }) => region))]
    const places = new Uint32Array(assigned.length * placeFields)
    let bytes = 0
    assigned.forEach(({ blob, region }, at) => {
      places.set([blob.offset, blob.length, regions.indexOf(region)], at * placeFields)
      bytes += blob.length
    })
    const ivs = new Uint8Array(assigned.length * ivBytes)
    vault.entropy.fill(ivs)
    const input = { type, compression, selfCheck, window, places, ivs, regions }
    const sealed = await vault.work.run('sealBlobs', input, { bytes })
    return assigned.map(({ blob }, at): PackEntry => {
      const [offset = 0, length = 0, plain = 0] = sealed.subarray(at * sealedFields, (at + 1) * sealedFields)
      return { id: blob.id, type, offset, length, plainBytes: plain === 0 ? undefined : plain }
    })
  }

  async function sealLoose(type: BlobType, window: Uint8Array, blobs: readonly WindowBlob[]): Promise<void> {
    const region = newRegion(blobs.reduce((sum, blob) => sum + blob.length + sealOverheadBytes, 0))
    const entries = await seal(
      type,
      window,
      blobs.map((blob) => ({ blob, region })),
    )
    const bytes = Buffer.from(filledPart(region))
    for (const { id, offset, length, plainBytes } of entries) {
      loose[type].blobs.push({ id, type, sealed: bytes.subarray(offset, offset + length), plainBytes })
    }
  }

  async function sealIntoPacks(type: BlobType, window: Uint8Array, assigned: readonly AssignedToPack[]): Promise<void> {
    const entries = await seal(type, window, assigned)
    entries.forEach((entry, at) => {
      const { pack, blob } = assigned[at] ?? unassigned()
      const full = packs.sealed(pack, entry, blob.length)
      if (full !== undefined) void work.track(store(full))
    })
  }

  async function store(pack: FillingPack): Promise<void> {
    try {
      await writer.write(await finishedPack(vault, pack.region, pack.entries))
    } finally {
      pack.release()
    }
  }

  /** A blob that is larger than packs are. */
  async function storeAlone(type: BlobType, window: Uint8Array, blob: WindowBlob): Promise<void> {
    const header = encodePackHeader([{ id: blob.id, type, offset: 0, length: blob.length, plainBytes: blob.length }])
    const region = newRegion(blob.length + sealOverheadBytes + 2 * sealOverheadBytes + header.length)
    const entries = await seal(type, window, [{ blob, region }])
    await writer.write(await finishedPack(vault, region, entries))
  }

  async function takeIn(type: BlobType, window: Uint8Array, blobs: readonly WindowBlob[]): Promise<void> {
    const bytes = blobs.reduce((sum, blob) => sum + blob.length + sealOverheadBytes, 0)
    if (loose[type].bytes + bytes <= looseBytesMax) {
      loose[type].bytes += bytes
      return sealLoose(type, window, blobs)
    }
    const sealing: Promise<void>[] = []
    let assigned: AssignedToPack[] = []
    const dispatch = () => {
      if (assigned.length > 0) sealing.push(work.track(sealIntoPacks(type, window, assigned)))
      assigned = []
    }
    for (const blob of blobs) {
      if (blob.length > assignedBytesMax) {
        sealing.push(work.track(storeAlone(type, window, blob)))
        continue
      }
      let pack = packs.tryAssign(type, blob.length)
      while (pack === undefined) {
        dispatch() // the memory that is waited for may depend on these
        await packs.openAnother(type, work.signal)
        pack = packs.tryAssign(type, blob.length)
      }
      assigned.push({ blob, pack, region: pack.region })
    }
    dispatch()
    await Promise.all(sealing)
  }

  async function flush(type: BlobType): Promise<void> {
    const { blobs, bytes } = batches[type]
    batches[type] = newBatch()
    if (blobs.length === 0) return
    const slab = bytes >= batchBytes && bytes <= batchSlabs.slabBytes ? await batchSlabs.take(work.signal) : undefined
    const window = slab?.bytes ?? Buffer.from(new SharedArrayBuffer(bytes))
    let filled = 0
    const placed = blobs.map(({ id, plaintext }): WindowBlob => {
      copyBytes(plaintext, window, filled)
      filled += plaintext.length
      return { id, offset: filled - plaintext.length, length: plaintext.length }
    })
    const flushed: Promise<void> = work.track(takeIn(type, window, placed)).finally(() => {
      flushing.delete(flushed)
      slab?.release()
    })
    flushing.add(flushed)
    while (flushing.size >= batchesInFlightMax) await Promise.race(flushing)
  }

  /** With those that came before and come after. Invariant 1: also where there is no memory for a batch. */
  async function join(blob: NewBlob): Promise<void> {
    const batch = batches[blob.type]
    batch.blobs.push(blob)
    batch.bytes += blob.plaintext.length
    if (batch.bytes >= batchBytes || batch.blobs.length >= batchBlobs) await work.track(flush(blob.type))
  }

  async function storeRest(type: BlobType): Promise<void> {
    const rest = packs.takeRest(type)
    const blobs = rest.flatMap(({ region, entries }) => {
      const bytes = filledPart(region)
      return entries.map(({ id, offset, length, plainBytes }): SealedBlob => {
        return { id, type, sealed: bytes.subarray(offset, offset + length), plainBytes }
      })
    })
    for (const group of split(shuffled(vault.entropy, [...loose[type].blobs, ...blobs]), packBytes)) {
      const { pack, release } = await gatheredPack(vault, group, () => packs.takeMemory(type, work.signal))
      try {
        await writer.write(pack)
      } finally {
        release()
      }
    }
    for (const pack of rest) pack.release()
  }

  return {
    has,
    async put(blob) {
      requireOpen()
      if (has(blob.id, blob.type)) return false
      claimed[blob.type].add(blob.id)
      await join(blob)
      work.throwIfPoisoned()
      return true
    },
    async putAll(window, blobs) {
      requireOpen()
      const fresh = blobs.filter(({ id }) => {
        if (has(id, 'data')) return false
        claimed.data.add(id)
        return true
      })
      const bytes = fresh.reduce((sum, { length }) => sum + length, 0)
      if (bytes > copiedBytesMax) await work.track(takeIn('data', window, fresh))
      else for (const blob of fresh) await join(copied(window, blob))
      work.throwIfPoisoned()
    },
    async finish() {
      work.throwIfPoisoned()
      isOpen = false
      for (const type of ['data', 'tree'] as const) await flush(type)
      await work.idle()
      work.throwIfPoisoned()
      for (const type of ['data', 'tree'] as const) await work.track(storeRest(type))
      work.throwIfPoisoned()
      await work.track(writer.writeIndex())
      work.throwIfPoisoned()
    },
    async discard() {
      isOpen = false
      work.poison(closed())
      await work.idle()
      await writer.removeUnindexed()
    },
  }
}

function copied(window: Uint8Array, { id, offset, length }: WindowBlob): NewBlob {
  const plaintext = Buffer.allocUnsafe(length)
  copyBytes(window.subarray(offset, offset + length), plaintext, 0)
  return { id, type: 'data', plaintext }
}

interface Assigned {
  readonly blob: WindowBlob
  readonly region: Uint8Array
}

interface AssignedToPack extends Assigned {
  readonly pack: FillingPack
}

function unassigned(): never {
  throw new Error('each sealed blob was assigned')
}
