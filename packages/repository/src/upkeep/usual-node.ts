/**
 * Owns reading an entry of a tree that is written as restic and we write those of files, directories and links, where it
 * lies: its name, and what it refers to. All other fields are looked at and nothing is made of them, which takes a tenth of
 * what decoding them takes.
 *
 * Invariant: what is taken here, `decodeTree` takes, and says the same of it. Of anything else nothing is said.
 */
import { idBytes } from '../format/ids.ts'
import { contentEnd, type NodeCut } from './cut-tree.ts'

export interface UsualNode {
  readonly type: (typeof types)[number]['type']
  readonly name: string
  /** Of a file. */
  readonly bytes: number
  /** Where the digits of the id of a directory's tree begin. */
  readonly subtreeAt: number
}

const literal = (text: string) => Uint8Array.from(Buffer.from(text, 'latin1'))
const nameField = literal('{"name":"')
const types = (['file', 'dir', 'symlink'] as const).map((type) => ({ type, field: literal(`,"type":"${type}"`) }))
const modeField = literal(',"mode":')
const timeFields = ['mtime', 'atime', 'ctime'].map((name) => literal(`,"${name}":"`))
const ownerFields = ['uid', 'gid'].map((name) => literal(`,"${name}":`))
const nameFields = ['user', 'group'].map((name) => literal(`,"${name}":"`))
const fileFields = ['inode', 'device_id'].map((name) => literal(`,"${name}":`))
const sizeField = literal(',"size":')
const linksField = literal(',"links":')
const targetField = literal(',"linktarget":"')
const attributesField = literal(',"extended_attributes":[')
const attributeName = literal('{"name":"')
const attributeValue = literal(',"value":"')
const contentField = literal(',"content":')
const noContent = literal('null')
const subtreeField = literal(',"subtree":"')

const digitsPerId = idBytes * 2
/** Any number of so many digits is exact. */
const numberDigitsMax = 15
const base64 = /^[A-Za-z0-9+/]*={0,2}$/
const [quote, backslash, zero, space, comma] = [0x22, 0x5c, 0x30, 0x20, 0x2c]
const [braceClose, bracketClose] = [0x7d, 0x5d]
const [colon, dash, dot, timeMark, zulu] = [0x3a, 0x2d, 0x2e, 0x54, 0x5a]

/** The entry that was cut there, if it is written as usual. */
export function usualNode(bytes: Buffer, cut: NodeCut): UsualNode | undefined {
  const nameAt = after(bytes, cut.begin, nameField)
  const nameEnd = afterString(bytes, nameAt)
  const type = types.find(({ field }) => after(bytes, nameEnd, field) >= 0)
  if (type === undefined) return undefined
  const metadataEnd = afterMetadata(bytes, nameEnd + type.field.length)
  const sizeAt = after(bytes, metadataEnd, sizeField)
  const sizeEnd = sizeAt < 0 ? metadataEnd : afterDigits(bytes, sizeAt)
  let at = afterNumber(bytes, sizeEnd, linksField)
  if (type.type === 'symlink') at = afterString(bytes, after(bytes, at, targetField))
  at = after(bytes, afterAttributes(bytes, at), contentField)
  if (type.type === 'file' && cut.count > 0 && cut.contentAt === at + 2) at = contentEnd(cut.contentAt, cut.count) + 1
  else at = after(bytes, at, noContent)
  let subtreeAt = 0
  if (type.type === 'dir') {
    subtreeAt = after(bytes, at, subtreeField)
    at = afterId(bytes, subtreeAt)
  }
  if (at < 0 || bytes[at] !== braceClose || at + 1 !== cut.end) return undefined
  const size = sizeAt < 0 ? 0 : numberIn(bytes, sizeAt, sizeEnd)
  return { type: type.type, name: textIn(bytes, nameAt, nameEnd - 1), bytes: size, subtreeAt }
}

/** Each of these takes a place and gives the one behind what it is for: -1 where that is not there, or from -1. */
function after(bytes: Buffer, at: number, expected: Uint8Array): number {
  if (at < 0) return -1
  for (let index = 0; index < expected.length; index += 1) if (bytes[at + index] !== expected[index]) return -1
  return at + expected.length
}

/** What stands between the type and the size. */
function afterMetadata(bytes: Buffer, begin: number): number {
  let at = afterNumber(bytes, begin, modeField)
  for (const field of timeFields) at = afterTime(bytes, after(bytes, at, field))
  for (const field of ownerFields) at = afterDigits(bytes, after(bytes, at, field))
  for (const field of nameFields) {
    const value = after(bytes, at, field)
    if (value >= 0) at = afterString(bytes, value)
  }
  for (const field of fileFields) at = afterNumber(bytes, at, field)
  return at
}

/** Extended attributes, which may be left out. */
function afterAttributes(bytes: Buffer, begin: number): number {
  let at = after(bytes, begin, attributesField)
  if (at < 0) return begin
  for (;;) {
    at = afterString(bytes, after(bytes, at, attributeName))
    at = afterBase64(bytes, after(bytes, at, attributeValue))
    if (at < 0 || bytes[at] !== braceClose) return -1
    at += 2
    if (bytes[at - 1] === bracketClose) return at
    if (bytes[at - 1] !== comma) return -1
  }
}

/** The rest of a string of base64, with its closing quote. */
function afterBase64(bytes: Buffer, begin: number): number {
  const end = afterString(bytes, begin)
  return end >= 0 && base64.test(bytes.toString('latin1', begin, end - 1)) ? end : -1
}

/** A field with a number that may be left out. */
function afterNumber(bytes: Buffer, at: number, field: Uint8Array): number {
  const value = after(bytes, at, field)
  return value < 0 ? at : afterDigits(bytes, value)
}

function afterDigits(bytes: Buffer, begin: number): number {
  if (begin < 0) return -1
  let at = begin
  while (isDigit(bytes[at])) at += 1
  const count = at - begin
  return count === 0 || count > numberDigitsMax || (count > 1 && bytes[begin] === zero) ? -1 : at
}

/** The rest of a string, with its closing quote, in which nothing is escaped. */
function afterString(bytes: Buffer, begin: number): number {
  if (begin < 0) return -1
  for (let at = begin; at < bytes.length; at += 1) {
    const byte = bytes[at] ?? 0
    if (byte === quote) return at + 1
    if (byte === backslash || byte < space) return -1
  }
  return -1
}

function afterId(bytes: Buffer, begin: number): number {
  if (begin < 0) return -1
  const end = begin + digitsPerId
  for (let at = begin; at < end; at += 1) {
    const byte = bytes[at] ?? 0
    if (!isDigit(byte) && !(byte >= 0x61 && byte <= 0x66)) return -1
  }
  return bytes[end] === quote ? end + 1 : -1
}

/** A time as format/timestamp.ts reads it, in UTC or with an offset, and its closing quote. */
function afterTime(bytes: Buffer, begin: number): number {
  if (begin < 0 || twoDigits(bytes, begin) < 0 || twoDigits(bytes, begin + 2) < 0) return -1
  const [month, day] = [twoDigits(bytes, begin + 5), twoDigits(bytes, begin + 8)]
  if (bytes[begin + 4] !== dash || bytes[begin + 7] !== dash || bytes[begin + 10] !== timeMark) return -1
  if (month < 1 || month > 12 || day < 1 || day > 31 || !isTimeOfDay(bytes, begin + 11)) return -1
  if (bytes[begin + 16] !== colon) return -1
  const seconds = twoDigits(bytes, begin + 17)
  if (seconds < 0 || seconds > 59) return -1
  let at = begin + 19
  if (bytes[at] === dot) {
    const decimals = at + 1
    do at += 1
    while (isDigit(bytes[at]))
    if (at === decimals || at > decimals + 9) return -1
  }
  const zone = bytes[at]
  if (zone === zulu) at += 1
  else if ((zone === 0x2b || zone === dash) && isTimeOfDay(bytes, at + 1)) at += 6
  else return -1
  return bytes[at] === quote ? at + 1 : -1
}

/** `HH:MM` */
function isTimeOfDay(bytes: Buffer, at: number): boolean {
  const [hours, minutes] = [twoDigits(bytes, at), twoDigits(bytes, at + 3)]
  return hours >= 0 && hours <= 23 && minutes >= 0 && minutes <= 59 && bytes[at + 2] === colon
}

function twoDigits(bytes: Buffer, at: number): number {
  const [tens, ones] = [bytes[at] ?? 0, bytes[at + 1] ?? 0]
  return isDigit(tens) && isDigit(ones) ? (tens - zero) * 10 + ones - zero : -1
}

const isDigit = (byte: number | undefined): boolean => byte !== undefined && byte >= zero && byte <= 0x39

function numberIn(bytes: Buffer, begin: number, end: number): number {
  let value = 0
  for (let at = begin; at < end; at += 1) value = value * 10 + (bytes[at] ?? 0) - zero
  return value
}

function textIn(bytes: Buffer, begin: number, end: number): string {
  for (let at = begin; at < end; at += 1) if ((bytes[at] ?? 0) >= 0x80) return bytes.toString('utf8', begin, end)
  return bytes.toString('latin1', begin, end)
}
