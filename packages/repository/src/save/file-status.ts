/** Owns what of a file's status goes into a node, and what tells that a file has changed. */
import { accountNamesOf } from '../account-names.ts'
import type { NodeMetadata, TreeNode } from '../format/tree.ts'
import type { FileStatus } from '../native/file-status.ts'

export function typeOf(status: FileStatus): TreeNode['type'] {
  if (status.isFile()) return 'file'
  if (status.isDirectory()) return 'dir'
  if (status.isSymbolicLink()) return 'symlink'
  if (status.isBlockDevice()) return 'dev'
  if (status.isCharacterDevice()) return 'chardev'
  if (status.isFIFO()) return 'fifo'
  return status.isSocket() ? 'socket' : 'irregular'
}

export interface MetadataRules {
  /** See `readAccountNames`. */
  readonly accounts: string
  /** Record when a file was last read. */
  readonly withAtime?: boolean
}

export function metadataOf(
  name: string,
  status: FileStatus,
  { accounts: text, withAtime }: MetadataRules,
): NodeMetadata {
  const accounts = accountNamesOf(text)
  const linkless = status.isDirectory() || status.isFIFO()
  return {
    name,
    permissions: Number(status.mode) & 0o7777,
    mtime: status.mtimeNs,
    // As restic does by default: else each reading would make another tree of an unchanged directory.
    atime: withAtime === true ? status.atimeNs : status.mtimeNs,
    ctime: status.ctimeNs,
    uid: Number(status.uid),
    gid: Number(status.gid),
    user: accounts.users.get(Number(status.uid)) ?? '',
    group: accounts.groups.get(Number(status.gid)) ?? '',
    inode: status.ino,
    deviceId: status.dev,
    links: linkless ? 0n : status.nlink,
    extendedAttributes: [],
  }
}

/** Whether two statuses are of the same file with the same content, as far as statuses tell. */
export function isSameContent(left: FileStatus, right: FileStatus, ctimeTells: boolean): boolean {
  if (left.ino !== right.ino || left.dev !== right.dev || left.mode !== right.mode) return false
  if (left.size !== right.size || left.mtimeNs !== right.mtimeNs) return false
  return !ctimeTells || left.ctimeNs === right.ctimeNs
}

/** Of any directory: its entries tell the rest. */
export const folderFingerprint = 'dir' satisfies TreeNode['type']

/** Differs where the file differs. */
export function fingerprintOf(status: FileStatus, ctimeTells = true): string {
  const type = typeOf(status)
  if (type === folderFingerprint) return folderFingerprint
  return `${type}:${status.ino}:${status.size}:${status.mtimeNs}:${ctimeTells ? status.ctimeNs : ''}`
}
