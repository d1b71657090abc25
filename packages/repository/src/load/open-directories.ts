/**
 * Owns the directories of the target that are open at a time: a bounded number, whatever the tree. A directory is reached
 * from the one that it is in, never by a path of several names that somebody may change.
 */
import { fstatSync } from 'node:fs'
import { assert, Failure } from '@stillpoint/core/kernel'
import type { HeldDirectory } from '../anchored-directory.ts'
import { errnoOf } from '../blob/storage-failure.ts'

export interface OpenDirectories {
  /** Takes over a directory that was just opened. */
  adopt(directory: number, opened: HeldDirectory): void
  /** Opens the directories unless they are open; they stay so until they are released. */
  hold(directories: Iterable<number>): Hold
  /** Holds one directory during the action. */
  within<T>(directory: number, action: (opened: HeldDirectory) => T): T
  close(): void
}

export interface Hold {
  at(directory: number): HeldDirectory
  /** Once. */
  release(): void
}

interface Cached {
  readonly opened: HeldDirectory
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
const openMax = 512

/** @param placeOf undefined for the root, which is never closed here */
export function createOpenDirectories(
  root: HeldDirectory | undefined,
  placeOf: (directory: number) => DirectoryPlace | undefined,
): OpenDirectories {
  // In the order of use: the first was used longest ago.
  const cache = new Map<number, Cached>()

  function take(directory: number): Cached {
    let cached = cache.get(directory)
    if (cached === undefined) cached = { opened: openAt(directory), users: 0 }
    else cache.delete(directory)
    cache.set(directory, cached)
    cached.users += 1
    return cached
  }

  function openAt(directory: number): HeldDirectory {
    const place = placeOf(directory)
    if (place === undefined) {
      assert(root !== undefined && directory === 0, 'what is opened was made')
      return root
    }
    const parent = take(place.parent)
    try {
      const opened = openIn(parent.opened, place.name)
      if (isAt(opened, place)) return opened
      opened.close()
      throw new Failure({
        code: 'target_conflict',
        message: `the directory ${JSON.stringify(place.name)} of the target was replaced by another one`,
        hint: 'Restore where nobody else changes directories at the same time.',
      })
    } finally {
      parent.users -= 1
    }
  }

  /** The process may be allowed fewer open files than we would keep. */
  function openIn(parent: HeldDirectory, name: string): HeldDirectory {
    try {
      return parent.open(name)
    } catch (error) {
      if (errnoOf(error) !== 'EMFILE') throw error
      closeUnused(0)
      return parent.open(name)
    }
  }

  function closeUnused(left: number): void {
    for (const [directory, { opened, users }] of cache) {
      if (cache.size <= left) return
      if (users > 0) continue
      cache.delete(directory)
      if (opened !== root) opened.close()
    }
  }

  function release(held: readonly Cached[]): void {
    for (const cached of held) cached.users -= 1
    closeUnused(openMax)
  }

  return {
    adopt(directory, opened) {
      assert(!cache.has(directory), 'a directory is opened once')
      cache.set(directory, { opened, users: 0 })
      closeUnused(openMax)
    },
    hold(directories) {
      const held = new Map<number, Cached>()
      const releaseAll = () => release([...held.values()])
      try {
        for (const directory of directories) if (!held.has(directory)) held.set(directory, take(directory))
      } catch (error) {
        releaseAll()
        throw error
      }
      return {
        at(directory) {
          const cached = held.get(directory)
          assert(cached !== undefined, 'it is held')
          return cached.opened
        },
        release: releaseAll,
      }
    },
    within(directory, action) {
      const cached = take(directory)
      try {
        return action(cached.opened)
      } finally {
        release([cached])
      }
    },
    close() {
      for (const { opened } of cache.values()) if (opened !== root) opened.close()
      cache.clear()
    },
  }
}

function isAt({ fd }: HeldDirectory, { inode, device }: DirectoryPlace): boolean {
  const { ino, dev } = fstatSync(fd, { bigint: true })
  return ino === inode && dev === device
}
