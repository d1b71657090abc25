/**
 * Owns walking everything that snapshots reach, each tree once.
 * What a tree contains is not trusted: a tree that contains itself cannot exist (its id is its hash), and depth is not
 * recursion here.
 */
import { Failure, isFailure, type TreeId } from '@stillpoint/core/kernel'
import type { TreeNode } from '../format/tree.ts'
import { readTree } from '../load/blob-reader.ts'
import { eachOf } from '../parallel.ts'
import type { Vault } from '../vault.ts'
import { type BlobSet, createBlobSet } from './blob-set.ts'

const treesInFlightMax = 4

export interface TreeRoot {
  readonly tree: TreeId
  /** How the place is named in messages, ending with "/". */
  readonly path: string
}

export interface WalkOptions {
  readonly abort: () => void
  /** Called once for each tree, with its nodes. */
  readonly onTree?: (tree: TreeId, nodes: readonly TreeNode[], path: string) => void
  readonly onProgress?: (trees: number) => void
}

/**
 * All trees and data blobs that the roots reach.
 * @throws Failure `object_missing`, `object_damaged`, with the path of the tree
 */
export async function reachableBlobs(vault: Vault, roots: readonly TreeRoot[], options: WalkOptions): Promise<BlobSet> {
  const reached = createBlobSet()
  let level = roots.filter(({ tree }) => reached.add(tree, 'tree'))
  let trees = 0
  // Depth first in batches: what waits is bounded by the width of a path, not of the whole repository.
  const waiting: TreeRoot[] = [...level].reverse()
  while (waiting.length > 0) {
    level = waiting.splice(-treesInFlightMax)
    await eachOf(level, treesInFlightMax, async ({ tree, path }) => {
      options.abort()
      const nodes = await readNamed(vault, tree, path)
      options.onTree?.(tree, nodes, path)
      for (const node of nodes) {
        if (node.type === 'file') for (const id of node.content) reached.add(id, 'data')
        if (node.type !== 'dir' || !reached.add(node.subtree, 'tree')) continue
        waiting.push({ tree: node.subtree, path: `${path}${node.name}/` })
      }
      trees += 1
      options.onProgress?.(trees)
    })
  }
  return reached
}

async function readNamed(vault: Vault, tree: TreeId, path: string): Promise<readonly TreeNode[]> {
  try {
    return await readTree(vault, tree)
  } catch (error) {
    if (!isFailure(error, 'object_missing') && !isFailure(error, 'object_damaged')) throw error
    const { code, message, hint } = error
    throw new Failure({
      code,
      message: `${path}: ${message}`,
      ...(hint === undefined ? {} : { hint }),
      cause: error,
    })
  }
}
