/**
 * Owns writing a directory of a snapshot as a zip archive, as PKWARE's APPNOTE 6.3.10 has it, with Zip64 where sizes or
 * counts need it, and Info-ZIP's extra fields for times (0x5455) and owners (0x7875). Does not own where it goes.
 *
 * It is written in one go, and read by nobody before it is complete: what is in it is listed at its end. Of each entry its
 * part of that list is kept in memory.
 */
import { isUtf8 } from 'node:buffer'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { crc32, createDeflateRaw, deflateRaw } from 'node:zlib'
import { Failure, type TreeId } from '@stillpoint/core/kernel'
import { bytesFromName } from '../format/node-name.ts'
import type { TreeNode } from '../format/tree.ts'
import type { Vault } from '../vault.ts'
import { type ArchiveEntry, archiveEntries, entryContent } from './archive-entries.ts'

const deflateAtOnce = promisify(deflateRaw)

/** Files up to this size are compressed before anything of them is written, so that their lengths stand before them. */
const atOnceBytesMax = 1 << 20
/** From here on the content might get longer than 32 bits can say, however badly it compresses. */
const wideBytesDefault = 0xf000_0000
const max16 = 0xffff
const max32 = 0xffff_ffff

const signatures = { local: 0x0403_4b50, descriptor: 0x0807_4b50, central: 0x0201_4b50, end: 0x0605_4b50 } as const
const wideSignatures = { end: 0x0606_4b50, locator: 0x0706_4b50 } as const
/** Unix, so that the attributes are modes; and the version that has Zip64. */
const madeBy = (3 << 8) | 45
const flagBits = { lengthsFollow: 1 << 3, utf8: 1 << 11 } as const
const methods = { stored: 0, deflated: 8 } as const

const typeModes: Readonly<Partial<Record<TreeNode['type'], number>>> = {
  file: 0o100_000,
  dir: 0o040_000,
  symlink: 0o120_000,
}

interface Entry {
  readonly node: TreeNode
  readonly name: Buffer
  readonly mode: number
  /** Where it begins in the archive. */
  readonly offset: number
  readonly method: number
  readonly flags: number
  readonly crc: number
  readonly bytes: number
  readonly storedBytes: number
  readonly isWide: boolean
}

export interface ZipOptions {
  readonly signal?: AbortSignal
  /** For tests: from which size on lengths have 64 bits. */
  readonly wideBytesMin?: number
}

/**
 * Pieces of the archive. Devices, pipes and sockets are left out: zip has no form for them.
 * @throws Failure `tree_unsafe` (a name that leads elsewhere), `object_damaged` (a size that is not the content's),
 *   `options_invalid` (a path that is longer than zip can say), …
 */
export async function* zipOf(vault: Vault, root: TreeId, options: ZipOptions = {}): AsyncGenerator<Uint8Array> {
  const { signal, wideBytesMin = wideBytesDefault } = options
  const list = createList()
  let offset = 0
  for await (const entry of archiveEntries(vault, root, signal)) {
    const mode = typeModes[entry.node.type]
    if (mode === undefined) continue
    const begin = beginOf(entry, mode, offset)
    const pieces = piecesOf(vault, { begin, entry, wideBytesMin }, signal)
    for (;;) {
      const { done, value } = await pieces.next()
      if (done === true) {
        list.add(centralRecord(value))
        break
      }
      offset += value.length
      yield value
    }
  }
  yield* list.pieces()
  yield endOf({ entries: list.entries, offset, bytes: list.bytes })
}

/** Longer than any record: 46 bytes, a name of 16 bits, and extra fields. */
const listPieceBytes = 1 << 18

/** The list at the end, in few large pieces: a buffer for each entry would take more memory than what is in it. */
function createList() {
  const full: Buffer[] = []
  let piece = Buffer.alloc(listPieceBytes)
  let filled = 0
  const list = { entries: 0, bytes: 0, add, pieces: () => [...full, piece.subarray(0, filled)] }
  function add(record: Buffer): void {
    if (filled + record.length > piece.length) {
      full.push(piece.subarray(0, filled))
      piece = Buffer.alloc(listPieceBytes)
      filled = 0
    }
    filled += record.copy(piece, filled)
    list.entries += 1
    list.bytes += record.length
  }
  return list
}

function beginOf({ node, path }: ArchiveEntry, mode: number, offset: number): Entry {
  const name = bytesFromName(node.type === 'dir' ? `${path}/` : path)
  if (name.length > max16) {
    const message = `a path of ${name.length} bytes cannot be in a zip archive: ${JSON.stringify(path.slice(0, 80))}…`
    throw new Failure({ code: 'options_invalid', message, hint: 'Write a tar archive, which has them of any length.' })
  }
  const nothing = { method: methods.stored, flags: isUtf8(name) ? flagBits.utf8 : 0, crc: 0, bytes: 0, storedBytes: 0 }
  return { node, name, mode: mode | (node.permissions & 0o7777), offset, isWide: false, ...nothing }
}

interface Writing {
  readonly begin: Entry
  readonly entry: ArchiveEntry
  readonly wideBytesMin: number
}

/** Header and content; returns what the list at the end says of it. */
async function* piecesOf(
  vault: Vault,
  { begin, entry, wideBytesMin }: Writing,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, Entry> {
  const { node, path } = entry
  if (node.type !== 'file') return yield* whole(begin, node.type === 'symlink' ? bytesFromName(node.target) : empty)
  const content = entryContent(vault, { node, path }, signal)
  if (node.bytes > atOnceBytesMax) return yield* streamed({ ...begin, isWide: node.bytes >= wideBytesMin }, content)
  const pieces: Uint8Array[] = []
  for await (const piece of content) pieces.push(piece)
  return yield* whole(begin, Buffer.concat(pieces))
}

const empty = Buffer.alloc(0)

async function* whole(begin: Entry, content: Buffer): AsyncGenerator<Uint8Array, Entry> {
  const deflated = content.length === 0 ? content : await deflateAtOnce(content)
  const isSmaller = deflated.length < content.length
  const stored = isSmaller ? deflated : content
  const method = isSmaller ? methods.deflated : methods.stored
  const sizes = { crc: crc32(content), bytes: content.length, storedBytes: stored.length }
  const entry: Entry = { ...begin, method, ...sizes }
  yield localHeader(entry)
  yield stored
  return entry
}

/** What is not known before it is written follows it. */
async function* streamed(begin: Entry, content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, Entry> {
  const entry: Entry = { ...begin, method: methods.deflated, flags: begin.flags | flagBits.lengthsFollow }
  yield localHeader(entry)
  let crc = 0
  let bytes = 0
  let storedBytes = 0
  async function* counted() {
    for await (const piece of content) {
      crc = crc32(piece, crc)
      bytes += piece.length
      yield piece
    }
  }
  const deflate = createDeflateRaw()
  const fed = pipeline(counted(), deflate)
  // What goes wrong there ends `deflate` with the same error, and by that the loop below.
  fed.catch(() => undefined)
  for await (const piece of deflate as AsyncIterable<Buffer>) {
    storedBytes += piece.length
    yield piece
  }
  await fed
  const ended: Entry = { ...entry, crc, bytes, storedBytes }
  yield descriptor(ended)
  return ended
}

function localHeader(entry: Entry): Buffer {
  const { name, isWide, flags } = entry
  const isKnown = (flags & flagBits.lengthsFollow) === 0
  // Zeros where the lengths follow; a reader goes by the extra field for how long the numbers behind it are.
  const wide = isWide ? extraField(0x0001, [wideNumber(0), wideNumber(0)]) : empty
  const extra = Buffer.concat([wide, ...unixFields(entry.node)])
  const header = Buffer.alloc(30)
  header.writeUInt32LE(signatures.local, 0)
  writeCommon(header, 4, entry)
  header.writeUInt32LE(isKnown ? entry.crc : 0, 14)
  header.writeUInt32LE(isWide ? max32 : isKnown ? entry.storedBytes : 0, 18)
  header.writeUInt32LE(isWide ? max32 : isKnown ? entry.bytes : 0, 22)
  header.writeUInt16LE(name.length, 26)
  header.writeUInt16LE(extra.length, 28)
  return Buffer.concat([header, name, extra])
}

/** Version, flags, method and time: the same in both headers. */
function writeCommon(header: Buffer, at: number, { isWide, flags, method, node }: Entry): void {
  header.writeUInt16LE(isWide ? 45 : 20, at)
  header.writeUInt16LE(flags, at + 2)
  header.writeUInt16LE(method, at + 4)
  const { time, date } = dosTime(node)
  header.writeUInt16LE(time, at + 6)
  header.writeUInt16LE(date, at + 8)
}

function descriptor({ crc, bytes, storedBytes, isWide }: Entry): Buffer {
  const head = Buffer.alloc(8)
  head.writeUInt32LE(signatures.descriptor, 0)
  head.writeUInt32LE(crc, 4)
  const number = isWide ? wideNumber : narrowNumber
  return Buffer.concat([head, number(storedBytes), number(bytes)])
}

function centralRecord(entry: Entry): Buffer {
  const { node, name, mode, offset, crc, bytes, storedBytes } = entry
  // In this order, and only those that do not fit.
  const wide = [bytes, storedBytes, offset].filter((value) => value >= max32).map(wideNumber)
  const extra = Buffer.concat([wide.length === 0 ? empty : extraField(0x0001, wide), ...unixFields(node)])
  const record = Buffer.alloc(46)
  record.writeUInt32LE(signatures.central, 0)
  record.writeUInt16LE(madeBy, 4)
  writeCommon(record, 6, { ...entry, isWide: entry.isWide || wide.length > 0 })
  record.writeUInt32LE(crc, 16)
  record.writeUInt32LE(Math.min(max32, storedBytes), 20)
  record.writeUInt32LE(Math.min(max32, bytes), 24)
  record.writeUInt16LE(name.length, 28)
  record.writeUInt16LE(extra.length, 30)
  // The mode, and for DOS whether it is a directory.
  record.writeUInt32LE(mode * 2 ** 16 + (node.type === 'dir' ? 0x10 : 0), 38)
  record.writeUInt32LE(Math.min(max32, offset), 42)
  return Buffer.concat([record, name, extra])
}

interface Listed {
  readonly entries: number
  /** Where the list begins, and how long it is. */
  readonly offset: number
  readonly bytes: number
}

function endOf({ entries, offset, bytes }: Listed): Buffer {
  const end = Buffer.alloc(22)
  end.writeUInt32LE(signatures.end, 0)
  end.writeUInt16LE(Math.min(max16, entries), 8)
  end.writeUInt16LE(Math.min(max16, entries), 10)
  end.writeUInt32LE(Math.min(max32, bytes), 12)
  end.writeUInt32LE(Math.min(max32, offset), 16)
  if (entries < max16 && bytes < max32 && offset < max32) return end
  const wide = Buffer.alloc(56)
  wide.writeUInt32LE(wideSignatures.end, 0)
  wide.writeBigUInt64LE(44n, 4)
  wide.writeUInt16LE(madeBy, 12)
  wide.writeUInt16LE(45, 14)
  wide.writeBigUInt64LE(BigInt(entries), 24)
  wide.writeBigUInt64LE(BigInt(entries), 32)
  wide.writeBigUInt64LE(BigInt(bytes), 40)
  wide.writeBigUInt64LE(BigInt(offset), 48)
  const locator = Buffer.alloc(20)
  locator.writeUInt32LE(wideSignatures.locator, 0)
  locator.writeBigUInt64LE(BigInt(offset + bytes), 8)
  locator.writeUInt32LE(1, 16)
  return Buffer.concat([wide, locator, end])
}

/** Modification time to the second, which DOS has to two and in no known zone; owner and group. */
function unixFields({ mtime, uid, gid }: TreeNode): readonly Buffer[] {
  const fields: Buffer[] = []
  const seconds = Number(mtime / 1_000_000_000n)
  if (seconds >= 0 && seconds < 2 ** 31) fields.push(extraField(0x5455, [Buffer.of(1), narrowNumber(seconds)]))
  fields.push(extraField(0x7875, [Buffer.of(1, 4), narrowNumber(uid), Buffer.of(4), narrowNumber(gid)]))
  return fields
}

function extraField(id: number, parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts)
  const head = Buffer.alloc(4)
  head.writeUInt16LE(id, 0)
  head.writeUInt16LE(body.length, 2)
  return Buffer.concat([head, body])
}

function narrowNumber(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function wideNumber(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

/** In UTC; from 1980 to 2107. */
function dosTime({ mtime }: TreeNode): { readonly time: number; readonly date: number } {
  const ms = Math.min(Math.max(Number(mtime / 1_000_000n), Date.UTC(1980)), Date.UTC(2107, 11, 31, 23, 59, 58))
  const at = new Date(ms)
  return {
    time: (at.getUTCHours() << 11) | (at.getUTCMinutes() << 5) | (at.getUTCSeconds() >> 1),
    date: ((at.getUTCFullYear() - 1980) << 9) | ((at.getUTCMonth() + 1) << 5) | at.getUTCDate(),
  }
}
