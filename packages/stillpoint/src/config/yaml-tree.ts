/**
 * A YAML text as plain values, with the place in the text of every key and value.
 *
 * Owns: syntax errors, what of YAML is accepted, and bounds on what hostile input can cost.
 * Does not own: what the values mean.
 *
 * Invariants:
 * - Work and memory are bounded: by the text's size before, by `nodesMax` values and `depthMax` levels after aliases
 *   are followed. An alias bomb ends at that bound.
 * - Values are what JSON can say. Objects have no prototype.
 * - No message quotes a value of the text: it may be a secret in the wrong place.
 */
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, type Node, type Pair, parseDocument } from 'yaml'

export const nodesMax = 20_000
export const depthMax = 32

export interface Place {
  /** From 1. */
  readonly line: number
  /** From 1, in UTF-16 units. */
  readonly column: number
}

export type TreePath = readonly (string | number)[]

export interface YamlProblem {
  readonly place: Place
  /** What is wrong, as the beginning of a sentence that ends in a place. */
  readonly what: string
  readonly hint?: string
}

export interface YamlTree {
  readonly value: unknown
  readonly problems: readonly YamlProblem[]
  /** Where the value stands; where it is not there, the nearest one around it. */
  placeOf(path: TreePath): Place
  /** Where the key stands, for the last step of the path. */
  placeOfKey(path: TreePath): Place
}

interface Walk {
  readonly document: Document
  readonly placeAt: (offset: number) => Place
  readonly problems: YamlProblem[]
  readonly keyOffsets: Map<string, number>
  readonly valueOffsets: Map<string, number>
  nodes: number
}

export function readYaml(text: string): YamlTree {
  const lines = new LineCounter()
  const placeAt = (offset: number): Place => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(1, line), column: Math.max(1, col) }
  }
  const document = parse(text, lines)
  const keyOffsets = new Map<string, number>()
  const valueOffsets = new Map<string, number>()
  const problems: YamlProblem[] = []
  let value: unknown = null
  if (document === 'too deep') {
    problems.push({ place: { line: 1, column: 1 }, what: 'values nested too deeply', hint: 'nest at most 32 levels' })
  } else {
    for (const error of [...document.errors, ...document.warnings]) {
      problems.push({ place: placeAt(error.pos[0]), ...syntaxProblem(error.code, error.message) })
    }
    // A tree with syntax errors is the parser's guess: errors about its content would mislead.
    if (problems.length === 0) {
      const walk = { document, placeAt, problems, keyOffsets, valueOffsets, nodes: 0 }
      value = plainValue(walk, document.contents, [], [])
    }
  }
  const placeOf = (path: TreePath): Place => {
    for (let length = path.length; length >= 0; length--) {
      const offset = valueOffsets.get(JSON.stringify(path.slice(0, length)))
      if (offset !== undefined) return placeAt(offset)
    }
    return { line: 1, column: 1 }
  }
  const placeOfKey = (path: TreePath): Place => {
    const offset = keyOffsets.get(JSON.stringify(path))
    return offset === undefined ? placeOf(path) : placeAt(offset)
  }
  return { value, problems, placeOf, placeOfKey }
}

function parse(text: string, lineCounter: LineCounter): Document | 'too deep' {
  try {
    // prettyErrors would quote the text. `core` knows no tags that make other objects than JSON's.
    return parseDocument(text, {
      lineCounter,
      prettyErrors: false,
      uniqueKeys: true,
      schema: 'core',
      logLevel: 'error',
    })
  } catch (error) {
    // The parser recurses: a text of brackets only ends the stack, and that is the text's fault.
    if (error instanceof RangeError) return 'too deep'
    throw error
  }
}

function syntaxProblem(code: string, message: string): { what: string; hint?: string } {
  switch (code) {
    case 'DUPLICATE_KEY':
      return { what: 'a key that is there twice', hint: 'keep one of the two' }
    case 'MULTIPLE_DOCS':
      return { what: 'a second document', hint: 'take out the "---" and what follows it' }
    case 'TAB_AS_INDENT':
      return { what: 'a tab as indentation', hint: 'indent with spaces' }
    case 'TAG_RESOLVE_FAILED':
      return { what: 'a tag that is not known', hint: 'write the value without "!"' }
    case 'BAD_ALIAS':
      return { what: 'an alias without its anchor' }
    case 'RESOURCE_EXHAUSTION':
      return { what: 'values nested too deeply', hint: `nest at most ${depthMax} levels` }
    default: {
      // The parser's messages name rules and tokens; what they quote beyond that is cut off.
      const [rule = ''] = message.split(/[:"'`]/, 1)
      return { what: `invalid YAML (${rule.trim()})` }
    }
  }
}

function plainValue(walk: Walk, node: unknown, path: TreePath, within: readonly Node[]): unknown {
  const target = resolved(walk, node, path, within)
  if (target === undefined) return null
  const key = JSON.stringify(path)
  if (!walk.valueOffsets.has(key)) walk.valueOffsets.set(key, target.range?.[0] ?? 0)
  if (isMap(target)) return plainMap(walk, target.items, path, [...within, target])
  if (isSeq(target)) {
    const inner = [...within, target]
    return target.items.map((item, index) => plainValue(walk, item, [...path, index], inner))
  }
  return isScalar(target) ? plainScalar(walk, target.value, path) : null
}

/** The node itself, or what the alias stands for; undefined where it is refused, which is then a problem. */
function resolved(walk: Walk, node: unknown, path: TreePath, within: readonly Node[]): Node | undefined {
  if (!isMap(node) && !isSeq(node) && !isScalar(node) && !isAlias(node)) return undefined
  const offset = node.range?.[0] ?? 0
  walk.nodes += 1
  if (walk.nodes > nodesMax) {
    // Once is enough: from here on every node would say so again.
    if (walk.nodes === nodesMax + 1) {
      const hint = 'aliases count each time that they are used'
      walk.problems.push({ place: walk.placeAt(offset), what: `more than ${nodesMax} values`, hint })
    }
    return undefined
  }
  if (path.length > depthMax) {
    walk.problems.push({
      place: walk.placeAt(offset),
      what: 'values nested too deeply',
      hint: `nest at most ${depthMax} levels`,
    })
    return undefined
  }
  if (!isAlias(node)) return node
  const target = node.resolve(walk.document)
  if (target === undefined) {
    walk.problems.push({ place: walk.placeAt(offset), what: 'an alias without its anchor' })
    return undefined
  }
  if (within.includes(target)) {
    walk.problems.push({ place: walk.placeAt(offset), what: 'an alias inside what it stands for' })
    return undefined
  }
  walk.valueOffsets.set(JSON.stringify(path), offset)
  return target
}

function plainMap(walk: Walk, items: readonly Pair[], path: TreePath, within: readonly Node[]): unknown {
  const result: Record<string, unknown> = Object.create(null)
  for (const { key, value } of items) {
    const offset = isScalar(key) ? (key.range?.[0] ?? 0) : 0
    const name =
      isScalar(key) && (typeof key.value === 'string' || typeof key.value === 'number') ? String(key.value) : ''
    if (name === '' || name === '__proto__') {
      const place = isScalar(key) ? walk.placeAt(offset) : walk.placeAt(nodeOffset(key))
      walk.problems.push({ place, what: 'a key that is not a plain name' })
      continue
    }
    if (name in result) {
      walk.problems.push({ place: walk.placeAt(offset), ...syntaxProblem('DUPLICATE_KEY', '') })
      continue
    }
    const inner = [...path, name]
    walk.keyOffsets.set(JSON.stringify(inner), offset)
    result[name] = plainValue(walk, value, inner, within)
    // An empty value has no place of its own: its key's is nearest.
    if (!walk.valueOffsets.has(JSON.stringify(inner))) walk.valueOffsets.set(JSON.stringify(inner), offset)
  }
  return result
}

function nodeOffset(node: unknown): number {
  return isMap(node) || isSeq(node) || isAlias(node) ? (node.range?.[0] ?? 0) : 0
}

function plainScalar(walk: Walk, value: unknown, path: TreePath): unknown {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
  if (typeof value === 'number' && Number.isFinite(value)) return value
  const offset = walk.valueOffsets.get(JSON.stringify(path)) ?? 0
  walk.problems.push({
    place: walk.placeAt(offset),
    what: 'a value that is not text, a finite number, true, false or null',
  })
  return null
}
