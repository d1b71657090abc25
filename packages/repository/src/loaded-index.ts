/**
 * Owns the union of all index files in memory, and keeping it up to date.
 *
 * Index files are read one after another, a few on their way at a time: their sum need not fit into memory.
 *
 * Invariants: 1. index files never change: those that are loaded need not be read again. 2. When one that was loaded is
 * gone (a prune elsewhere), packs that no present file names are forgotten, after the new files were read: nothing that
 * is there is unknown in between. 3. Where two files said different things about a pack and one is gone, or half of
 * what is known is forgotten, everything is read anew. 4. What this process adopts while a refresh is under way stays.
 */
import { isFailure } from '@stillpoint/core/kernel'
import { listAll, type StoredObject } from './blob/blob-store.ts'
import { type BlobIndex, createBlobIndex } from './blob-index.ts'
import { giveBack } from './format/give-back.ts'
import { columnsOf, type IndexedPack, readIndexColumns } from './format/index-file.ts'
import type { IndexColumns } from './format/index-scan.ts'
import { createBitSet } from './index-memory/bit-set.ts'
import { eachOf } from './parallel.ts'
import { type ObjectAccess, readDocumentBytes } from './vault.ts'

export interface LoadedIndex {
  readonly blobs: BlobIndex
  /** Index files that `blobs` is made of, each with the numbers of its packs in the order of the file. */
  readonly files: ReadonlyMap<string, Uint32Array>
  /** Damaged ones that were passed over; among `files`, without packs. */
  readonly passedOver: ReadonlySet<string>
  /** Reads what has changed in the store. Callers at the same time share one reading that began after their call. */
  refresh(): Promise<void>
  /** Takes over an index file that this process has just stored, when it is next asked: after the last one, nobody asks. */
  adopt(name: string, packs: readonly IndexedPack[]): void
}

const attemptsMax = 5
const readsInFlightMax = 2
/** An id does not compress below its 32 bytes: a file that says more is no measure for the others. */
const blobsPerByteMax = 1 / 32

export interface LoadedIndexOptions {
  /** For repairs: damaged index files are passed over, as if they were not there. Default: they are a failure. */
  readonly skipDamaged?: boolean
}

/** An index and the files that it is made of. */
interface Loaded {
  readonly blobs: BlobIndex
  readonly files: Map<string, Uint32Array>
}

export function createLoadedIndex(access: ObjectAccess, options: LoadedIndexOptions = {}): LoadedIndex {
  const empty = (): Loaded => ({ blobs: createBlobIndex(access.entropy), files: new Map() })
  let loaded = empty()
  const passedOver = new Set<string>()
  /** What is being read to replace `loaded`. */
  let rebuilding: Loaded | undefined
  /** Given to `adopt`, and not yet in `loaded`. */
  let adopted: { readonly name: string; readonly packs: readonly IndexedPack[] }[] = []
  let running: Promise<void> = Promise.resolve()
  let queued: Promise<void> | undefined

  function takeOver(): void {
    if (adopted.length === 0) return
    const waiting = adopted
    adopted = []
    for (const { name, packs } of waiting) {
      const columns = columnsOf(packs)
      for (const target of rebuilding === undefined ? [loaded] : [loaded, rebuilding]) {
        if (!target.files.has(name)) target.files.set(name, target.blobs.addColumns(columns))
      }
    }
  }

  async function reload(): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        takeOver()
        // Taken before the listing: what is adopted later need not be in it (invariant 4).
        const before = [...loaded.files.keys()]
        return await follow(before, await listAll(access.store, 'index'))
      } catch (error) {
        // A prune elsewhere may replace files between listing and reading, when we hold no lock.
        if (!isFailure(error, 'object_missing') || attempt === attemptsMax) throw error
      }
    }
  }

  async function follow(before: readonly string[], listed: readonly StoredObject[]): Promise<void> {
    await readInto(loaded, listed)
    const present = new Set(listed.map(({ name }) => name))
    const gone = before.filter((name) => !present.has(name))
    if (gone.length === 0) return
    if (!loaded.blobs.isContradictory) {
      for (const name of gone) loaded.files.delete(name)
      forgetUnnamed(loaded)
    }
    const { isContradictory, removedRows, size } = loaded.blobs
    if (isContradictory || removedRows * 2 > size) await rebuild()
  }

  async function rebuild(): Promise<void> {
    // Before the listing: what was adopted until now is in it, and what is adopted from now on goes into both.
    takeOver()
    rebuilding = empty()
    try {
      await readInto(rebuilding, await listAll(access.store, 'index'))
      takeOver()
      loaded = rebuilding
    } finally {
      rebuilding = undefined
    }
  }

  async function readInto(target: Loaded, listed: readonly StoredObject[]): Promise<void> {
    // The largest first: from it the number of all blobs is estimated.
    const fresh = listed.filter(({ name }) => !target.files.has(name)).sort((one, other) => other.bytes - one.bytes)
    const freshBytes = fresh.reduce((sum, { bytes }) => sum + bytes, 0)
    let isEstimated = false
    await eachOf(fresh, readsInFlightMax, async ({ name, bytes }) => {
      const columns = await readColumns(name)
      takeOver()
      if (target.files.has(name)) return // adopted meanwhile
      if (!isEstimated && bytes > 0) {
        const estimate = Math.min(columns.blobs / bytes, blobsPerByteMax) * freshBytes
        target.blobs.expect(target.blobs.size + estimate)
      }
      isEstimated = true
      target.files.set(name, target.blobs.addColumns(columns))
      giveBack(columns.bytes)
    })
  }

  async function readColumns(name: string): Promise<IndexColumns> {
    try {
      return await readDocumentBytes(access, { kind: 'index', name }, readIndexColumns)
    } catch (error) {
      if (options.skipDamaged !== true || !isFailure(error, 'object_damaged')) throw error
      passedOver.add(name)
      return columnsOf([])
    }
  }

  return {
    get blobs() {
      takeOver()
      return loaded.blobs
    },
    get files() {
      takeOver()
      return loaded.files
    },
    passedOver,
    refresh() {
      queued ??= running
        .catch(() => undefined) // its own callers have been told
        .then(() => {
          queued = undefined
          running = reload()
          return running
        })
      return queued
    },
    adopt: (name, packs) => void adopted.push({ name, packs }),
  }
}

function forgetUnnamed({ blobs, files }: Loaded): void {
  const named = createBitSet(blobs.packNumberEnd)
  for (const numbers of files.values()) for (const number of numbers) named.add(number)
  blobs.removePacks(named.has)
}
