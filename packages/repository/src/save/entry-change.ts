/** Owns telling what has become of an entry since an earlier snapshot. */
import type { ExtendedAttribute, TreeNode } from '../format/tree.ts'

export type EntryChange = 'new' | 'changed' | 'unmodified'

export function changeOf(node: TreeNode, earlier: TreeNode | undefined): EntryChange {
  return earlier === undefined ? 'new' : sameNode(node, earlier) ? 'unmodified' : 'changed'
}

/** Equal in content and metadata. Field by field: it is asked for each file of a backup. */
function sameNode(node: TreeNode, other: TreeNode): boolean {
  return (
    node.name === other.name &&
    node.mtime === other.mtime &&
    node.ctime === other.ctime &&
    node.atime === other.atime &&
    node.permissions === other.permissions &&
    node.uid === other.uid &&
    node.gid === other.gid &&
    node.user === other.user &&
    node.group === other.group &&
    node.inode === other.inode &&
    node.deviceId === other.deviceId &&
    node.links === other.links &&
    sameContent(node, other) &&
    sameAttributes(node.extendedAttributes, other.extendedAttributes)
  )
}

function sameContent(node: TreeNode, other: TreeNode): boolean {
  switch (node.type) {
    case 'file':
      return other.type === 'file' && node.bytes === other.bytes && sameIds(node.content, other.content)
    case 'dir':
      return other.type === 'dir' && node.subtree === other.subtree
    case 'symlink':
      return other.type === 'symlink' && node.target === other.target
    case 'dev':
    case 'chardev':
      return other.type === node.type && node.device === other.device
    case 'fifo':
    case 'socket':
    case 'irregular':
      return other.type === node.type
  }
}

function sameIds(ids: readonly string[], others: readonly string[]): boolean {
  return ids === others || (ids.length === others.length && ids.every((id, at) => id === others[at]))
}

function sameAttributes(attributes: readonly ExtendedAttribute[], others: readonly ExtendedAttribute[]): boolean {
  return (
    attributes.length === others.length &&
    attributes.every(({ name, value }, at) => {
      const other = others[at]
      return other !== undefined && other.name === name && Buffer.compare(value, other.value) === 0
    })
  )
}
