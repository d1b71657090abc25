/**
 * Owns finding entries of the parent by their paths: for many paths that lie together, of which each tree on the way is
 * read once or a few times.
 */
import type { TreeId } from '@stillpoint/core/kernel'
import type { TreeNode } from '../format/tree.ts'
import type { Vault } from '../vault.ts'
import { parentFolder } from './parent-folders.ts'
import { createParentTree } from './parent-tree.ts'

/** Undefined: the parent has no such entry, or it cannot be read. */
export interface ParentPaths {
  nodeAt(components: readonly string[]): Promise<TreeNode | undefined>
  /** The tree of a directory. */
  treeAt(components: readonly string[]): Promise<TreeId | undefined>
}

/** Trees that are kept: those on the way to where one is, mostly. */
const keptMax = 16

export function createParentPaths(vault: Vault, root: TreeId | undefined): ParentPaths {
  const ids = new Map<string, TreeId | undefined>([['', root]])
  // A map keeps the order of insertion: the first is the oldest.
  const kept = new Map<TreeId, Uint8Array | undefined>()

  async function bytesOf(tree: TreeId): Promise<Uint8Array | undefined> {
    const bytes = kept.has(tree) ? kept.get(tree) : await parentFolder(vault, tree)
    kept.delete(tree)
    kept.set(tree, bytes)
    for (const [oldest] of kept) {
      if (kept.size <= keptMax) break
      kept.delete(oldest)
    }
    return bytes
  }

  async function nodeAt(components: readonly string[]): Promise<TreeNode | undefined> {
    const name = components.at(-1)
    const tree = name === undefined ? undefined : await treeAt(components.slice(0, -1))
    const bytes = tree === undefined ? undefined : await bytesOf(tree)
    return bytes === undefined || name === undefined ? undefined : createParentTree(bytes, 0).lookUp(name)
  }

  async function treeAt(components: readonly string[]): Promise<TreeId | undefined> {
    const path = components.join('/')
    if (ids.has(path)) return ids.get(path)
    const node = await nodeAt(components)
    const tree = node?.type === 'dir' ? node.subtree : undefined
    ids.set(path, tree)
    return tree
  }

  return { nodeAt, treeAt }
}
