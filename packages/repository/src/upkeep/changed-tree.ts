/**
 * Owns what a tree becomes of which some nodes are changed or left out: nothing else of it may be lost, whoever wrote it.
 *
 * A tree that we would write as it is stored is encoded anew, so that it is what restic would make of it, too. Of another
 * one, only those fields are replaced: see tree-edit.ts.
 */
import { assert, type TreeId } from '@stillpoint/core/kernel'
import { sha256 } from '../format/ids.ts'
import { encodeTree, type TreeNode } from '../format/tree.ts'
import { editTree, type NodeEdit } from '../format/tree-edit.ts'
import { readBlob } from '../load/blob-reader.ts'
import type { Vault } from '../vault.ts'

export interface ChangedTree {
  readonly tree: TreeId
  /** As it is stored. */
  readonly nodes: readonly TreeNode[]
  /** What each of them becomes; undefined: it is left out. Only subtrees, and content with its length, may differ. */
  readonly changed: readonly (TreeNode | undefined)[]
}

/** The new tree, to be stored. @throws Failure `tree_unsafe`, and those of reading it again */
export async function changedTree(vault: Vault, { tree, nodes, changed }: ChangedTree): Promise<Buffer> {
  assert(nodes.length === changed.length, 'each node is kept, changed or left out')
  if (sha256(encodeTree(nodes)) === tree) return encodeTree(changed.filter((node) => node !== undefined))
  const bytes = await readBlob(vault, tree, 'tree')
  return editTree(
    bytes,
    nodes.map((node, at) => editOf(node, changed[at])),
  )
}

function editOf(node: TreeNode, changed: TreeNode | undefined): NodeEdit {
  if (changed === undefined) return { kind: 'remove' }
  if (changed === node) return { kind: 'keep' }
  if (node.type === 'dir' && changed.type === 'dir') {
    return node.subtree === changed.subtree ? { kind: 'keep' } : { kind: 'subtree', subtree: changed.subtree }
  }
  assert(node.type === 'file' && changed.type === 'file', 'a node stays of its kind')
  return { kind: 'content', content: changed.content, bytes: changed.bytes }
}
