/**
 * Owns finding where each entry begins and ends in the document of a tree, and where the ids of its content lie: of a
 * document as restic and we write it, without white space. Of anything else it says nothing.
 *
 * Invariants: 1. the document is exactly `{"nodes":[`, entries with commas between them, `]}`, and perhaps a newline; an
 * entry goes from a brace to the one that closes it, as far as strings and brackets tell. Whether what is inside is JSON
 * is not found out here. 2. Content is only told of an entry that has this field once, with ids in it and nothing else.
 */
import { idBytes } from '../format/ids.ts'
import { createWordSegments } from '../index-memory/segments.ts'

export interface NodeCut {
  readonly begin: number
  /** After the closing brace. */
  readonly end: number
  /** The first digit of the first id; where `count` is 0 it means nothing. */
  readonly contentAt: number
  /** Of ids that lie `contentStride` apart. */
  readonly count: number
}

export interface TreeCuts {
  readonly nodes: number
  at(node: number): NodeCut
}

const digits = idBytes * 2
/** Digits, two quotes and a comma. */
export const contentStride = digits + 3

/** Where the bracket is that closes the content. */
export const contentEnd = (contentAt: number, count: number): number => contentAt + count * contentStride - 2

const literal = (text: string) => Uint8Array.from(Buffer.from(text, 'latin1'))
const head = literal('{"nodes":[')
const contentField = literal('"content":')
const [quote, backslash, comma, colon, newline] = [0x22, 0x5c, 0x2c, 0x3a, 0x0a]
const [braceOpen, braceClose, bracketOpen, bracketClose] = [0x7b, 0x7d, 0x5b, 0x5d]

/** 1 for the digits of an id. */
const isDigit = new Uint8Array(256)
for (const char of '0123456789abcdef') isDigit[char.charCodeAt(0)] = 1

/** Undefined where the document is not written as restic and we write it. */
export function cutTree(bytes: Buffer): TreeCuts | undefined {
  if (!isAt(bytes, 0, head)) return undefined
  const cuts = createWordSegments(4)
  const scan: Scan = { bytes, contentAt: 0, count: 0 }
  let nodes = 0
  let at = head.length
  if (bytes[at] !== bracketClose) {
    for (;;) {
      const end = endOfNode(scan, at)
      if (end < 0) return undefined
      cuts.reserve(nodes)
      cuts.set(nodes, 0, at)
      cuts.set(nodes, 1, end)
      cuts.set(nodes, 2, scan.contentAt)
      cuts.set(nodes, 3, scan.count)
      nodes += 1
      at = end
      if (bytes[at] !== comma) break
      at += 1
    }
  }
  if (bytes[at] !== bracketClose || bytes[at + 1] !== braceClose) return undefined
  at += 2
  if (bytes[at] === newline) at += 1
  if (at !== bytes.length) return undefined
  const word = (node: number, which: number) => cuts.get(node, which)
  return {
    nodes,
    at: (node) => ({ begin: word(node, 0), end: word(node, 1), contentAt: word(node, 2), count: word(node, 3) }),
  }
}

interface Scan {
  readonly bytes: Buffer
  contentAt: number
  count: number
}

/** After the entry that begins there, whose content is in `scan` then; -1 where it is unusual or has no end. */
function endOfNode(scan: Scan, begin: number): number {
  const { bytes } = scan
  if (bytes[begin] !== braceOpen) return -1
  let depth = 0
  let hasContent = false
  scan.count = 0
  for (let at = begin; at < bytes.length; ) {
    const byte = bytes[at]
    if (byte === quote) {
      const end = endOfString(bytes, at)
      if (end < 0) return -1
      if (depth === 1 && !isPlain(bytes, at, end)) return -1
      const isContent = depth === 1 && end - at + 1 === contentField.length && isAt(bytes, at, contentField)
      at = end
      if (!isContent) continue
      // Of two fields of one name the last would count.
      if (hasContent) return -1
      hasContent = true
      at = endOfContent(scan, end + 1)
      continue
    }
    at += 1
    if (byte === braceOpen || byte === bracketOpen) depth += 1
    else if (byte === braceClose || byte === bracketClose) {
      depth -= 1
      if (depth === 0) return at
    }
  }
  return -1
}

/** After the closing quote of the string that begins there; -1 where there is none. */
function endOfString(bytes: Buffer, begin: number): number {
  for (let at = begin + 1; at < bytes.length; at += 1) {
    const byte = bytes[at]
    if (byte === quote) return at + 1
    if (byte === backslash) at += 1
  }
  return -1
}

/** Whether a string is followed by what is written behind one without white space, and is no field's name in disguise. */
function isPlain(bytes: Buffer, begin: number, end: number): boolean {
  const next = bytes[end]
  if (next === comma || next === braceClose) return true
  if (next !== colon) return false
  for (let at = begin; at < end; at += 1) if (bytes[at] === backslash) return false
  return true
}

/** After the list of ids, which are in `scan` then; the same place where there are none, or something else. */
function endOfContent(scan: Scan, begin: number): number {
  const { bytes } = scan
  if (bytes[begin] !== bracketOpen) return begin
  let count = 0
  for (let at = begin + 1; ; at += contentStride) {
    const end = at + digits + 2
    if (end >= bytes.length || bytes[at] !== quote || bytes[end - 1] !== quote) return begin
    let all = 1
    for (let digit = at + 1; digit <= at + digits; digit += 1) all &= isDigit[bytes[digit] ?? 0] ?? 0
    if (all === 0) return begin
    count += 1
    if (bytes[end] === comma) continue
    if (bytes[end] !== bracketClose) return begin
    scan.contentAt = begin + 2
    scan.count = count
    return end + 1
  }
}

function isAt(bytes: Buffer, at: number, expected: Uint8Array): boolean {
  for (let index = 0; index < expected.length; index += 1) if (bytes[at + index] !== expected[index]) return false
  return true
}
