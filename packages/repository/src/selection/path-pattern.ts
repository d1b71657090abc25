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
  /** The same of the components of a path. */
  holdsFor(components: readonly string[]): boolean
  /** Whether it may hold for something in the directory of these components, for which it does not hold. */
  mayHoldBelow(components: readonly string[]): boolean
}

/** @throws Failure `options_invalid` */
export function parsePattern(text: string, options: { readonly ignoreCase?: boolean } = {}): PathPattern {
  const isNegated = text.startsWith('!')
  const body = isNegated ? text.slice(1) : text
  const isRooted = body.startsWith('/')
  const parts = body.split('/').filter((part) => part !== '' && part !== '.')
  if (parts.length === 0 && !isRooted) throw invalid(text)
  const rows: ComponentTest[][] = [[]]
  for (const part of parts) {
    if (part === '**') rows.push([])
    else rows.at(-1)?.push(componentTest(part, { text, ...options }))
  }
  const holdsFor = (components: readonly string[]) => {
    return (isRooted || components.length > 0) && holdsInOrder(rows, components, isRooted)
  }
  const mayHoldBelow = (components: readonly string[]) => {
    return !isRooted || components.every((component, at) => rows[0]?.[at]?.test(component) ?? true)
  }
  return { text, isNegated, holdsFor, mayHoldBelow, matches: (path) => holdsFor(componentsOf(path)) }
}

/**
 * Each row as early as it can be: what stands between two of them may be anything, and so may what follows the last. Where
 * a row is found, no later place for it is better, so that none is tried again.
 */
function holdsInOrder(
  rows: readonly (readonly ComponentTest[])[],
  components: readonly string[],
  isRooted: boolean,
): boolean {
  let at = 0
  for (const [index, row] of rows.entries()) {
    const last = index === 0 && isRooted ? 0 : components.length - row.length
    while (at <= last && !row.every((test, offset) => test.test(components[at + offset] ?? ''))) at += 1
    if (at > last || at + row.length > components.length) return false
    at += row.length
  }
  return true
}

/** A regular expression, or several. */
export interface ComponentTest {
  test(component: string): boolean
}

export interface ComponentOptions {
  readonly text: string
  readonly ignoreCase?: boolean
}

/** @throws Failure `options_invalid` */
export function componentTest(part: string, { text, ignoreCase }: ComponentOptions): ComponentTest {
  const pieces = piecesOf(part, text)
  const flags = ignoreCase === true ? 'isu' : 'su'
  try {
    // With two stars and more, a regular expression would try each place of the one for each of the others.
    return pieces.length > 2 ? inOrder(pieces, flags) : new RegExp(`^${pieces.join('[^/]*')}$`, flags)
  } catch (cause) {
    throw invalid(text, cause)
  }
}

/** What stands between the stars, each of a fixed length, as regular expressions. */
function piecesOf(part: string, text: string): readonly string[] {
  const pieces: string[] = []
  let source = ''
  for (let at = 0; at < part.length; at += 1) {
    const char = part[at] ?? ''
    if (char === '*') {
      // A row of stars is one.
      if (source !== '' || pieces.length === 0) pieces.push(source)
      source = ''
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
  return [...pieces, source]
}

/** The first piece at the beginning, the last one at the end, and each between them where it comes first. */
function inOrder(pieces: readonly string[], flags: string): ComponentTest {
  const last = pieces.length - 1
  const searches = pieces.map((piece, at) => {
    if (at === 0) return new RegExp(piece, `${flags}y`)
    return new RegExp(at === last ? `${piece}$` : piece, `${flags}g`)
  })
  return {
    test(component) {
      let from = 0
      for (const search of searches) {
        search.lastIndex = from
        if (!search.test(component)) return false
        from = search.lastIndex
      }
      return true
    },
  }
}

function quoted(char: string): string {
  // Nothing else may be: a dash, for one, must not.
  return /[\\^$.*+?()[\]{}|/]/.test(char) ? `\\${char}` : char
}

/** `a-z`, `^a-z`. */
function classOf(body: string): string {
  const isInverse = body.startsWith('^')
  const members = (isInverse ? body.slice(1) : body).replace(/[\\[\]^|]/g, '\\$&')
  return `[${isInverse ? '^' : ''}${members}]`
}

function invalid(text: string, cause?: unknown): Failure {
  const message = `${JSON.stringify(text.slice(0, 80))} is no pattern for paths`
  return new Failure({ code: 'options_invalid', message, hint: 'See docs/repo.md.', cause })
}

const componentsOf = (path: string) => path.split('/').filter((component) => component !== '')

/** Whether the last pattern that matches is one that does not take back. */
export function anyMatches(patterns: readonly PathPattern[], path: string): boolean {
  if (patterns.length === 0) return false
  const components = componentsOf(path)
  let matched = false
  for (const pattern of patterns) if (pattern.holdsFor(components)) matched = !pattern.isNegated
  return matched
}

/**
 * Whether whoever looks for what patterns match must look into a directory: not where all in it is matched with it, nor
 * where nothing in it can be.
 */
export function mayTellApartBelow(patterns: readonly PathPattern[], path: string): boolean {
  if (patterns.some(({ isNegated }) => isNegated)) return true
  const components = componentsOf(path)
  return !anyMatches(patterns, path) && patterns.some((pattern) => pattern.mayHoldBelow(components))
}
