/**
 * Owns reading the bytes of an index document without an object per blob: a scanner of exactly the JSON that restic and
 * we write, in their order of fields and without white space. Of anything else it says nothing, and index-file.ts reads
 * it as any JSON: being unusual is no damage.
 *
 * Invariants: 1. every byte of the document is compared with what must stand there; a document that passes means the same
 * to a JSON parser. 2. All numbers are from 0 to 2^32 - 1, all ids have 64 lower-case hexadecimal digits, no blob is
 * shorter than its overhead.
 */
import { sealOverheadBytes } from './crypto.ts'
import { idBytes } from './ids.ts'

/** An index as columns; ids are where their digits lie in `bytes`. */
export interface IndexColumns {
  readonly bytes: Buffer
  readonly packs: number
  readonly packIdAt: Uint32Array
  /** The blob after the pack's last one. */
  readonly packEnd: Uint32Array
  readonly blobs: number
  readonly idAt: Uint32Array
  readonly isTree: Uint8Array
  readonly offset: Uint32Array
  readonly length: Uint32Array
  /** Length of the plaintext, 0 where the blob is not compressed. */
  readonly plain: Uint32Array
}

const digits = idBytes * 2
const literal = (text: string) => Uint8Array.from(Buffer.from(text, 'latin1'))
const supersedes = literal('{"supersedes":[')
const packsAfterSupersedes = literal('],"packs":[')
const packsFirst = literal('{"packs":[')
const packBegin = literal('{"id":"')
const packBlobs = literal('","blobs":[')
const packClose = literal(']}')
const blobData = literal('","type":"data","offset":')
const blobTree = literal('","type":"tree","offset":')
const blobLength = literal(',"length":')
const blobPlain = literal(',"uncompressed_length":')
/** Least bytes of a blob's and of a pack's text: how many there can be. */
const blobTextMin = packBegin.length + digits + blobData.length + 1 + blobLength.length + 2 + 1
const packTextMin = packBegin.length + digits + packBlobs.length + packClose.length

const [quote, comma, braceClose, newline, zero, nine] = [0x22, 0x2c, 0x7d, 0x0a, 0x30, 0x39]

/** 1 for the digits of an id. */
const isDigit = new Uint8Array(256)
for (const char of '0123456789abcdef') isDigit[char.charCodeAt(0)] = 1

class Cursor {
  readonly bytes: Buffer
  at = 0
  /** The number that `number()` has read. */
  value = 0

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  is(byte: number): boolean {
    if (this.bytes[this.at] !== byte) return false
    this.at += 1
    return true
  }

  literal(expected: Uint8Array): boolean {
    const { bytes, at } = this
    for (let index = 0; index < expected.length; index += 1) {
      if (bytes[at + index] !== expected[index]) return false
    }
    this.at = at + expected.length
    return true
  }

  id(): boolean {
    const { bytes, at } = this
    if (at + digits > bytes.length) return false
    let all = 1
    for (let index = at; index < at + digits; index += 1) all &= isDigit[bytes[index] ?? 0] ?? 0
    this.at = at + digits
    return all === 1
  }

  /** A JSON number from 0 to 2^32 - 1, without sign, fraction, exponent or leading zero. */
  number(): boolean {
    const { bytes } = this
    const begin = this.at
    let { at } = this
    let value = 0
    for (let byte = bytes[at] ?? 0; byte >= zero && byte <= nine; byte = bytes[at] ?? 0) {
      value = value * 10 + (byte - zero)
      at += 1
      if (at - begin > 10) return false
    }
    if (at === begin || (bytes[begin] === zero && at - begin > 1) || value > 0xffff_ffff) return false
    this.at = at
    this.value = value
    return true
  }
}

/** Undefined where the document is not written as restic and we write it. */
export function scanIndex(bytes: Buffer): IndexColumns | undefined {
  const cursor = new Cursor(bytes)
  if (!scanHead(cursor)) return undefined
  const packsMax = Math.floor(bytes.length / packTextMin) + 1
  const blobsMax = Math.floor(bytes.length / blobTextMin) + 1
  const columns = {
    bytes,
    packs: 0,
    packIdAt: new Uint32Array(packsMax),
    packEnd: new Uint32Array(packsMax),
    blobs: 0,
    idAt: new Uint32Array(blobsMax),
    isTree: new Uint8Array(blobsMax),
    offset: new Uint32Array(blobsMax),
    length: new Uint32Array(blobsMax),
    plain: new Uint32Array(blobsMax),
  }
  if (!cursor.literal(packClose)) {
    do if (!scanPack(cursor, columns)) return undefined
    while (cursor.is(comma))
    if (!cursor.literal(packClose)) return undefined
  }
  cursor.is(newline)
  return cursor.at === bytes.length ? columns : undefined
}

type Filling = { -readonly [K in keyof IndexColumns]: IndexColumns[K] }

function scanHead(cursor: Cursor): boolean {
  if (cursor.literal(packsFirst)) return true
  if (!cursor.literal(supersedes)) return false
  do if (!cursor.is(quote) || !cursor.id() || !cursor.is(quote)) return false
  while (cursor.is(comma))
  return cursor.literal(packsAfterSupersedes)
}

function scanPack(cursor: Cursor, columns: Filling): boolean {
  if (!cursor.literal(packBegin)) return false
  columns.packIdAt[columns.packs] = cursor.at
  if (!cursor.id() || !cursor.literal(packBlobs)) return false
  if (!cursor.literal(packClose)) {
    do if (!scanBlob(cursor, columns)) return false
    while (cursor.is(comma))
    if (!cursor.literal(packClose)) return false
  }
  columns.packEnd[columns.packs] = columns.blobs
  columns.packs += 1
  return true
}

function scanBlob(cursor: Cursor, columns: Filling): boolean {
  const { blobs } = columns
  if (!cursor.literal(packBegin)) return false
  columns.idAt[blobs] = cursor.at
  if (!cursor.id()) return false
  if (!cursor.literal(blobData)) {
    if (!cursor.literal(blobTree)) return false
    columns.isTree[blobs] = 1
  }
  if (!cursor.number()) return false
  columns.offset[blobs] = cursor.value
  if (!cursor.literal(blobLength) || !cursor.number() || cursor.value < sealOverheadBytes) return false
  columns.length[blobs] = cursor.value
  if (cursor.literal(blobPlain)) {
    if (!cursor.number()) return false
    columns.plain[blobs] = cursor.value
  }
  columns.blobs += 1
  return cursor.is(braceClose)
}
