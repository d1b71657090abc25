/**
 * Owns the directories of the target that are open at a time: a bounded number, whatever the tree. A directory is reached
 * from the one that it is in, never by a path of several names that somebody may change.
 */
import { assert, Failure } from '@stillpoint/core/kernel'
import type { AnchoredDirectory } from '../anchored-directory.ts'

export interface OpenDirectories {
  /** Takes over a directory that was just opened, in the cache only: use it with `with`. */
  adopt(directory: number, opened: AnchoredDirectory): void
  /** Opens the directories unless they are open, and keeps them so during the action. */
  use<T>(
    directories: Iterable<number>,
    action: (opened: ReadonlyMap<number, AnchoredDirectory>) => Promise<T>,
  ): Promise<T>
  close(): Promise<void>
}

interface Cached {
  readonly opened: Promise<AnchoredDirectory>
  users: number
}

export interface DirectoryPlace {
  /** Number of the directory that it is in. */
  readonly parent: number
  readonly name: string
  /** What it was when it was made or found. */
  readonly inode: bigint
  readonly device: bigint
}

/** Beyond it, those that nobody uses are closed. */
const openMax = 192

/** @param placeOf undefined for the root, which is never closed here */
export function createOpenDirectories(
  root: AnchoredDirectory | undefined,
  placeOf: (directory: number) => DirectoryPlace | undefined,
): OpenDirectories {
  // In the order of use: the first was used longest ago.
  const cache = new Map<number, Cached>()

  function hold(directory: number): Cached {
    const known = cache.get(directory)
    if (known !== undefined) {
      cache.delete(directory)
      cache.set(directory, known)
      known.users += 1
      return known
    }
    const cached = { opened: openAt(directory), users: 1 }
    cached.opened.catch(() => cache.delete(directory)) // whoever waits for it is told
    cache.set(directory, cached)
    return cached
  }

  async function openAt(directory: number): Promise<AnchoredDirectory> {
    const place = placeOf(directory)
    if (place === undefined) {
      assert(root !== undefined && directory === 0, 'what is opened was made')
      return root
    }
    const parent = hold(place.parent)
    try {
      const opened = await (await parent.opened).open(place.name)
      const { ino, dev } = await opened.handle.stat({ bigint: true })
      if (ino === place.inode && dev === place.device) return opened
      await opened.close()
      throw new Failure({
        code: 'target_conflict',
        message: `the directory ${JSON.stringify(place.name)} of the target was replaced by another one`,
        hint: 'Restore where nobody else changes directories at the same time.',
      })
    } finally {
      parent.users -= 1
    }
  }

  async function trim(): Promise<void> {
    if (cache.size <= openMax) return
    for (const [directory, cached] of cache) {
      if (cached.users > 0) continue
      cache.delete(directory)
      const opened = await cached.opened
      if (opened !== root) await opened.close()
      if (cache.size <= openMax) return
    }
  }

  return {
    adopt(directory, opened) {
      assert(!cache.has(directory), 'a directory is opened once')
      cache.set(directory, { opened: Promise.resolve(opened), users: 0 })
    },
    async use(directories, action) {
      const held: Cached[] = []
      try {
        const opened = new Map<number, AnchoredDirectory>()
        for (const directory of directories) {
          const cached = hold(directory)
          held.push(cached)
          opened.set(directory, await cached.opened)
        }
        return await action(opened)
      } finally {
        for (const cached of held) cached.users -= 1
        await trim()
      }
    },
    async close() {
      for (const [directory, { opened }] of cache) {
        cache.delete(directory)
        const one = await opened
        if (one !== root) await one.close()
      }
    },
  }
}
