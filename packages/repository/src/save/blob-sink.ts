/**
 * Owns taking in new blobs: deduplication, how much is under way, and what a failure does to the save.
 * Does not own chunking, trees or locks; nor which pack a blob goes to, nor writing it.
 *
 * Invariant: a blob that failed to be stored poisons the sink: nothing that refers to it can be finished.
 */
import { Failure } from '@stillpoint/core/kernel'
import type { BlobType } from '../format/ids.ts'
import type { Vault } from '../vault.ts'
import { sealBlob } from './blob-coder.ts'
import { createOpenPacks } from './open-packs.ts'
import { createPackWriter } from './pack-writer.ts'

/** Packs in the making at one time; more blobs wait. */
const packsInFlightMax = 2
const blobsInFlightMax = 8

export interface NewBlob {
  readonly id: string
  readonly type: BlobType
  readonly plaintext: Uint8Array
}

export interface BlobSink {
  /** True where the blob was not stored before. Resolves when it is accepted, not when it is durable. */
  put(blob: NewBlob): Promise<boolean>
  /** Whether the blob is stored or about to be. */
  has(id: string, type: BlobType): boolean
  /** Everything durable and indexed. The sink is closed. */
  finish(): Promise<void>
  /** Drops what is not indexed and removes packs that nothing refers to. The sink is closed. */
  discard(): Promise<void>
}

const closed = () =>
  new Failure({ code: 'save_closed', message: 'this save is finished or discarded', hint: 'Start another one.' })

export function createBlobSink(vault: Vault): BlobSink {
  const claimed: Record<BlobType, Set<string>> = { data: new Set(), tree: new Set() }
  const open = createOpenPacks(vault.entropy)
  const writer = createPackWriter(vault)
  const work = createTrackedWork()
  let blobsInFlight = 0
  let isOpen = true

  const has = (id: string, type: BlobType) => claimed[type].has(id) || vault.index.blobs.has(id, type)
  const isFull = () => blobsInFlight >= blobsInFlightMax || writer.inFlight >= packsInFlightMax

  async function take(blob: NewBlob): Promise<void> {
    while (isFull()) {
      await work.change()
      work.throwIfPoisoned()
    }
    if (!isOpen) throw closed()
    blobsInFlight += 1
    try {
      const full = open.add(await sealBlob(blob, vault.keys, vault.entropy))
      if (full !== undefined) void work.track(writer.write(full))
    } finally {
      blobsInFlight -= 1
    }
  }

  return {
    has,
    async put(blob) {
      work.throwIfPoisoned()
      if (!isOpen) throw closed()
      if (has(blob.id, blob.type)) return false
      claimed[blob.type].add(blob.id)
      await work.track(take(blob))
      work.throwIfPoisoned()
      return true
    },
    async finish() {
      work.throwIfPoisoned()
      isOpen = false
      await work.idle()
      for (const type of ['data', 'tree'] as const) {
        for (const blobs of open.takeRest(type)) await work.track(writer.write(blobs))
      }
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

interface TrackedWork {
  /** Resolves when the work has ended, however it did; a failure of it poisons all. */
  track(work: Promise<void>): Promise<void>
  poison(error: unknown): void
  throwIfPoisoned(): void
  /** Resolves when any work has ended, or all is poisoned. */
  change(): Promise<void>
  /** Resolves when no work is under way. */
  idle(): Promise<void>
}

function createTrackedWork(): TrackedWork {
  const working = new Set<Promise<void>>()
  let waiting: (() => void)[] = []
  let poisoned: { readonly error: unknown } | undefined

  function wake(): void {
    const woken = waiting
    waiting = []
    for (const resolve of woken) resolve()
  }

  function poison(error: unknown): void {
    poisoned ??= { error }
    wake()
  }

  return {
    poison,
    track(work) {
      const tracked = work.catch(poison).finally(() => {
        working.delete(tracked)
        wake()
      })
      working.add(tracked)
      return tracked
    },
    throwIfPoisoned() {
      if (poisoned !== undefined) throw poisoned.error
    },
    change: () => new Promise((resolve) => waiting.push(resolve)),
    async idle() {
      while (working.size > 0) await Promise.all(working)
    },
  }
}
