/**
 * Owns making one entry of a directory and its metadata. All paths go through the open directory.
 * Node cannot make fifos and devices: `mkfifo` and `mknod` of the system do, where the name is not UTF-8 under a temporary
 * one that is then changed.
 */
import { execFile } from 'node:child_process'
import {
  type BigIntStats,
  fchmodSync,
  fchownSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readlinkSync,
  renameSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs'
import { promisify } from 'node:util'
import { Failure } from '@stillpoint/core/kernel'
import { type HeldDirectory, pathForChildProcess } from '../anchored-directory.ts'
import { errnoOf } from '../blob/storage-failure.ts'
import { bytesFromName, hasRawBytes, nameFromBytes } from '../format/node-name.ts'
import type { NodeMetadata, TreeNode } from '../format/tree.ts'
import { setEntryTimes, setTimes } from './file-times.ts'

export interface NodePlace {
  readonly directory: HeldDirectory
  readonly name: string
  /** Relative to the target, for messages. */
  readonly path: string
}

/** Of names that stay when this program is killed; they end with its process's id. See sweep-remains.ts. */
export const specialPrefix = '.stillpoint-special-'

const run = promisify(execFile)

/** Undefined where there is nothing. Links are not followed. */
export function statusAt({ directory, name }: NodePlace): BigIntStats | undefined {
  try {
    return lstatSync(directory.child(name), { bigint: true })
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

/** Undefined where there is no symbolic link. */
export function linkTargetAt({ directory, name }: NodePlace): string | undefined {
  try {
    return nameFromBytes(readlinkSync(directory.child(name), { encoding: 'buffer' }))
  } catch (error) {
    if (['ENOENT', 'EINVAL'].includes(errnoOf(error) ?? '')) return undefined
    throw error
  }
}

export function conflict({ path }: { readonly path: string }, cause?: unknown): Failure {
  return new Failure({
    code: 'target_conflict',
    message: `something is in the way of ${JSON.stringify(path)} in the target`,
    hint: 'Restore into an empty directory. Names that differ only in case are one name on some file systems.',
    cause,
  })
}

export interface OpenedDirectory {
  readonly directory: HeldDirectory
  readonly isFresh: boolean
}

/** Makes and opens a directory. One that is there is taken as it is; a link or a file in its place is replaced. */
export function makeDirectory(place: NodePlace, { mayExist }: { readonly mayExist: boolean }): OpenedDirectory {
  const child = place.directory.child(place.name)
  const made = () => {
    mkdirSync(child, { mode: 0o700 })
    return { directory: place.directory.open(place.name), isFresh: true }
  }
  try {
    return made()
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error
    if (!mayExist) throw conflict(place, error)
  }
  try {
    return { directory: place.directory.open(place.name), isFresh: false }
  } catch (error) {
    const errno = errnoOf(error)
    if (errno !== 'ENOTDIR' && errno !== 'ELOOP') throw error
    unlinkSync(child)
    return made()
  }
}

export type Attributes = Pick<NodeMetadata, 'permissions' | 'uid' | 'gid' | 'atime' | 'mtime'>

/**
 * Ownership first, for changing it clears the set-user-id bits of the mode and capabilities; times last.
 * @param between what has to happen after the ownership and before the mode: extended attributes
 */
export function applyMetadata(
  fd: number,
  node: Attributes,
  { owners, between }: { readonly owners: boolean; readonly between: () => void },
): void {
  if (owners) fchownSync(fd, node.uid, node.gid)
  between()
  fchmodSync(fd, node.permissions)
  setTimes(fd, node)
}

export function makeSymlink(place: NodePlace, node: Extract<TreeNode, { type: 'symlink' }>): void {
  symlinkSync(bytesFromName(node.target), place.directory.child(place.name))
}

/** Of an entry that cannot be opened. Its mode was given when it was made. */
export function applyLinkMetadata(place: NodePlace, node: TreeNode, owners: boolean): void {
  if (owners) lchownSync(place.directory.child(place.name), node.uid, node.gid)
  setEntryTimes(place, node)
}

export async function makeSpecial(
  place: NodePlace,
  node: Extract<TreeNode, { type: 'fifo' | 'dev' | 'chardev' }>,
): Promise<void> {
  // Names of any bytes cannot be arguments of a program; this one can.
  const name = hasRawBytes(place.name) ? `${specialPrefix}${process.pid}` : place.name
  const path = pathForChildProcess(place.directory.child(name))
  // The mode is set at creation: changing it by path would follow a link that was put there meanwhile.
  const mode = `--mode=${node.permissions.toString(8).padStart(4, '0')}`
  if (node.type === 'fifo') await run('mkfifo', [mode, path])
  else {
    const [major, minor] = deviceNumbers(node.device)
    await run('mknod', [mode, path, node.type === 'dev' ? 'b' : 'c', major, minor])
  }
  if (name !== place.name) renameSync(place.directory.child(name), place.directory.child(place.name))
}

/** Linux's encoding of st_rdev: major in bits 8–19 and 32–63, minor in bits 0–7 and 20–31. */
function deviceNumbers(device: bigint): [string, string] {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n)
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffffff00n)
  return [major.toString(), minor.toString()]
}
