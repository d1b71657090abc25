/**
 * Owns how deep trees are and how many entries are below them, each tree being told once, in any order, by its number.
 * 12 bytes per tree; more only for those of which something below has not been told yet.
 *
 * The same directory may lie in many places, and then counts in each, as it does for whoever restores it: a few trees, each
 * of which holds the next one twice, have more entries than anybody can count to.
 */
import { createWordSegments } from '../index-memory/segments.ts'

export interface TreeExtent {
  /** Directories on the longest way down, the tree itself not counted. */
  readonly depth: number
  /** On all ways together; where they are more than 2^53, about so many. */
  readonly entries: number
}

export interface TreeExtents {
  /** Tells a tree: how many entries it has, and which trees are in it, as often as they are. */
  tell(tree: number, entries: number, folders: readonly number[]): void
  /** Undefined until everything below has been told. */
  of(tree: number): TreeExtent | undefined
}

interface OpenTree {
  readonly tree: number
  /** Folders of which something has not been told. */
  left: number
  depth: number
  entries: number
  /** Itself, as the list of those that wait for each of its folders: one for all of them. */
  readonly alone: readonly OpenTree[]
}

const [depthWord, lowWord, highWord] = [0, 1, 2]
const entriesMax = 2 ** 63

export function createTreeExtents(): TreeExtents {
  /** Depth and one, 0 standing for "not told". */
  const known = createWordSegments(3)
  let reserved = 0
  const waiting = new Map<number, readonly OpenTree[]>()

  function reserve(tree: number): void {
    for (; reserved <= tree; reserved += 1) known.reserve(reserved)
  }

  function of(tree: number): TreeExtent | undefined {
    const depth = known.get(tree, depthWord)
    if (depth === 0) return undefined
    return { depth: depth - 1, entries: known.get(tree, highWord) * 2 ** 32 + known.get(tree, lowWord) }
  }

  function absorb(open: OpenTree, { depth, entries }: TreeExtent): void {
    open.depth = Math.max(open.depth, depth + 1)
    open.entries = Math.min(open.entries + entries, entriesMax)
  }

  /** No recursion: a chain of trees is as long as whoever made it wants. */
  function settle(first: OpenTree): void {
    const settled = [first]
    for (let open = settled.pop(); open !== undefined; open = settled.pop()) {
      reserve(open.tree)
      known.set(open.tree, depthWord, open.depth + 1)
      known.set(open.tree, lowWord, open.entries % 2 ** 32)
      known.set(open.tree, highWord, Math.floor(open.entries / 2 ** 32))
      const parents = waiting.get(open.tree) ?? []
      waiting.delete(open.tree)
      for (const parent of parents) {
        absorb(parent, open)
        parent.left -= 1
        if (parent.left === 0) settled.push(parent)
      }
    }
  }

  return {
    of,
    tell(tree, entries, folders) {
      const alone: OpenTree[] = []
      const open: OpenTree = { tree, left: 0, depth: 0, entries, alone }
      alone.push(open)
      for (const folder of folders) {
        const extent = of(folder)
        if (extent !== undefined) {
          absorb(open, extent)
          continue
        }
        open.left += 1
        const others = waiting.get(folder)
        waiting.set(folder, others === undefined ? alone : [...others, open])
      }
      if (open.left === 0) settle(open)
    },
  }
}
