/**
 * Owns the task that opens blobs of a pack and writes them where they belong, in files of the target. Runs in any thread;
 * it is synchronous, since a small file is six system calls, each of which takes less time than to wait for it.
 *
 * Invariants: 1. nothing is written whose SHA-256 is not its id. 2. A file is created with O_EXCL, or found again by its
 * device and inode: a name that leads to another file by now is not written to. Links are not followed.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  lstatSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { assert } from '@stillpoint/core/kernel'
import { errnoOf } from '../blob/storage-failure.ts'
import type { CryptKeys } from '../format/crypto.ts'
import { DamageError } from '../format/damage.ts'
import { idBytes } from '../format/ids.ts'
import type { Timestamp } from '../format/timestamp.ts'
import { createEntry, type EntryAt, type FolderAt, openEntry, pathOf } from '../native/folder-entries.ts'
import { openSealed } from '../work/open-sealed.ts'
import { setTimes, timeFromNumbers, timeNumbers } from './file-times.ts'

/** Rows of numbers, as columns cross threads without a copy of each object. */
export const blobFields = 4
export const destinationFields = 14

/** A row of `blobRows`. */
export interface PlacedBlob {
  /** Of the sealed blob, within `sealed`. */
  readonly offset: number
  readonly length: number
  /** Length of the plaintext where the blob is compressed, otherwise 0. */
  readonly plainBytes: number
  /** Where its rows of `destinations` end; they begin where those of the blob before end. */
  readonly destinationsEnd: number
}

/** A row of `destinations`. */
export interface Destination {
  /** Number in `directories`. */
  readonly directory: number
  /** Where its name ends in `names`; it begins where the one before ends. */
  readonly nameEnd: number
  /** Where in the file the blob begins. */
  readonly position: number
  /** 0: the blob is the whole file, which is created and finished here. Otherwise the file to write to. */
  readonly inode: number
  readonly device: number
  /** Whether zeros may be left out: the file reads as zeros where nothing was written. */
  readonly isSparse: boolean
  readonly permissions: number
  /** It has these permissions if it is made with them, and nobody else reaches it until its directory is finished. */
  readonly isMadeSo: boolean
  /** -1: ownership stays. */
  readonly uid: number
  readonly gid: number
  readonly atime: Timestamp
  readonly mtime: Timestamp
}

export interface PlaceBlobsInput {
  /** A range of a pack. Where `isOpen`: the plaintext of one blob that was verified. */
  readonly sealed: Uint8Array
  readonly isOpen: boolean
  /** 32 bytes each. A blob of length 0 stands for no content at all, and has no id. */
  readonly ids: Uint8Array
  /** `blobFields` each. */
  readonly blobRows: Float64Array
  /** `destinationFields` each. */
  readonly destinations: Float64Array
  readonly names: Uint8Array
  /** Valid while the task runs. */
  readonly directories: readonly FolderAt[]
}

export type PlaceProblem =
  | { readonly kind: 'damaged'; readonly blob: number; readonly reason: string }
  | { readonly kind: 'system'; readonly destination: number; readonly code: string; readonly message: string }
  /** The name leads to another file than the one that was created. */
  | { readonly kind: 'replaced'; readonly destination: number }

const createFlags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
const findFlags = constants.O_WRONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

export function writeDestination(rows: Float64Array, row: number, destination: Destination): void {
  const at = row * destinationFields
  rows[at] = destination.directory
  rows[at + 1] = destination.nameEnd
  rows[at + 2] = destination.position
  rows[at + 3] = destination.inode
  rows[at + 4] = destination.device
  rows[at + 5] = destination.isSparse ? 1 : 0
  rows[at + 6] = destination.permissions
  rows[at + 7] = destination.isMadeSo ? 1 : 0
  rows[at + 8] = destination.uid
  rows[at + 9] = destination.gid
  rows.set(timeNumbers(destination.atime), at + 10)
  rows.set(timeNumbers(destination.mtime), at + 12)
}

function readDestination(rows: Float64Array, row: number): Destination {
  const at = row * destinationFields
  const field = (number: number) => rows[at + number] ?? 0
  return {
    directory: field(0),
    nameEnd: field(1),
    position: field(2),
    inode: field(3),
    device: field(4),
    isSparse: field(5) === 1,
    permissions: field(6),
    isMadeSo: field(7) === 1,
    uid: field(8),
    gid: field(9),
    atime: timeFromNumbers([field(10), field(11)]),
    mtime: timeFromNumbers([field(12), field(13)]),
  }
}

export function writeBlobRow(rows: Float64Array, row: number, blob: PlacedBlob): void {
  const at = row * blobFields
  rows[at] = blob.offset
  rows[at + 1] = blob.length
  rows[at + 2] = blob.plainBytes
  rows[at + 3] = blob.destinationsEnd
}

/** What could not be done; the rest is. */
export function placeBlobs(input: PlaceBlobsInput, context: { readonly keys: CryptKeys }): readonly PlaceProblem[] {
  const problems: PlaceProblem[] = []
  const file = createLastFile()
  const blobCount = input.blobRows.length / blobFields
  let destination = 0
  let nameAt = 0
  try {
    for (let blob = 0; blob < blobCount; blob += 1) {
      const end = input.blobRows[blob * blobFields + 3] ?? 0
      const plaintext = openBlobRow(input, blob, context.keys)
      if (plaintext instanceof DamageError) problems.push({ kind: 'damaged', blob, reason: plaintext.message })
      for (; destination < end; destination += 1) {
        const row = readDestination(input.destinations, destination)
        const folder = input.directories[row.directory]
        assert(folder !== undefined, 'a file has a directory')
        const entry = { folder, name: input.names.subarray(nameAt, row.nameEnd) }
        nameAt = row.nameEnd
        if (plaintext instanceof DamageError) continue
        const problem = placeAt(file, entry, row, plaintext)
        if (problem === 'replaced') problems.push({ kind: 'replaced', destination })
        else if (problem !== undefined) problems.push({ kind: 'system', destination, ...problem })
      }
    }
  } finally {
    file.close()
  }
  return problems
}

/** The file that was written to last stays open: the next blob of a pack is mostly its next. */
interface LastFile {
  /** Its descriptor, or -1 where the name leads to another file by now. */
  find(entry: EntryAt, wanted: Destination): number
  close(): void
}

function createLastFile(): LastFile {
  let last: (EntryAt & { readonly fd: number }) | undefined

  function close(): void {
    if (last !== undefined) closeSync(last.fd)
    last = undefined
  }

  return {
    find(entry, { inode, device }) {
      if (last?.folder === entry.folder && Buffer.compare(last.name, entry.name) === 0) return last.fd
      close()
      const fd = openEntry(entry, findFlags)
      const status = fstatSync(fd)
      if (status.ino !== inode || status.dev !== device) {
        closeSync(fd)
        return -1
      }
      last = { ...entry, fd }
      return fd
    },
    close,
  }
}

type SystemProblem = { readonly code: string; readonly message: string }

function placeAt(
  file: LastFile,
  entry: EntryAt,
  row: Destination,
  plaintext: Uint8Array,
): SystemProblem | 'replaced' | undefined {
  try {
    if (row.inode === 0) createWhole(entry, row, plaintext)
    else {
      const fd = file.find(entry, row)
      if (fd < 0) return 'replaced'
      if (row.isSparse) writeSparsely(fd, plaintext, row.position)
      else writeAll(fd, plaintext, { from: 0, to: plaintext.length, position: row.position })
    }
    return undefined
  } catch (error) {
    const code = errnoOf(error)
    if (code === undefined || !(error instanceof Error)) throw error
    return { code, message: error.message }
  }
}

/**
 * Ownership first, for changing it clears the set-user-id bits of the mode; times last. A file that cannot be written to
 * its end is removed: half of it must not stand there.
 */
function createWhole(entry: EntryAt, row: Destination, plaintext: Uint8Array): void {
  const fd = createEntry(entry, { flags: createFlags, permissions: row.isMadeSo ? row.permissions : 0o600 })
  try {
    const written = writeSparsely(fd, plaintext, 0)
    if (written < plaintext.length) ftruncateSync(fd, plaintext.length)
    if (row.uid >= 0) fchownSync(fd, row.uid, row.gid)
    if (!row.isMadeSo) fchmodSync(fd, row.permissions)
    setTimes(fd, row)
  } catch (error) {
    removeOwn(pathOf(entry), fd, error)
    throw error
  } finally {
    closeSync(fd)
  }
}

/** Unless the name leads to another file by now. */
function removeOwn(path: Buffer, fd: number, cause: unknown): void {
  try {
    const [made, there] = [fstatSync(fd), lstatSync(path, { throwIfNoEntry: false })]
    if (there?.ino === made.ino && there.dev === made.dev) unlinkSync(path)
  } catch (error) {
    // What went wrong first is what is told; the file that stays has not the time of the one in the snapshot.
    if (errnoOf(error) === undefined) throw new AggregateError([cause, error])
  }
}

/** Runs of zeros of this length become holes. */
const holeBytes = 4096
const zeros = Buffer.alloc(holeBytes)

/** Returns where the last byte that was written ends. */
function writeSparsely(fd: number, bytes: Uint8Array, position: number): number {
  const isHole = (from: number) =>
    bytes[from] === 0 && from + holeBytes <= bytes.length && zeros.equals(bytes.subarray(from, from + holeBytes))
  let end = 0
  for (let from = 0; from < bytes.length; ) {
    if (isHole(from)) {
      from += holeBytes
      continue
    }
    let to = Math.min(bytes.length, from + holeBytes)
    while (to < bytes.length && !isHole(to)) to = Math.min(bytes.length, to + holeBytes)
    writeAll(fd, bytes, { from, to, position: position + from })
    from = to
    end = to
  }
  return end
}

function writeAll(
  fd: number,
  bytes: Uint8Array,
  { from, to, position }: { readonly from: number; readonly to: number; readonly position: number },
): void {
  for (let at = from; at < to; ) at += writeSync(fd, bytes, at, to - at, position + at - from)
}

/** The plaintext, valid until the next call. */
function openBlobRow(input: PlaceBlobsInput, blob: number, keys: CryptKeys): Uint8Array | DamageError {
  const at = blob * blobFields
  const [offset = 0, length = 0, plainBytes = 0] = input.blobRows.subarray(at, at + blobFields)
  const sealed = input.sealed.subarray(offset, offset + length)
  if (input.isOpen || length === 0) return sealed
  const ids = Buffer.from(input.ids.buffer, input.ids.byteOffset, input.ids.byteLength)
  try {
    assert(sealed.length === length, 'a blob lies within what was read')
    const id = ids.toString('hex', blob * idBytes, (blob + 1) * idBytes)
    return openSealed({ id, plainBytes: plainBytes === 0 ? undefined : plainBytes }, sealed, keys)
  } catch (error) {
    if (error instanceof DamageError) return error
    throw error
  }
}
