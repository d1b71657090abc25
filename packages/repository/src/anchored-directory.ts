/**
 * Owns walking a directory tree without being led out of it: each directory is opened, and children are reached through
 * its descriptor, so that a component swapped for a symbolic link meanwhile is not followed.
 *
 * Node has no `openat`. On Linux `/proc/self/fd/N/name` is the same: N is resolved by the kernel to the open directory.
 * Elsewhere paths are joined, and only the last component is protected (O_NOFOLLOW): there, do not save or restore
 * where somebody hostile can rename directories at the same time.
 */
import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, readdir } from 'node:fs/promises'
import { bytesFromName, nameFromBytes } from './format/node-name.ts'

export interface AnchoredDirectory {
  readonly handle: FileHandle
  /** A path to the child that is valid while the directory is open, in this process. */
  child(name: string): Buffer
  names(): Promise<string[]>
  /** Opens a directory in it; fails with ENOTDIR or ELOOP where it is something else or a link. */
  open(name: string): Promise<AnchoredDirectory>
  close(): Promise<void>
}

const directoryFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW
const anchored = process.platform === 'linux'

/** Opens the root of a walk. Links in `path` itself are followed: who calls has chosen it. */
export async function openAnchored(path: string | Buffer): Promise<AnchoredDirectory> {
  const bytes = typeof path === 'string' ? bytesFromName(path) : path
  return anchor(await open(bytes, constants.O_RDONLY | constants.O_DIRECTORY), bytes)
}

/** Makes the directory if it is not there, with its parents. */
export async function makeAnchored(path: string): Promise<AnchoredDirectory> {
  await mkdir(path, { recursive: true, mode: 0o700 })
  return openAnchored(path)
}

function anchor(handle: FileHandle, path: Buffer): AnchoredDirectory {
  const self = anchored ? Buffer.from(`/proc/self/fd/${handle.fd}`) : path
  const slash = Buffer.from('/')
  const child = (name: string) => Buffer.concat([self, slash, bytesFromName(name)])
  return {
    handle,
    child,
    async names() {
      const names = await readdir(Buffer.concat([self, slash]), { encoding: 'buffer' })
      return names.sort(Buffer.compare).map(nameFromBytes)
    },
    async open(name) {
      return anchor(await open(child(name), directoryFlags), child(name))
    },
    close: () => handle.close(),
  }
}

/** The path as another process of this machine may use it while the directory is open. */
export function pathForChildProcess(path: Buffer): string {
  const text = path.toString('utf8')
  return anchored ? text.replace('/proc/self/', `/proc/${process.pid}/`) : text
}
