/**
 * Owns the union of all index files in memory, and keeping it up to date.
 *
 * Invariants: 1. index files never change: those that are loaded need not be read again. 2. When one that was loaded is
 * gone (a prune elsewhere), everything is read anew: its packs may be gone too.
 */
import { isFailure } from '@stillpoint/core/kernel'
import { type BlobIndex, createBlobIndex } from './blob-index.ts'
import { decodeIndex, type IndexedPack } from './format/index-file.ts'
import { type ObjectAccess, readDocument } from './vault.ts'

export interface LoadedIndex {
  readonly blobs: BlobIndex
  /** Reads what has changed in the store. Callers at the same time share one reading that began after their call. */
  refresh(): Promise<void>
  /** Takes over an index file that this process has just stored. */
  adopt(name: string, packs: readonly IndexedPack[]): void
}

const attemptsMax = 5

export interface LoadedIndexOptions {
  /** For repairs: damaged index files are passed over, as if they were not there. Default: they are a failure. */
  readonly skipDamaged?: boolean
}

export function createLoadedIndex(access: ObjectAccess, options: LoadedIndexOptions = {}): LoadedIndex {
  let blobs = createBlobIndex()
  let files = new Set<string>()
  let running: Promise<void> = Promise.resolve()
  let queued: Promise<void> | undefined

  async function reload(): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await loadListed((await access.store.list('index')).map((object) => object.name))
      } catch (error) {
        // A prune elsewhere may replace files between listing and reading, when we hold no lock.
        if (!isFailure(error, 'object_missing') || attempt === attemptsMax) throw error
      }
    }
  }

  async function loadListed(names: readonly string[]): Promise<void> {
    const present = new Set(names)
    const gone = [...files].some((name) => !present.has(name))
    const target = gone ? createBlobIndex() : blobs
    for (const name of names) {
      if (!gone && files.has(name)) continue
      for (const pack of await readPacks(name)) target.add(pack)
      if (!gone) files.add(name)
    }
    if (!gone) return
    blobs = target
    files = present
  }

  async function readPacks(name: string): Promise<readonly IndexedPack[]> {
    try {
      return await readDocument(access, { kind: 'index', name }, decodeIndex)
    } catch (error) {
      if (options.skipDamaged === true && isFailure(error, 'object_damaged')) return []
      throw error
    }
  }

  return {
    get blobs() {
      return blobs
    },
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
    adopt(name, packs) {
      for (const pack of packs) blobs.add(pack)
      files.add(name)
    },
  }
}
