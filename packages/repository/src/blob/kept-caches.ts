/**
 * Owns looking at a directory of caches: which there are, ours and restic's, when they were last opened, how large they are,
 * and removing one. Does not own what is in them (caching-directory.ts).
 */
import { lstat, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { isId } from '../format/ids.ts'
import { errnoOf, storageFailure } from './storage-failure.ts'

export interface KeptCache {
  /** Of the repository. */
  readonly id: string
  readonly path: string
  /** When a program last opened it. */
  readonly openedMs: number
}

/** Those opened longest ago first; none where the directory is not there. @throws Failure `storage_denied`, `storage_failed` */
export async function listCaches(directory: string): Promise<readonly KeptCache[]> {
  try {
    const caches: KeptCache[] = []
    for (const entry of await readdir(directory, { withFileTypes: true })) {
      if (!entry.isDirectory() || !isId(entry.name)) continue
      const path = join(directory, entry.name)
      caches.push({ id: entry.name, path, openedMs: (await lstat(path)).mtimeMs })
    }
    return caches.sort((left, right) => left.openedMs - right.openedMs)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw storageFailure(error, 'listing the caches in', directory)
  }
}

/** Of its files, as long as they are. What goes meanwhile is not counted. @throws Failure `storage_denied`, `storage_failed` */
export async function cacheBytes({ path }: KeptCache): Promise<number> {
  try {
    let bytes = 0
    for (const entry of await readdir(path, { withFileTypes: true, recursive: true })) {
      if (!entry.isFile()) continue
      bytes += await lstat(join(entry.parentPath, entry.name)).then(({ size }) => size, zeroIfGone)
    }
    return bytes
  } catch (error) {
    throw storageFailure(error, 'measuring the cache', path)
  }
}

function zeroIfGone(error: unknown): number {
  if (errnoOf(error) === 'ENOENT') return 0
  throw error
}

/** @throws Failure `storage_denied`, `storage_failed` */
export async function removeCache({ path }: KeptCache): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true })
  } catch (error) {
    throw storageFailure(error, 'removing the cache', path)
  }
}
