/** Owns walking a snapshot in the order of its trees, with paths: for lists, searches and archives. */
import { type Failure, isFailure, type TreeId } from '@stillpoint/core/kernel'
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
  /** Told of directories that are missing or damaged, which then have no more entries. Default: they are a failure. */
  readonly onUnreadable?: (failure: Failure, folder: UnreadableFolder) => void
}

export interface UnreadableFolder {
  readonly tree: TreeId
  /** With a slash at its end. */
  readonly path: string
}

/** A directory comes before what is in it. @throws Failure `object_missing`, `object_damaged`, `tree_unsafe` (too deep, too much) */
export async function* walkNodes(
  vault: Vault,
  root: TreeId,
  options: WalkNodesOptions = {},
): AsyncGenerator<WalkedNode> {
  const guard = createTreeGuard(vault, [root], () => options.signal?.throwIfAborted())
  const open: Folder[] = []
  const tolerated = (error: unknown, folder: UnreadableFolder): undefined => {
    if (!isFailure(error) || !unreadable.has(error.code) || options.onUnreadable === undefined) throw error
    options.onUnreadable(error, folder)
  }
  async function enter(tree: TreeId, path: string): Promise<void> {
    const folder = await folderOf(vault, tree, path).catch((error: unknown) => tolerated(error, { tree, path }))
    if (folder !== undefined) open.push(folder)
  }
  /** Directories are decoded as they are walked: damage may show late. */
  function nextOf(folder: Folder): TreeNode | undefined {
    try {
      return folder.nodes.next().value
    } catch (error) {
      return tolerated(error, folder)
    }
  }
  await enter(root, '/')
  for (let folder = open.at(-1); folder !== undefined; folder = open.at(-1)) {
    options.signal?.throwIfAborted()
    const node = nextOf(folder)
    if (node === undefined) {
      open.pop()
      continue
    }
    const walked: WalkedNode = { path: `${folder.path}${node.name}`, node, parent: folder.tree }
    yield walked
    if (node.type !== 'dir' || options.enter?.(walked) === false) continue
    if (open.length >= treeDepthMax) throw tooDeep(node.subtree)
    await guard.enter(node.subtree)
    await enter(node.subtree, `${walked.path}/`)
  }
}

const unreadable: ReadonlySet<string> = new Set(['object_missing', 'object_damaged'])

interface Folder {
  readonly tree: TreeId
  readonly path: string
  /** Those that are to come: of a large directory all of them would take three times as much as its document. */
  readonly nodes: Iterator<TreeNode, undefined>
}

async function folderOf(vault: Vault, tree: TreeId, path: string): Promise<Folder> {
  return { tree, path, nodes: await treeNodes(vault, tree) }
}
