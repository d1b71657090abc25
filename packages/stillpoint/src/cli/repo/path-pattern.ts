/**
 * Patterns for paths as restic has them: `*`, `?`, `[…]` within a component, `**` for any number of components. A pattern
 * that begins with "/" is for the whole path from the root, another for any row of components in it; both also hold for
 * what lies below. Pure.
 */
import { Failure } from '@stillpoint/core/kernel'

export interface PathPattern {
  readonly text: string
  /** Begins with "!": what it matches is taken back. */
  readonly isNegated: boolean
  matches(path: string): boolean
}

/** @throws Failure `options_invalid` */
export function parsePattern(text: string, options: { readonly ignoreCase?: boolean } = {}): PathPattern {
  const isNegated = text.startsWith('!')
  const body = isNegated ? text.slice(1) : text
  const isRooted = body.startsWith('/')
  const parts = body.split('/').filter((part) => part !== '' && part !== '.')
  if (parts.length === 0 && !isRooted) throw invalid(text)
  const tests = parts.map((part) => (part === '**' ? part : componentTest(part, { text, ...options })))
  return {
    text,
    isNegated,
    matches(path) {
      const components = path.split('/').filter((component) => component !== '')
      if (isRooted) return matchesAt(tests, components)
      return components.some((_, at) => matchesAt(tests, components.slice(at)))
    },
  }
}

type Test = '**' | RegExp

/** The tests hold for the first components; what follows lies below. */
function matchesAt(tests: readonly Test[], components: readonly string[]): boolean {
  const [test, ...rest] = tests
  if (test === undefined) return true
  if (test === '**') return components.some((_, at) => matchesAt(rest, components.slice(at))) || rest.length === 0
  const [component, ...below] = components
  return component !== undefined && test.test(component) && matchesAt(rest, below)
}

export interface ComponentOptions {
  readonly text: string
  readonly ignoreCase?: boolean
}

export function componentTest(part: string, { text, ignoreCase }: ComponentOptions): RegExp {
  let source = ''
  for (let at = 0; at < part.length; at += 1) {
    const char = part[at] ?? ''
    if (char === '*') {
      if (part[at - 1] !== '*') source += '[^/]*' // a row of them is one: nothing to try again and again
    } else if (char === '?') source += '[^/]'
    else if (char === '\\') {
      at += 1
      source += quoted(part[at] ?? '\\')
    } else if (char === '[') {
      const end = part.indexOf(']', at + 2)
      if (end === -1) throw invalid(text)
      source += classOf(part.slice(at + 1, end))
      at = end
    } else source += quoted(char)
  }
  try {
    return new RegExp(`^${source}$`, ignoreCase === true ? 'isu' : 'su')
  } catch (cause) {
    throw invalid(text, cause)
  }
}

function quoted(char: string): string {
  return /[\\^$.*+?()[\]{}|/-]/.test(char) ? `\\${char}` : char
}

/** `a-z`, `^a-z`. */
function classOf(body: string): string {
  const isInverse = body.startsWith('^')
  const members = (isInverse ? body.slice(1) : body).replace(/[\\[\]^&|~]/g, '\\$&')
  return `[${isInverse ? '^' : ''}${members}]`
}

function invalid(text: string, cause?: unknown): Failure {
  const message = `${JSON.stringify(text.slice(0, 80))} is no pattern for paths`
  return new Failure({ code: 'options_invalid', message, hint: 'See docs/repo.md.', cause })
}

/** Whether the last pattern that matches is one that does not take back. */
export function anyMatches(patterns: readonly PathPattern[], path: string): boolean {
  let matched = false
  for (const pattern of patterns) if (pattern.matches(path)) matched = !pattern.isNegated
  return matched
}
