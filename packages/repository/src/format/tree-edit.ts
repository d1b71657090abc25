/**
 * Owns changing single fields of a stored tree and keeping every other byte of it: fields that this program does not
 * know (attributes of other systems, those of later versions), numbers that it has no room for, the order of all.
 *
 * Invariants: 1. what is not named by an edit is the same, byte by byte. 2. The result decodes to the edited nodes: where a
 * name occurs twice in a node, the last one is changed, which is the one that counts. The document must have been decoded
 * before: nothing here is validated again.
 */
import { assert } from '@stillpoint/core/kernel'
import type { BlobId, TreeId } from './ids.ts'

export type NodeEdit =
  | { readonly kind: 'keep' }
  | { readonly kind: 'remove' }
  | { readonly kind: 'subtree'; readonly subtree: TreeId }
  | { readonly kind: 'content'; readonly content: readonly BlobId[]; readonly bytes: number }

/** Where a value begins and ends. */
interface Span {
  readonly start: number
  readonly end: number
}

/** @param edits one for each node, in the order in which they are stored */
export function editTree(tree: Buffer, edits: readonly NodeEdit[]): Buffer {
  const nodes = memberOf(tree, { start: skipSpace(tree, 0), end: tree.length }, 'nodes')
  const spans = nodes === undefined ? [] : [...elementsOf(tree, nodes)]
  assert(spans.length === edits.length, 'there is an edit for each node')
  const [first, last] = [spans[0], spans.at(-1)]
  if (first === undefined || last === undefined) return tree
  const kept = spans.flatMap((span, at) => {
    const edit = edits[at]
    return edit === undefined || edit.kind === 'remove' ? [] : [editNode(tree, span, edit)]
  })
  const between = Buffer.from(',')
  const parts = kept.flatMap((node, at) => (at === 0 ? [node] : [between, node]))
  return Buffer.concat([tree.subarray(0, first.start), ...parts, tree.subarray(last.end)])
}

function editNode(tree: Buffer, span: Span, edit: Exclude<NodeEdit, { kind: 'remove' }>): Buffer {
  const node = tree.subarray(span.start, span.end)
  switch (edit.kind) {
    case 'keep':
      return node
    case 'subtree':
      return setMember(node, 'subtree', JSON.stringify(edit.subtree))
    case 'content':
      return setMember(setMember(node, 'size', `${edit.bytes}`), 'content', JSON.stringify(edit.content))
  }
}

/** Of an object that is all there is. What it does not have yet comes last. */
function setMember(object: Buffer, name: string, json: string): Buffer {
  const old = memberOf(object, { start: 0, end: object.length }, name)
  if (old !== undefined)
    return Buffer.concat([object.subarray(0, old.start), Buffer.from(json), object.subarray(old.end)])
  const end = object.length - 1
  const isEmpty = skipSpace(object, 1) === end
  return Buffer.concat([object.subarray(0, end), Buffer.from(`${isEmpty ? '' : ','}"${name}":${json}}`)])
}

/** The value of the last member of that name. */
function memberOf(json: Buffer, object: Span, name: string): Span | undefined {
  let found: Span | undefined
  let at = skipSpace(json, object.start + 1)
  while (json[at] !== braceClose) {
    const key = { start: at, end: skipValue(json, at) }
    const colon = skipSpace(json, key.end)
    const start = skipSpace(json, colon + 1)
    const end = skipValue(json, start)
    if (JSON.parse(json.toString('utf8', key.start, key.end)) === name) found = { start, end }
    at = next(json, end)
  }
  return found
}

/** None of `null`. */
function* elementsOf(json: Buffer, array: Span): Generator<Span> {
  if (json[array.start] !== bracketOpen) return
  let at = skipSpace(json, array.start + 1)
  while (json[at] !== bracketClose) {
    const end = skipValue(json, at)
    yield { start: at, end }
    at = next(json, end)
  }
}

const [quote, backslash, comma, braceOpen, braceClose, bracketOpen, bracketClose] = [...Buffer.from('"\\,{}[]')]

/** Behind a comma, if there is one. */
function next(json: Buffer, end: number): number {
  const at = skipSpace(json, end)
  return json[at] === comma ? skipSpace(json, at + 1) : at
}

function skipSpace(json: Buffer, from: number): number {
  let at = from
  while (at < json.length && (json[at] ?? 0) <= 0x20) at += 1
  assert(at < json.length, 'a document that was decoded has an end')
  return at
}

function skipString(json: Buffer, from: number): number {
  let at = from + 1
  while (json[at] !== quote) {
    assert(at < json.length, 'a string that was decoded has an end')
    at += json[at] === backslash ? 2 : 1
  }
  return at + 1
}

function skipValue(json: Buffer, from: number): number {
  let depth = 0
  let at = from
  do {
    const byte = json[at]
    assert(byte !== undefined, 'a value that was decoded has an end')
    if (byte === quote) {
      at = skipString(json, at)
      continue
    }
    if (byte === braceOpen || byte === bracketOpen) depth += 1
    else if (byte === braceClose || byte === bracketClose) depth -= 1
    else if (depth === 0) return skipScalar(json, at)
    at += 1
  } while (depth > 0)
  return at
}

/** A number, `true`, `false` or `null`. */
function skipScalar(json: Buffer, from: number): number {
  let at = from
  for (;;) {
    const byte = json[at] ?? 0
    if (byte <= 0x20 || byte === comma || byte === braceClose || byte === bracketClose) return at
    at += 1
  }
}
