/**
 * Owns walking a directory tree without being led out of it: each directory is opened, and children are reached through
 * its descriptor, so that a component swapped for a symbolic link meanwhile is not followed.
 *
 * Node has no `openat`. On Linux `/proc/PID/fd/N/name` is the same: N is resolved by the kernel to the open directory.
 * Where many entries are looked at, the system's own calls are used: native/folder-entries.ts.
 * Elsewhere paths are joined, and only the last component is protected (O_NOFOLLOW): there, do not save or restore
 * where somebody hostile can rename directories at the same time.
 */
import { closeSync, constants, mkdirSync, openSync, readdirSync, readlinkSync } from 'node:fs'
import { type FileHandle, open, readdir } from 'node:fs/promises'
import { Failure } from '@stillpoint/core/kernel'
import { bytesFromName, nameFromBytes } from './format/node-name.ts'
import { type EntryAt, openEntry, pathOf } from './native/folder-entries.ts'

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
// biome-ignore lint/suspicious/noControlCharactersInRegex: the range of ASCII
const ascii = /^[\x00-\x7f]*$/

/** Opens the root of a walk. Links in `path` itself are followed: who calls has chosen it. @throws Failure `proc_missing` */
export async function openAnchored(path: string | Buffer): Promise<AnchoredDirectory> {
  if (anchored) ownDirectory() // before anything is open
  const bytes = typeof path === 'string' ? bytesFromName(path) : path
  return anchor(await open(bytes, constants.O_RDONLY | constants.O_DIRECTORY), bytes)
}

/** `/proc/self`, or where it leads: a link less to follow for each path is a sixth of what opening a file costs. */
let processDirectory: string | undefined

/** @throws Failure `proc_missing` */
function ownDirectory(): string {
  try {
    // What the file system calls us, which in a container need not be what we call ourselves.
    processDirectory ??= `/proc/${readlinkSync('/proc/self')}`
    return processDirectory
  } catch (cause) {
    throw new Failure({
      code: 'proc_missing',
      message: 'there is no /proc, by which a directory is held while its files are read or written',
      hint: 'Mount it: mount -t proc proc /proc',
      cause,
    })
  }
}

/** The path to a child of an open directory. */
function childOf(fd: number, path: Buffer): (name: string) => Buffer {
  const self = anchored ? Buffer.from(`${ownDirectory()}/fd/${fd}/`) : Buffer.concat([path, Buffer.from('/')])
  return (name) => Buffer.concat([self, bytesFromName(name)])
}

/** `entries`: a character per byte, which takes a quarter of the time of a buffer per name. */
function namesFrom(entries: string[]): string[] {
  return entries.sort().map((name) => (ascii.test(name) ? name : nameFromBytes(Buffer.from(name, 'latin1'))))
}

function anchor(handle: FileHandle, path: Buffer): AnchoredDirectory {
  const child = childOf(handle.fd, path)
  return {
    handle,
    child,
    async names() {
      return namesFrom(await readdir(child(''), { encoding: 'latin1' }))
    },
    async open(name) {
      return anchor(await open(child(name), directoryFlags), child(name))
    },
    close: () => handle.close(),
  }
}

/**
 * The same, done in the calling thread: for who makes and opens many directories, of which each takes 10 µs, and 60 to
 * wait for it. Node has no promise of a system call that costs less than the call.
 */
export interface HeldDirectory {
  readonly fd: number
  /** A path to the child that is valid while the directory is open, in this process. */
  child(name: string): Buffer
  names(): string[]
  /** Opens a directory in it; fails with ENOTDIR or ELOOP where it is something else or a link. */
  open(name: string): HeldDirectory
  close(): void
}

/** Opens the root of a walk. Links in `path` itself are followed: who calls has chosen it. @throws Failure `proc_missing` */
export function holdDirectory(path: string): HeldDirectory {
  if (anchored) ownDirectory() // before anything is open
  const bytes = bytesFromName(path)
  return held(openSync(bytes, constants.O_RDONLY | constants.O_DIRECTORY), bytes)
}

/** Opens an entry of a directory; fails with ENOTDIR or ELOOP where it is something else or a link. */
export function holdEntry(entry: EntryAt): HeldDirectory {
  return held(openEntry(entry, directoryFlags), pathOf(entry))
}

/** The same of one that another thread of this process has opened. */
export function heldBy(fd: number, path: Buffer): HeldDirectory {
  return held(fd, path)
}

/** Makes the directory if it is not there, with its parents. */
export function makeHeldDirectory(path: string): HeldDirectory {
  mkdirSync(path, { recursive: true, mode: 0o700 })
  return holdDirectory(path)
}

function held(fd: number, path: Buffer): HeldDirectory {
  const child = childOf(fd, path)
  const folder = { fd, at: child('') }
  return {
    fd,
    child,
    names: () => namesFrom(readdirSync(child(''), { encoding: 'latin1' })),
    open: (name) => holdEntry({ folder, name: bytesFromName(name) }),
    close: () => closeSync(fd),
  }
}

/** The path as another process of this machine may use it while the directory is open. */
export function pathForChildProcess(path: Buffer): string {
  return path.toString('utf8')
}
