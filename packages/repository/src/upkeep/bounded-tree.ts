/**
 * Owns telling trees that nobody can walk to their end: a tree of 64 levels, each of which holds the next one twice, is
 * stored in 64 blobs and has 2^64 paths.
 *
 * A tree that is met often is no proof: the same directory may lie in many places. So when one was met that often, the
 * whole tree is counted once, each distinct tree of it being read once.
 */
import { Failure, isFailure, type TreeId } from '@stillpoint/core/kernel'
import type { TreeNode } from '../format/tree.ts'
import { readTree } from '../load/blob-reader.ts'
import type { Vault } from '../vault.ts'
import { createBlobSet } from './blob-set.ts'

/** More than any file system holds: inodes have 32 bits on most. */
export const entriesMax = 2 ** 36
const meetingsMax = 200
/** Deeper than any path that a system takes (4096 bytes). */
export const treeDepthMax = 2048

export interface TreeGuard {
  /** Is told of each directory that is entered. @throws Failure `tree_unsafe` */
  enter(tree: TreeId): Promise<void>
}

export function createTreeGuard(vault: Vault, roots: readonly TreeId[], abort: () => void): TreeGuard {
  const met = createBlobSet()
  let isCounted = false
  return {
    async enter(tree) {
      met.add(tree, 'tree')
      const row = met.rowOf(tree, 'tree')
      met.counts.increment(row)
      if (isCounted || met.counts.get(row) < meetingsMax) return
      isCounted = true
      for (const root of roots) await requireCountable(vault, root, abort)
    },
  }
}

/** @throws Failure `tree_unsafe` */
async function requireCountable(vault: Vault, root: TreeId, abort: () => void): Promise<void> {
  const known = new Map<TreeId, number>()
  async function count(tree: TreeId, depth: number): Promise<number> {
    abort()
    const found = known.get(tree)
    if (found !== undefined) return found
    if (depth > treeDepthMax) throw tooDeep(tree)
    let entries = 0
    for (const node of await readIfSound(vault, tree)) {
      entries += node.type === 'dir' ? 1 + (await count(node.subtree, depth + 1)) : 1
    }
    known.set(tree, entries)
    return entries
  }
  const entries = await count(root, 0)
  if (entries <= entriesMax) return
  const message = `tree ${root} claims to have ${entries} entries, more than any file system holds`
  throw new Failure({ code: 'tree_unsafe', message, hint: unsoundHint })
}

/** What cannot be read counts for nothing: it is reported when its turn comes. */
async function readIfSound(vault: Vault, tree: TreeId): Promise<readonly TreeNode[]> {
  try {
    return await readTree(vault, tree)
  } catch (error) {
    if (!isFailure(error, 'object_missing') && !isFailure(error, 'object_damaged')) throw error
    return []
  }
}

const unsoundHint = 'It was not written by a sound program: do not trust it.'

export function tooDeep(tree: TreeId): Failure {
  const message = `tree ${tree} is nested deeper than ${treeDepthMax}`
  return new Failure({ code: 'tree_unsafe', message, hint: unsoundHint })
}
