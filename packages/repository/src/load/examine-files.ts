/**
 * Owns the task that compares files of the target with what a snapshot has in their places, so that only what differs is
 * read from the repository and written. Runs in any thread. Links are not followed, nothing is written.
 */
import { createHash } from 'node:crypto'
import { type BigIntStats, closeSync, constants, fstatSync, lstatSync, openSync, readSync } from 'node:fs'
import { errnoOf } from '../blob/storage-failure.ts'
import { readAttributes } from '../extended-attributes.ts'
import { idBytes, sha256 } from '../format/ids.ts'
import type { Overwrite } from './load.ts'

export interface ExaminedFile {
  /** Number in `directories`. */
  readonly directory: number
  readonly name: Uint8Array
  readonly bytes: number
  /** Nanoseconds. */
  readonly mtime: bigint
  readonly permissions: number
  /** -1: not compared. */
  readonly uid: number
  readonly gid: number
  readonly hasAttributes: boolean
  /** Where in the file the first of the blobs begins. */
  readonly position: number
  readonly blobs: number
}

export interface ExamineFilesInput {
  readonly directories: readonly Uint8Array[]
  readonly files: readonly ExaminedFile[]
  /** Of all blobs, file by file: ids of 32 bytes, and lengths of the plaintexts. */
  readonly ids: Uint8Array
  readonly lengths: Float64Array
  readonly overwrite: Overwrite
}

export type FoundFile =
  | { readonly kind: 'absent' }
  /** No regular file. */
  | { readonly kind: 'other'; readonly mtime: bigint }
  | {
      readonly kind: 'file'
      readonly inode: number
      readonly device: number
      readonly bytes: number
      readonly mtime: bigint
      /** It has other names, which must not change with it. */
      readonly isShared: boolean
      /** Mode, owner, times and the absence of extended attributes are as they should be. */
      readonly isSameMetadata: boolean
      /** One byte per blob: 1 where it is there. All 0 where the policy keeps the file, whatever is in it. */
      readonly there: Uint8Array
    }

const openFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
const absent: FoundFile = { kind: 'absent' }

export function examineFiles(input: ExamineFilesInput): readonly FoundFile[] {
  let blob = 0
  return input.files.map((file) => {
    const first = blob
    blob += file.blobs
    const path = Buffer.concat([input.directories[file.directory] ?? new Uint8Array(), file.name])
    return examine(input, file, { path, first })
  })
}

function examine(
  input: ExamineFilesInput,
  file: ExaminedFile,
  { path, first }: { readonly path: Buffer; readonly first: number },
): FoundFile {
  let status: BigIntStats
  try {
    status = lstatSync(path, { bigint: true })
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return absent
    throw error
  }
  const { mtimeNs: mtime } = status
  if (!status.isFile()) return { kind: 'other', mtime }
  const there = new Uint8Array(file.blobs)
  const isTrusted = input.overwrite === 'if-changed'
  if (isKept(input.overwrite, { found: mtime, wanted: file.mtime })) there.fill(0)
  else if (isTrusted && status.size === BigInt(file.bytes) && isSameTime(mtime, file.mtime)) there.fill(1)
  else compareContent(input, file, { path, first, inode: status.ino, there })
  return {
    kind: 'file',
    inode: Number(status.ino),
    device: Number(status.dev),
    bytes: Number(status.size),
    mtime,
    isShared: status.nlink > 1n,
    isSameMetadata: isSameMetadata(status, file, path),
    there,
  }
}

/** Whether the policy leaves alone what is there, by its modification time. */
export function isKept(overwrite: Overwrite, mtime: { readonly found: bigint; readonly wanted: bigint }): boolean {
  if (overwrite === 'never') return true
  // What was restored is not older than the snapshot for what may have been lost below the microsecond.
  return overwrite === 'if-newer' && floorToMicros(mtime.wanted) <= floorToMicros(mtime.found)
}

/** Where the system's calls are not known, restored times are exact to the microsecond. */
export function isSameTime(found: bigint, wanted: bigint): boolean {
  return found === wanted || floorToMicros(found) === floorToMicros(wanted)
}

const floorToMicros = (time: bigint) => time - (((time % 1000n) + 1000n) % 1000n)

function isSameMetadata(status: BigIntStats, file: ExaminedFile, path: Buffer): boolean {
  if (!isSameTime(status.mtimeNs, file.mtime)) return false
  if ((Number(status.mode) & 0o7777) !== file.permissions) return false
  if (file.uid >= 0 && (Number(status.uid) !== file.uid || Number(status.gid) !== file.gid)) return false
  return !file.hasAttributes && readAttributes(path).attributes.length === 0
}

/** Blobs are read in pieces of this size: one may claim to be larger than the memory there is. */
const pieceBytes = 1 << 20
const piece = Buffer.allocUnsafeSlow(pieceBytes)

interface Compared {
  readonly path: Buffer
  readonly first: number
  readonly inode: bigint
  readonly there: Uint8Array
}

/** What cannot be read is written anew. */
function compareContent(input: ExamineFilesInput, file: ExaminedFile, { path, first, inode, there }: Compared): void {
  if (file.blobs === 0) return
  let fd: number
  try {
    fd = openSync(path, openFlags)
  } catch (error) {
    if (errnoOf(error) === undefined) throw error
    return
  }
  try {
    if (fstatSync(fd, { bigint: true }).ino !== inode) return
    const ids = Buffer.from(input.ids.buffer, input.ids.byteOffset, input.ids.byteLength)
    let position = file.position
    for (let blob = 0; blob < file.blobs; blob += 1) {
      const bytes = input.lengths[first + blob] ?? 0
      const id = hashAt(fd, bytes, position)
      if (id === undefined) return
      const at = (first + blob) * idBytes
      if (id === ids.toString('hex', at, at + idBytes)) there[blob] = 1
      position += bytes
    }
  } catch (error) {
    if (errnoOf(error) === undefined) throw error
  } finally {
    closeSync(fd)
  }
}

/** Undefined where the file ends before. */
function hashAt(fd: number, bytes: number, position: number): string | undefined {
  if (bytes <= pieceBytes) return fillPiece(fd, bytes, position) ? sha256(piece.subarray(0, bytes)) : undefined
  const hash = createHash('sha256')
  for (let done = 0; done < bytes; ) {
    const length = Math.min(pieceBytes, bytes - done)
    if (!fillPiece(fd, length, position + done)) return undefined
    hash.update(piece.subarray(0, length))
    done += length
  }
  return hash.digest('hex')
}

function fillPiece(fd: number, bytes: number, position: number): boolean {
  for (let filled = 0; filled < bytes; ) {
    const count = readSync(fd, piece, filled, bytes - filled, position + filled)
    if (count === 0) return false
    filled += count
  }
  return true
}
