/** Owns what a caller may leave out of a tree's entry, and that what it refers to is stored. */
import { Failure } from '@stillpoint/core/kernel'
import type { BlobType } from '../format/ids.ts'
import type { Timestamp } from '../format/timestamp.ts'
import type { NodeContent, NodeMetadata, TreeNode } from '../format/tree.ts'

/** A node of a tree; all metadata but the name has defaults. What `readTree` returns is one, too. */
export type TreeEntry = Partial<NodeMetadata> & Pick<NodeMetadata, 'name'> & NodeContent

const permissionsDefault: Readonly<Partial<Record<NodeContent['type'], number>>> = { dir: 0o700, symlink: 0o777 }

/** Defaults: readable by the owner only, owned by this process, the time given. */
export function completeEntry(entry: TreeEntry, time: Timestamp): TreeNode {
  return {
    permissions: permissionsDefault[entry.type] ?? 0o600,
    mtime: time,
    atime: entry.mtime ?? time,
    ctime: entry.mtime ?? time,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    user: '',
    group: '',
    inode: 0n,
    deviceId: 0n,
    links: entry.type === 'file' ? 1n : 0n,
    extendedAttributes: [],
    ...entry,
  }
}

/** restic refuses trees with nodes of a type that it does not know. @throws Failure `node_unsupported` */
export function requireKnownType(node: TreeNode): void {
  if (node.type !== 'irregular') return
  throw new Failure({
    code: 'node_unsupported',
    message: `${JSON.stringify(node.name)} is of a kind that a tree cannot hold`,
    hint: 'Leave it out.',
  })
}

/** @throws Failure `object_missing` */
export function requireStored(node: TreeNode, has: (id: string, type: BlobType) => boolean): void {
  const missing =
    node.type === 'dir'
      ? [node.subtree].find((id) => !has(id, 'tree'))
      : node.type === 'file'
        ? node.content.find((id) => !has(id, 'data'))
        : undefined
  if (missing === undefined) return
  throw new Failure({
    code: 'object_missing',
    message: `${JSON.stringify(node.name)} refers to ${node.type === 'dir' ? 'tree' : 'data blob'} ${missing}, which is not stored in the repository`,
    hint: 'Finish the save that stores it first.',
  })
}
