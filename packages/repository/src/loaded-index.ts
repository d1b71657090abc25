/**
 * Owns the union of all index files in memory, and keeping it up to date.
 *
 * Invariants: 1. index files never change: those that are loaded need not be read again. 2. When one that was loaded is
 * gone (a prune elsewhere), everything is read anew: its packs may be gone too.
 */
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

export function createLoadedIndex(access: ObjectAccess): LoadedIndex {
  let blobs = createBlobIndex()
  let files = new Set<string>()
  let running: Promise<void> = Promise.resolve()
  let queued: Promise<void> | undefined

  async function reload(): Promise<void> {
    const names = (await access.store.list('index')).map((object) => object.name)
    const present = new Set(names)
    const gone = [...files].some((name) => !present.has(name))
    const target = gone ? createBlobIndex() : blobs
    for (const name of names) {
      if (!gone && files.has(name)) continue
      for (const pack of await readDocument(access, { kind: 'index', name }, decodeIndex)) target.add(pack)
      if (!gone) files.add(name)
    }
    if (!gone) return
    blobs = target
    files = present
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
