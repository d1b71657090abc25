/**
 * Owns names of files, which are bytes. In memory a name is a string; bytes that are not UTF-8 are carried as the lone
 * surrogates U+DC80 to U+DCFF, one per byte (Python's PEP 383), so that any name survives the round trip.
 * In a tree a name is stored as a quoted string of the Go language (The Go Programming Language Specification, "String
 * literals") without its quotes, inside a JSON string.
 */
import { isUtf8 } from 'node:buffer'
import { Failure } from '@stillpoint/core/kernel'
import { DamageError, sound } from './damage.ts'

const escapeBase = 0xdc00

/** A name from the bytes that the operating system knows it by. */
export function nameFromBytes(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (isUtf8(buffer)) return buffer.toString('utf8')
  let name = ''
  for (let at = 0; at < buffer.length; ) {
    const length = utf8LengthAt(buffer, at)
    name +=
      length === 0 ? String.fromCharCode(escapeBase + (buffer[at] ?? 0)) : buffer.toString('utf8', at, at + length)
    at += Math.max(1, length)
  }
  return name
}

/** The bytes of a name. @throws Failure `name_invalid` for lone surrogates that stand for no byte */
export function bytesFromName(name: string): Buffer {
  if (name.isWellFormed()) return Buffer.from(name, 'utf8')
  const parts: Buffer[] = []
  for (const char of name) {
    const code = char.codePointAt(0) ?? 0
    if (!isSurrogate(code)) parts.push(Buffer.from(char, 'utf8'))
    else if (isEscapedByte(code)) parts.push(Buffer.of(code - escapeBase))
    else throw new Failure({ code: 'name_invalid', message: `${JSON.stringify(name)} cannot be the name of a file` })
  }
  return Buffer.concat(parts)
}

/** Whether the name is bytes that are not UTF-8. */
export function hasRawBytes(name: string): boolean {
  return !name.isWellFormed()
}

/** Length of the UTF-8 character at a position, 0 where there is none. */
function utf8LengthAt(buffer: Buffer, at: number): number {
  for (let length = 1; length <= 4 && at + length <= buffer.length; length += 1) {
    if (isUtf8(buffer.subarray(at, at + length))) return length
  }
  return 0
}

const isSurrogate = (code: number) => code >= 0xd800 && code <= 0xdfff
const isEscapedByte = (code: number) => code >= escapeBase + 0x80 && code <= escapeBase + 0xff

/** Letters, marks, numbers, punctuation, symbols and the ASCII space are written as they are. */
const printable = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u
const plainName = /^[A-Za-z0-9 !#$%'()*+,\-./:;=?@[\]^_`{|}~]*$/
const shortEscapes: Readonly<Record<string, string>> = {
  '\x07': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
  '\\': '\\\\',
  '"': '\\"',
}

/** A name as it stands in a tree, before JSON. */
export function quoteName(name: string): string {
  if (plainName.test(name)) return name
  let quoted = ''
  for (const char of name) quoted += shortEscapes[char] ?? quoteCharacter(char)
  return quoted
}

function quoteCharacter(char: string): string {
  const code = char.codePointAt(0) ?? 0
  if (isEscapedByte(code)) return `\\x${(code - escapeBase).toString(16)}`
  if (printable.test(char)) return char
  if (code < 0x20 || code === 0x7f) return `\\x${code.toString(16).padStart(2, '0')}`
  if (code < 0x10000) return `\\u${code.toString(16).padStart(4, '0')}`
  return `\\U${code.toString(16).padStart(8, '0')}`
}

const escapeSequence = /^\\(?:([abfnrtv\\"])|x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))/
const escapedLetters: Readonly<Record<string, number>> = {
  a: 7,
  b: 8,
  f: 12,
  n: 10,
  r: 13,
  t: 9,
  v: 11,
  '\\': 0x5c,
  '"': 0x22,
}

/** @throws DamageError */
export function unquoteName(quoted: string): string {
  if (plainName.test(quoted)) return quoted
  const parts: Buffer[] = []
  for (let at = 0; at < quoted.length; ) {
    const backslash = quoted.indexOf('\\', at)
    const end = backslash === -1 ? quoted.length : backslash
    const literal = quoted.slice(at, end)
    sound(!/["\n]/.test(literal), 'a name is not quoted as it must be')
    parts.push(Buffer.from(literal, 'utf8'))
    if (backslash === -1) break
    const match = escapeSequence.exec(quoted.slice(backslash, backslash + 10))
    if (match === null) throw new DamageError('a name has an unknown escape sequence')
    parts.push(bytesOfEscape(match))
    at = backslash + match[0].length
  }
  return nameFromBytes(Buffer.concat(parts))
}

function bytesOfEscape(match: RegExpExecArray): Buffer {
  const [, letter, hex, octal, short, long] = match
  if (letter !== undefined) return Buffer.of(escapedLetters[letter] ?? 0)
  if (hex !== undefined) return Buffer.of(Number.parseInt(hex, 16))
  if (octal !== undefined) {
    const byte = Number.parseInt(octal, 8)
    sound(byte <= 0xff, 'a name has an octal escape out of range')
    return Buffer.of(byte)
  }
  const code = Number.parseInt(short ?? long ?? '', 16)
  sound(code <= 0x10ffff && !isSurrogate(code), 'a name has an escape that is no character')
  return Buffer.from(String.fromCodePoint(code), 'utf8')
}
