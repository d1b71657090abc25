/**
 * Owns the layout of pack files: sealed blobs one after another, the sealed header, the header's length in four bytes,
 * little-endian. See restic's design document, section "Pack Format".
 */

import { sealOverheadBytes } from './crypto.ts'
import { sound } from './damage.ts'
import { type BlobType, idBytes as hashBytes } from './ids.ts'

export interface PackEntry {
  /** SHA-256 of the plaintext, 64 hexadecimal digits. */
  readonly id: string
  readonly type: BlobType
  /** Where the sealed blob begins in the pack. */
  readonly offset: number
  /** Length of the sealed blob. */
  readonly length: number
  /** Length of the plaintext where the blob is compressed; undefined where it is not. */
  readonly plainBytes: number | undefined
}

export const headerLengthBytes = 4
/** restic reads no larger header. */
export const headerBytesMax = 16 << 20

const entryBytesPlain = 1 + 4 + hashBytes
const entryBytesCompressed = entryBytesPlain + 4

/** What a blob adds to a pack beside its own bytes. */
export function headerEntryBytes(isCompressed: boolean): number {
  return isCompressed ? entryBytesCompressed : entryBytesPlain
}

function entryBytes(entry: PackEntry): number {
  return headerEntryBytes(entry.plainBytes !== undefined)
}

/** What a pack without blobs would measure. */
export const emptyPackBytes = sealOverheadBytes + headerLengthBytes

/** Length of the plaintext, also where the blob is not compressed. */
export function blobPlainBytes(entry: PackEntry): number {
  return entry.plainBytes ?? entry.length - sealOverheadBytes
}

/** What a whole pack with these entries measures. */
export function packBytes(entries: readonly PackEntry[]): number {
  let bytes = emptyPackBytes
  for (const entry of entries) bytes += entry.length + entryBytes(entry)
  return bytes
}

/** The header before it is sealed. */
export function encodePackHeader(entries: readonly PackEntry[]): Buffer {
  const header = Buffer.alloc(entries.reduce((sum, entry) => sum + entryBytes(entry), 0))
  let at = 0
  for (const entry of entries) {
    const compressed = entry.plainBytes !== undefined
    at = header.writeUInt8((entry.type === 'tree' ? 1 : 0) | (compressed ? 2 : 0), at)
    at = header.writeUInt32LE(entry.length, at)
    if (entry.plainBytes !== undefined) at = header.writeUInt32LE(entry.plainBytes, at)
    at += header.write(entry.id, at, 'hex')
  }
  return header
}

/** @throws DamageError */
export function decodePackHeader(header: Uint8Array): PackEntry[] {
  const view = Buffer.from(header.buffer, header.byteOffset, header.byteLength)
  const entries: PackEntry[] = []
  let offset = 0
  let at = 0
  while (at < view.length) {
    const kind = view.readUInt8(at)
    sound(kind <= 3, `blob type ${kind} is unknown`)
    const compressed = kind >= 2
    const bytes = compressed ? entryBytesCompressed : entryBytesPlain
    sound(at + bytes <= view.length, 'the header ends in the middle of an entry')
    const length = view.readUInt32LE(at + 1)
    sound(length >= sealOverheadBytes, 'a blob is shorter than its own overhead')
    const plainBytes = compressed ? view.readUInt32LE(at + 5) : undefined
    const id = view.toString('hex', at + bytes - hashBytes, at + bytes)
    entries.push({ id, type: (kind & 1) === 1 ? 'tree' : 'data', offset, length, plainBytes })
    offset += length
    at += bytes
  }
  return entries
}

/** Length of the sealed header, from a pack's last four bytes. @throws DamageError */
export function decodeHeaderLength(tail: Uint8Array, packFileBytes: number): number {
  sound(tail.length === headerLengthBytes, 'the pack is too short')
  const length = new DataView(tail.buffer, tail.byteOffset, 4).getUint32(0, true)
  sound(length >= sealOverheadBytes && length <= headerBytesMax, `a header of ${length} bytes is out of range`)
  sound(length + headerLengthBytes <= packFileBytes, 'the header is longer than the pack')
  return length
}
