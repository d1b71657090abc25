/**
 * Owns the calls of Linux that Node has no interface for: what is named relative to an open directory (openat(2),
 * statx(2)), times to the nanosecond (utimensat(2), futimens(3)) and extended attributes (xattr(7)). Each call blocks, and
 * takes the time of the system call and 0.3 µs.
 *
 * Invariants: 1. what is written to is memory of this module, as large as the call may fill, and what is read is a text
 * that ends with NUL: no address or length comes from a caller. 2. Nothing is given out before statx was compared with
 * what Node says about a directory: where a platform lays it out otherwise, there are no such calls.
 */
import { lstatSync } from 'node:fs'
import { constants, endianness } from 'node:os'
import { getSystemErrorMap } from 'node:util'
import type { CLibrary } from './c-library.ts'
import { type FileStatus, statusFromStatx, statxBytes } from './file-status.ts'

/** Nanoseconds since 1970. */
export interface FileTimes {
  readonly atime: bigint
  readonly mtime: bigint
}

/** A file, directory or link by its path, not followed; or what is open. */
export type AttributeOwner = Uint8Array | number

/** All throw errors as those of `node:fs`: `code`, `errno`, `syscall`. */
export interface LinuxCalls {
  /** Of an entry of an open directory. A link is not followed. */
  statAt(directory: number, name: Uint8Array): FileStatus
  /** `flags` as for open(2); what is opened is closed in programs that are started. */
  openAt(directory: number, name: Uint8Array, flags: number): number
  /** The same for what is made if it is not there, with permissions that the process's mask takes from. */
  createAt(directory: number, name: Uint8Array, made: { readonly flags: number; readonly permissions: number }): number
  setTimesAt(directory: number, name: Uint8Array, times: FileTimes): void
  setTimes(descriptor: number, times: FileTimes): void
  /** In the order in which the system lists them. */
  listAttributes(owner: AttributeOwner): readonly string[]
  getAttribute(owner: AttributeOwner, name: string): Buffer
  setAttribute(path: Uint8Array, name: string, value: Uint8Array): void
  removeAttribute(path: Uint8Array, name: string): void
}

/** Stands for "where the process is": for absolute paths instead of names. */
export const noDirectory = -100

/** Where constants and the layout of types are as below, and the kernel's word is that of the processor. */
const architectures: readonly string[] = ['x64', 'arm64', 'riscv64', 'loong64']

/** Undefined where the platform is another one, or refuses the calls. */
export function loadLinuxCalls(library: CLibrary): LinuxCalls | undefined {
  if (process.platform !== 'linux' || !architectures.includes(process.arch) || endianness() !== 'LE') return undefined
  try {
    const made = bind(library)
    const [ours, theirs] = [made.statAt(noDirectory, Buffer.from('/')), lstatSync('/', { bigint: true })]
    return ours.isDirectory() && ours.dev === theirs.dev && ours.ino === theirs.ino ? made : undefined
  } catch {
    return undefined
  }
}

const atSymlinkNofollow = 0x100
const closeOnExec = 0o2000000
const basicStatus = 0x7ff
/** PATH_MAX, XATTR_NAME_MAX, XATTR_LIST_MAX and XATTR_SIZE_MAX of Linux. */
const pathBytesMax = 4096
const attributeNameBytesMax = 255
const attributeBytesMax = 64 << 10
/** The kernel takes as much memory as it is told, and clears it: most are small. */
const attributeBytesFirst = 256

function bind(library: CLibrary): LinuxCalls {
  const statx = library.declare<number>('int statx(int, const void *, int, unsigned int, void *)')
  const openat = library.declare<number>('int openat(int, const void *, int)')
  const create = library.declare<number>('int openat(int, const void *, int, unsigned int)')
  const utimensat = library.declare<number>('int utimensat(int, const void *, const void *, int)')
  const futimens = library.declare<number>('int futimens(int, const void *)')
  // Lengths of attributes are of 64 KiB at most: 32 bits of what these return are enough.
  const llistxattr = library.declare<number>('int llistxattr(const void *, void *, size_t)')
  const flistxattr = library.declare<number>('int flistxattr(int, void *, size_t)')
  const lgetxattr = library.declare<number>('int lgetxattr(const void *, const void *, void *, size_t)')
  const fgetxattr = library.declare<number>('int fgetxattr(int, const void *, void *, size_t)')
  const lsetxattr = library.declare<number>('int lsetxattr(const void *, const void *, const void *, size_t, int)')
  const lremovexattr = library.declare<number>('int lremovexattr(const void *, const void *)')

  const path = textMemory(pathBytesMax)
  const attributeName = textMemory(attributeNameBytesMax + 1)
  const attribute = Buffer.alloc(attributeBytesMax)
  const status = new DataView(new ArrayBuffer(statxBytes))
  const timespecs = Buffer.alloc(32)

  /** For a call that has failed: returns where it was interrupted, and is to be made again. */
  function failed(call: string): void {
    const number = library.errno()
    if (number !== constants.errno.EINTR) throw systemError(call, number)
  }

  /** How much of `attribute` a call has filled, of as much as it is told that there is. */
  function filled(call: string, fill: (bytes: number) => number): number {
    for (let bytes = attributeBytesFirst; ; ) {
      const length = fill(bytes)
      if (length >= 0) return length
      if (library.errno() === constants.errno.ERANGE && bytes < attributeBytesMax) bytes = attributeBytesMax
      else failed(call)
    }
  }

  function writeTimes({ atime, mtime }: FileTimes): Buffer {
    for (const [at, time] of [atime, mtime].entries()) {
      const nanoseconds = ((time % second) + second) % second
      timespecs.writeBigInt64LE((time - nanoseconds) / second, at * 16)
      timespecs.writeBigInt64LE(nanoseconds, at * 16 + 8)
    }
    return timespecs
  }

  const ofName = (name: string) => attributeName(Buffer.from(name), constants.errno.ERANGE)

  return {
    statAt(directory, name) {
      const text = path(name)
      while (statx(directory, text, atSymlinkNofollow, basicStatus, status) < 0) failed('statx')
      return statusFromStatx(status)
    },
    openAt(directory, name, flags) {
      const text = path(name)
      for (;;) {
        const descriptor = openat(directory, text, flags | closeOnExec)
        if (descriptor >= 0) return descriptor
        failed('openat')
      }
    },
    createAt(directory, name, { flags, permissions }) {
      const text = path(name)
      for (;;) {
        const descriptor = create(directory, text, flags | closeOnExec, permissions)
        if (descriptor >= 0) return descriptor
        failed('openat')
      }
    },
    setTimesAt(directory, name, times) {
      const [text, written] = [path(name), writeTimes(times)]
      while (utimensat(directory, text, written, atSymlinkNofollow) < 0) failed('utimensat')
    },
    setTimes(descriptor, times) {
      const written = writeTimes(times)
      while (futimens(descriptor, written) < 0) failed('futimens')
    },
    listAttributes(owner) {
      const isOpen = typeof owner === 'number'
      const text = isOpen ? noText : path(owner)
      const length = isOpen
        ? filled('flistxattr', (bytes) => flistxattr(owner, attribute, bytes))
        : filled('llistxattr', (bytes) => llistxattr(text, attribute, bytes))
      return length === 0 ? noNames : attribute.toString('utf8', 0, length - 1).split('\0')
    },
    getAttribute(owner, name) {
      const isOpen = typeof owner === 'number'
      const [text, asked] = [isOpen ? noText : path(owner), ofName(name)]
      const length = isOpen
        ? filled('fgetxattr', (bytes) => fgetxattr(owner, asked, attribute, bytes))
        : filled('lgetxattr', (bytes) => lgetxattr(text, asked, attribute, bytes))
      return Buffer.from(attribute.subarray(0, length))
    },
    setAttribute(owner, name, value) {
      const [text, asked] = [path(owner), ofName(name)]
      while (lsetxattr(text, asked, value, value.length, 0) < 0) failed('lsetxattr')
    },
    removeAttribute(owner, name) {
      const [text, asked] = [path(owner), ofName(name)]
      while (lremovexattr(text, asked) < 0) failed('lremovexattr')
    },
  }
}

const noText = new Uint8Array(1)
const noNames: readonly string[] = []
const second = 1_000_000_000n

/** Memory for a text of less than so many bytes, which it ends with NUL. Each text is valid until the next one. */
function textMemory(bytesMax: number): (text: Uint8Array, tooLong?: number) => Buffer {
  const memory = Buffer.alloc(bytesMax)
  return (text, tooLong = constants.errno.ENAMETOOLONG) => {
    if (text.length >= bytesMax) throw systemError('open', tooLong)
    // It would end there: another name than the one that was meant.
    if (text.includes(0)) throw systemError('open', constants.errno.EINVAL)
    memory.set(text)
    memory[text.length] = 0
    return memory
  }
}

const errors = getSystemErrorMap()

function systemError(syscall: string, number: number): NodeJS.ErrnoException {
  const [code, message] = errors.get(-number) ?? [`E${number}`, 'unknown error of the system']
  return Object.assign(new Error(`${code}: ${message}, ${syscall}`), { code, errno: -number, syscall })
}
