/** Owns walking a snapshot in the order of its trees, with paths: for lists, searches and archives. */
import type { TreeId } from '@stillpoint/core/kernel'
import type { TreeNode } from '../format/tree.ts'
import type { Vault } from '../vault.ts'
import { createTreeGuard, tooDeep, treeDepthMax } from './bounded-tree.ts'
import { treeNodes } from './scan-tree.ts'

export interface WalkedNode {
  /** From the root, beginning with "/". Names in it may be hostile. */
  readonly path: string
  readonly node: TreeNode
  /** The tree that the node is in. */
  readonly parent: TreeId
}

export interface WalkNodesOptions {
  readonly signal?: AbortSignal
  /** Directories for which it returns false are given out, but not entered. */
  readonly enter?: (walked: WalkedNode) => boolean
}

/** A directory comes before what is in it. @throws Failure `object_missing`, `object_damaged`, `tree_unsafe` (too deep, too much) */
export async function* walkNodes(
  vault: Vault,
  root: TreeId,
  options: WalkNodesOptions = {},
): AsyncGenerator<WalkedNode> {
  const guard = createTreeGuard(vault, [root], () => options.signal?.throwIfAborted())
  const open = [await folderOf(vault, root, '/')]
  for (let folder = open.at(-1); folder !== undefined; folder = open.at(-1)) {
    options.signal?.throwIfAborted()
    const { value: node } = folder.nodes.next()
    if (node === undefined) {
      open.pop()
      continue
    }
    const walked: WalkedNode = { path: `${folder.path}${node.name}`, node, parent: folder.tree }
    yield walked
    if (node.type !== 'dir' || options.enter?.(walked) === false) continue
    if (open.length >= treeDepthMax) throw tooDeep(node.subtree)
    await guard.enter(node.subtree)
    open.push(await folderOf(vault, node.subtree, `${walked.path}/`))
  }
}

interface Folder {
  readonly tree: TreeId
  readonly path: string
  /** Those that are to come: of a large directory all of them would take three times as much as its document. */
  readonly nodes: Iterator<TreeNode, undefined>
}

async function folderOf(vault: Vault, tree: TreeId, path: string): Promise<Folder> {
  return { tree, path, nodes: await treeNodes(vault, tree) }
}
