/**
 * Owns what is asked of a file's status, as Node's `BigIntStats` has it, and reading it out of what statx(2) has written,
 * whose layout is the same on all processors of little endian.
 */
import { type BigIntStats, constants } from 'node:fs'

export type FileStatus = Pick<
  BigIntStats,
  | 'dev'
  | 'ino'
  | 'mode'
  | 'nlink'
  | 'uid'
  | 'gid'
  | 'rdev'
  | 'size'
  | 'atimeNs'
  | 'mtimeNs'
  | 'ctimeNs'
  | 'isFile'
  | 'isDirectory'
  | 'isSymbolicLink'
  | 'isBlockDevice'
  | 'isCharacterDevice'
  | 'isFIFO'
  | 'isSocket'
>

/** Of `struct statx`. */
export const statxBytes = 256

export function statusFromStatx(view: DataView): FileStatus {
  return new StatxStatus(view)
}

/** A class: there is one for each file. */
class StatxStatus implements FileStatus {
  readonly nlink: bigint
  readonly uid: bigint
  readonly gid: bigint
  readonly mode: bigint
  readonly ino: bigint
  readonly size: bigint
  readonly atimeNs: bigint
  readonly ctimeNs: bigint
  readonly mtimeNs: bigint
  readonly rdev: bigint
  readonly dev: bigint
  readonly #type: number

  constructor(view: DataView) {
    this.nlink = BigInt(view.getUint32(16, true))
    this.uid = BigInt(view.getUint32(20, true))
    this.gid = BigInt(view.getUint32(24, true))
    const mode = view.getUint16(28, true)
    this.mode = BigInt(mode)
    this.#type = mode & constants.S_IFMT
    this.ino = view.getBigUint64(32, true)
    this.size = view.getBigUint64(40, true)
    this.atimeNs = timeAt(view, 64)
    this.ctimeNs = timeAt(view, 96)
    this.mtimeNs = timeAt(view, 112)
    this.rdev = deviceAt(view, 128)
    this.dev = deviceAt(view, 136)
  }

  isFile(): boolean {
    return this.#type === constants.S_IFREG
  }

  isDirectory(): boolean {
    return this.#type === constants.S_IFDIR
  }

  isSymbolicLink(): boolean {
    return this.#type === constants.S_IFLNK
  }

  isBlockDevice(): boolean {
    return this.#type === constants.S_IFBLK
  }

  isCharacterDevice(): boolean {
    return this.#type === constants.S_IFCHR
  }

  isFIFO(): boolean {
    return this.#type === constants.S_IFIFO
  }

  isSocket(): boolean {
    return this.#type === constants.S_IFSOCK
  }
}

/** Nanoseconds since 1970. */
function timeAt(view: DataView, at: number): bigint {
  return view.getBigInt64(at, true) * 1_000_000_000n + BigInt(view.getUint32(at + 8, true))
}

/** Major and minor number as `st_dev` has them: major in bits 8–19 and 32–63, minor in bits 0–7 and 20–31. */
function deviceAt(view: DataView, at: number): bigint {
  const [major, minor] = [view.getUint32(at, true), view.getUint32(at + 4, true)]
  const low = BigInt((((major & 0xfff) << 8) | (minor & 0xff)) >>> 0)
  // Unsigned: a number whose highest bit is set must not become a negative one.
  const [majorHigh, minorHigh] = [(major & 0xfffff000) >>> 0, (minor & 0xffffff00) >>> 0]
  return majorHigh === 0 && minorHigh === 0 ? low : low | (BigInt(majorHigh) << 32n) | (BigInt(minorHigh) << 12n)
}
