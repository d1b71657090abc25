/**
 * What is wrong with a configuration, in words: the schema's issues joined with the place in the text.
 *
 * Owns: the wording, suggestions for typing errors, the order. Does not own: the rules, which are the schemas'.
 *
 * Invariant: no message quotes a value, only keys: a password in the wrong place stays out of logs.
 */
import { z } from 'zod'
import { nearestWord } from './nearest.ts'
import type { Place, TreePath, YamlTree } from './yaml-tree.ts'

export interface ConfigProblem {
  readonly place: Place
  /** The sentence without the place: `unknown key "repositry"`. */
  readonly what: string
  /** What to do: `did you mean "repository"?` */
  readonly hint?: string
}

/** `unknown key "repositry" at stillpoint.yaml:3:1; did you mean "repository"?` */
export function problemText(problem: ConfigProblem, file: string): string {
  const { line, column } = problem.place
  return `${problem.what} at ${file}:${line}:${column}${problem.hint === undefined ? '' : `; ${problem.hint}`}`
}

export interface IssueContext {
  readonly tree: YamlTree
  /** Where the checked value stands in the tree. */
  readonly base: TreePath
  /** The keys that are allowed at a path below `base`. */
  readonly keysAt: (path: TreePath) => readonly string[]
}

export function problemsOf(issues: readonly z.core.$ZodIssue[], context: IssueContext): readonly ConfigProblem[] {
  return issues.flatMap((issue) => {
    const below = issue.path.map((step) => (typeof step === 'symbol' ? String(step) : step))
    const path = [...context.base, ...below]
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => unknownKey(key, path, context.keysAt(below), context.tree))
    }
    if (issue.code === 'invalid_type' && valueAt(context.tree.value, path) === undefined) {
      return [missingKey(path, `it must be ${expectation(issue.expected)}`, context.tree)]
    }
    if (valueAt(context.tree.value, path) === undefined && issue.code !== 'custom') {
      return [missingKey(path, issue.message.replace(/^must/, 'it must'), context.tree)]
    }
    const place = context.tree.placeOf(path)
    const subject = path.length === 0 ? 'the file' : shownPath(path)
    return [{ place, ...issueText(issue, subject, valueAt(context.tree.value, path)) }]
  })
}

export function unknownKey(key: string, path: TreePath, known: readonly string[], tree: YamlTree): ConfigProblem {
  const place = tree.placeOfKey([...path, key])
  const what = `unknown key ${JSON.stringify(shortened(key))}`
  if (/pass(word|wd)?$|secret|token/i.test(key) && known.includes('passwordFile')) {
    return { place, what, hint: 'passwords are read from a file or a command: use "passwordFile" or "passwordCommand"' }
  }
  const near = nearestWord(key, known)
  if (near !== undefined) return { place, what, hint: `did you mean ${JSON.stringify(near)}?` }
  return known.length === 0 ? { place, what } : { place, what, hint: `known here: ${[...known].sort().join(', ')}` }
}

function missingKey(path: TreePath, hint: string, tree: YamlTree): ConfigProblem {
  const around = path.slice(0, -1)
  const where = around.length === 0 ? '' : ` in ${shownPath(around)}`
  const place = around.length === 0 ? tree.placeOf(around) : tree.placeOfKey(around)
  return { place, what: `missing key ${JSON.stringify(String(path.at(-1)))}${where}`, hint }
}

function issueText(issue: z.core.$ZodIssue, subject: string, value: unknown): { what: string; hint?: string } {
  switch (issue.code) {
    case 'invalid_type':
      return { what: `${subject} must be ${expectation(issue.expected)}, but is ${kindOf(value)}` }
    case 'invalid_value': {
      const known = issue.values.map(String)
      const near = typeof value === 'string' ? nearestWord(value, known) : undefined
      // A literal's own message (`must be 1, …`) says more than the list of one.
      if (issue.message.startsWith('must ')) return { what: `${subject} ${issue.message}` }
      const what = `${subject} must be ${known.length === 1 ? known[0] : `one of ${known.join(', ')}`}`
      return near === undefined ? { what } : { what, hint: `did you mean ${JSON.stringify(near)}?` }
    }
    case 'too_small':
    case 'too_big':
      return { what: `${subject} ${boundText(issue)}` }
    case 'invalid_union': {
      if (issue.message.startsWith('must ')) return { what: `${subject} ${issue.message}` }
      const kinds = issue.errors.flatMap(([first]) =>
        first?.code === 'invalid_type' ? [expectation(first.expected)] : [],
      )
      const expected = [...new Set(kinds)].join(' or ')
      return {
        what: expected === '' ? `${subject} is not valid` : `${subject} must be ${expected}, but is ${kindOf(value)}`,
      }
    }
    case 'custom':
      return { what: `${subject}${/^(must|needs|may|is|has) /.test(issue.message) ? ' ' : ': '}${issue.message}` }
    default:
      return { what: `${subject}: ${issue.message}` }
  }
}

type BoundIssue = z.core.$ZodIssueTooSmall | z.core.$ZodIssueTooBig

function boundText(issue: BoundIssue): string {
  const small = issue.code === 'too_small'
  const bound = small ? Number(issue.minimum) : Number(issue.maximum)
  if (issue.origin === 'string') {
    if (small && bound === 1) return 'must not be empty'
    return `must have at ${small ? 'least' : 'most'} ${bound} characters`
  }
  if (issue.origin === 'array') {
    if (small && bound === 1) return 'must not be an empty list'
    return `must have at ${small ? 'least' : 'most'} ${bound} entries`
  }
  return `must be at ${small ? 'least' : 'most'} ${bound}`
}

const expectations: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a map of keys and values',
  record: 'a map of keys and values',
  null: 'empty',
}

function expectation(expected: string): string {
  return expectations[expected] ?? expected
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return 'empty'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'string') return 'text'
  if (typeof value === 'number') return Number.isInteger(value) ? 'a whole number' : 'a number with a fraction'
  return typeof value === 'boolean' ? 'true or false' : 'a map'
}

/** `participants.orders-db.port`, `writers[1]`; long keys are shortened. */
export function shownPath(path: TreePath): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === 'number') return `${text}[${step}]`
    const shown = /^[\w-]{1,64}$/.test(step) ? step : JSON.stringify(shortened(step))
    return text === '' ? shown : `${text}.${shown}`
  }, '')
}

function shortened(text: string): string {
  return text.length > 60 ? `${text.slice(0, 60)}…` : text
}

function valueAt(value: unknown, path: TreePath): unknown {
  let current = value
  for (const step of path) {
    if (current === null || typeof current !== 'object' || !Object.hasOwn(current, step)) return undefined
    current = Reflect.get(current, step)
  }
  return current
}

/** The keys that a schema allows at a path, over all alternatives. Through JSON Schema: zod's own shape is not public. */
export function keysAllowed(schema: z.ZodType, path: TreePath): readonly string[] {
  let nodes: unknown[] = [z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })]
  for (const step of path) nodes = nodes.flatMap((node) => alternatives(node)).flatMap((node) => stepInto(node, step))
  const keys = nodes
    .flatMap((node) => alternatives(node))
    .flatMap((node) => Object.keys(property(node, 'properties') ?? {}))
  return [...new Set(keys)]
}

function property(node: unknown, key: string): object | undefined {
  if (node === null || typeof node !== 'object') return undefined
  const value: unknown = Reflect.get(node, key)
  return value !== null && typeof value === 'object' ? value : undefined
}

function alternatives(node: unknown): unknown[] {
  const groups = ['anyOf', 'oneOf', 'allOf'].flatMap((key) => {
    const group = property(node, key)
    return Array.isArray(group) ? group.flatMap((item: unknown) => alternatives(item)) : []
  })
  return [node, ...groups]
}

function stepInto(node: unknown, step: string | number): unknown[] {
  const child = typeof step === 'number' ? property(node, 'items') : property(property(node, 'properties'), step)
  const other = property(node, 'additionalProperties')
  return child === undefined ? (other === undefined ? [] : [other]) : [child]
}
