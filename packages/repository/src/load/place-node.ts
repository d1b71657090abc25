/**
 * Owns making one entry of a directory and its metadata. All paths go through the open directory.
 * Node cannot make fifos and devices: `mkfifo` and `mknod` of the system do, under a temporary name that is then renamed.
 */
import { execFile } from 'node:child_process'
import { type FileHandle, lchown, lstat, lutimes, mkdir, rename, symlink, unlink } from 'node:fs/promises'
import { promisify } from 'node:util'
import { Failure } from '@stillpoint/core/kernel'
import { type AnchoredDirectory, pathForChildProcess } from '../anchored-directory.ts'
import { errnoOf } from '../blob/storage-failure.ts'
import { bytesFromName } from '../format/node-name.ts'
import type { Timestamp } from '../format/timestamp.ts'
import type { TreeNode } from '../format/tree.ts'
import type { Restore } from './load-directory.ts'

export interface NodePlace {
  readonly directory: AnchoredDirectory
  readonly name: string
  /** Relative to the target, for messages. */
  readonly path: string
}

const run = promisify(execFile)

/** Removes what is in the way, where that is allowed. A link is removed, never followed. @throws Failure `target_conflict` */
export async function clearTheWay(restore: Restore, place: NodePlace): Promise<void> {
  const child = place.directory.child(place.name)
  const there = await lstat(child).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  })
  if (there === undefined) return
  if (!restore.overwrite || there.isDirectory()) throw conflict(place)
  await unlink(child)
}

function conflict(place: NodePlace, cause?: unknown): Failure {
  return new Failure({
    code: 'target_conflict',
    message: `something is in the way of ${JSON.stringify(place.path)} in the target`,
    hint: 'Restore into an empty directory. Names that differ only in case are one name on some file systems.',
    cause,
  })
}

/** Makes and opens a directory; one that is there is taken as it is where overwriting is allowed. */
export async function makeDirectory(restore: Restore, place: NodePlace): Promise<AnchoredDirectory> {
  const child = place.directory.child(place.name)
  try {
    await mkdir(child, { mode: 0o700 })
    return await place.directory.open(place.name)
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error
    if (!restore.overwrite) throw conflict(place, error)
  }
  try {
    return await place.directory.open(place.name)
  } catch (error) {
    const errno = errnoOf(error)
    if (errno !== 'ENOTDIR' && errno !== 'ELOOP') throw error
    await unlink(child)
    await mkdir(child, { mode: 0o700 })
    return place.directory.open(place.name)
  }
}

/** Ownership first, for changing it clears the set-user-id bits of the mode; times last. */
export async function applyMetadata(restore: Restore, handle: FileHandle, node: TreeNode): Promise<void> {
  if (restore.owners) await handle.chown(node.uid, node.gid)
  await handle.chmod(node.permissions)
  await handle.utimes(seconds(node.atime), seconds(node.mtime))
}

/**
 * The time as Node takes it: seconds, in a number of 53 bits, which the system is given truncated to nanoseconds.
 * Chosen so that microseconds are right; a string, since a negative number would be taken for "now".
 */
export function seconds(time: Timestamp): string {
  const nearest = Number(time) / 1e9
  const ulp = 2 ** (Math.floor(Math.log2(Math.max(1, Math.abs(nearest)))) - 52)
  const micros = (value: bigint) => (value - (((value % 1000n) + 1000n) % 1000n)) / 1000n
  const fits = [nearest, nearest + ulp, nearest - ulp].find((value) => micros(asNanoseconds(value)) === micros(time))
  return String(fits ?? nearest)
}

/** What the system makes of a number of seconds. */
function asNanoseconds(value: number): bigint {
  const whole = Math.trunc(value)
  return BigInt(whole) * 1_000_000_000n + BigInt(Math.trunc((value - whole) * 1e9))
}

export async function makeSymlink(
  restore: Restore,
  place: NodePlace,
  node: Extract<TreeNode, { type: 'symlink' }>,
): Promise<void> {
  await symlink(bytesFromName(node.target), place.directory.child(place.name))
  await applyLinkMetadata(restore, place.directory.child(place.name), node)
}

async function applyLinkMetadata(restore: Restore, path: Buffer, node: TreeNode): Promise<void> {
  if (restore.owners) await lchown(path, node.uid, node.gid)
  await lutimes(path, seconds(node.atime), seconds(node.mtime))
}

export async function makeSpecial(
  restore: Restore,
  place: NodePlace,
  node: Extract<TreeNode, { type: 'fifo' | 'dev' | 'chardev' }>,
): Promise<void> {
  if (node.type !== 'fifo' && !restore.owners) return restore.skip(place.path, 'only root may make devices')
  // Names of any bytes cannot be arguments of a program; this one can.
  const temporary = `.stillpoint-special-${process.pid}`
  const path = pathForChildProcess(place.directory.child(temporary))
  // The mode is set at creation: changing it by path would follow a link that was put there meanwhile.
  const mode = `--mode=${node.permissions.toString(8).padStart(4, '0')}`
  if (node.type === 'fifo') await run('mkfifo', [mode, path])
  else {
    const [major, minor] = deviceNumbers(node.device)
    await run('mknod', [mode, path, node.type === 'dev' ? 'b' : 'c', major, minor])
  }
  const child = place.directory.child(place.name)
  await rename(place.directory.child(temporary), child)
  await applyLinkMetadata(restore, child, node)
}

/** Linux's encoding of st_rdev: major in bits 8–19 and 32–63, minor in bits 0–7 and 20–31. */
function deviceNumbers(device: bigint): [string, string] {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n)
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffffff00n)
  return [major.toString(), minor.toString()]
}
