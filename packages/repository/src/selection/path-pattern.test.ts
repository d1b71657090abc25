import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { anyMatches, mayTellApartBelow, parsePattern } from './path-pattern.ts'

describe('patterns as restic has them', () => {
  test.each([
    ['*.go', '/foo/bar.go', true],
    ['*.go', '/foo/bar.go/below', true],
    ['*.go', '/foo/bar.gob', false],
    ['bar/*', '/foo/bar/x', true],
    ['foo/x', '/foo/bar/x', false],
    ['/foo', '/foo/bar', true],
    ['/bar', '/foo/bar', false],
    ['/foo/**/x', '/foo/a/b/x', true],
    ['/foo/**/x', '/foo/x', true],
    ['/foo/**', '/foo/a', true],
    ['/foo/**/x', '/fool/x', false],
    ['b?r', '/foo/bar', true],
    ['b[a-c]r', '/foo/bar', true],
    ['b[^a-c]r', '/foo/bar', false],
    ['b\\*r', '/foo/bar', false],
    ['b\\*r', '/b*r', true],
    ['a+(b)', '/a+(b)', true],
    ['/', '/anything', true],
  ])('%s and %s: %s', (pattern, path, matches) => {
    expect(parsePattern(pattern).matches(path)).toBe(matches)
  })
  test('what is no star stands for itself, whatever it is', () => {
    for (const name of ['node-modules', 'a~b&c#d@e%f=g', 'été', '🦊-x', '{a,b}', 'a b', '-', '<>"\'`;:!,']) {
      expect(parsePattern(name).matches(`/below/${name}`), name).toBe(true)
      expect(parsePattern(`*${name}*`).matches(`/x${name}y`), name).toBe(true)
    }
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), (text) => {
        const name = text.replaceAll(/[/*?[\\\0]/g, '_').replace(/^[!.]/, '_')
        expect(parsePattern(name).matches(`/${name}`)).toBe(true)
        expect(parsePattern([...name].map((char) => `\\${char}`).join('')).matches(`/${name}`)).toBe(true)
      }),
    )
    for (let code = 0x21; code < 0x7f; code += 1) {
      const char = String.fromCharCode(code)
      if (!'\\]^/'.includes(char)) expect(parsePattern(`x[${char}]`).matches(`/x${char}`), char).toBe(true)
    }
  })
  test('the case may be ignored, and the last pattern decides', () => {
    expect(parsePattern('*.JPG', { ignoreCase: true }).matches('/a.jpg')).toBe(true)
    const patterns = [parsePattern('*.log'), parsePattern('!keep.log')]
    expect(anyMatches(patterns, '/x/a.log')).toBe(true)
    expect(anyMatches(patterns, '/x/keep.log')).toBe(false)
  })
  test.each(['', '!', 'a[b', '[z-a]'])('%j is none', (pattern) => {
    expect(() => parsePattern(pattern)).toThrow('is no pattern')
  })
  test('a quoted star before a star is one of each', () => {
    expect(['/b*', '/b*x', '/bx'].map((path) => parsePattern('b\\**').matches(path))).toEqual([true, true, false])
  })
  test('as a dumb reader reads them', () => {
    const component = fc.oneof(
      fc.constant('**'),
      fc.string({ unit: fc.constantFrom(...'ab*?'), minLength: 1, maxLength: 6 }),
    )
    const name = fc.string({ unit: fc.constantFrom(...'ab'), minLength: 1, maxLength: 7 })
    const parts = fc.array(component, { minLength: 1, maxLength: 5 })
    fc.assert(
      fc.property(fc.boolean(), parts, fc.array(name, { maxLength: 6 }), (isRooted, pattern, components) => {
        const text = `${isRooted ? '/' : ''}${pattern.join('/')}`
        const starts = isRooted ? [0] : components.map((_, at) => at)
        const expected = starts.some((at) => readsPath(pattern, components.slice(at)))
        expect(parsePattern(text).matches(`/${components.join('/')}`)).toBe(expected)
      }),
      { numRuns: 2_000 },
    )
  })
  test('what need not be looked into has nothing that is told apart', () => {
    const part = fc.constantFrom('**', 'a', 'b', '*', 'a*', '[ab]')
    const text = fc
      .tuple(fc.constantFrom('', '!'), fc.constantFrom('', '/'), fc.array(part, { minLength: 1, maxLength: 4 }))
      .map(([negation, root, parts]) => `${negation}${root}${parts.join('/')}`)
    const names = fc.array(fc.constantFrom('a', 'b', 'ab', 'c'), { minLength: 1, maxLength: 5 })
    fc.assert(
      fc.property(fc.array(text, { minLength: 1, maxLength: 3 }), names, names, (texts, above, below) => {
        const patterns = texts.map((each) => parsePattern(each))
        const path = `/${above.join('/')}`
        const inside = anyMatches(patterns, `${path}/${below.join('/')}`)
        if (!mayTellApartBelow(patterns, path)) expect(inside).toBe(anyMatches(patterns, path))
      }),
      { numRuns: 5_000 },
    )
    const rooted = [parsePattern('/home/*/docs'), parsePattern('/etc/ssh')]
    expect(['/home', '/home/me', '/etc'].map((path) => mayTellApartBelow(rooted, path))).toEqual([true, true, true])
    const others = ['/var', '/home/me/src', '/home/me/docs', '/etc/ssh', '/etc/ssl']
    expect(others.map((path) => mayTellApartBelow(rooted, path))).toEqual([false, false, false, false, false])
  })
  // By trying all places of each star for each place of the others, each of them takes years.
  test.each([
    [`${'*'.repeat(40)}x`, `/${'a'.repeat(200)}`],
    [`${'*a'.repeat(20)}*x`, `/${'a'.repeat(200)}`],
    [`${'*?'.repeat(20)}*x*`, `/${'a'.repeat(200)}`],
    [`/${'**/a/'.repeat(20)}x`, '/a'.repeat(200)],
    [`${'**/a/'.repeat(20)}x`, '/a'.repeat(200)],
  ])('many stars take no time: %s', (text, path) => {
    expect(endsInTime(() => parsePattern(text).matches(path))).toBe(false)
    expect(endsInTime(() => parsePattern(text).matches(`${path}x`) || parsePattern(text).matches(`${path}/x`))).toBe(
      true,
    )
  })
})

/** A component against a part of a pattern, character by character. */
function readsComponent(part: string, component: string): boolean {
  if (part === '') return component === ''
  if (part[0] === '*') {
    return readsComponent(part.slice(1), component) || (component !== '' && readsComponent(part, component.slice(1)))
  }
  return (
    component !== '' &&
    (part[0] === '?' || part[0] === component[0]) &&
    readsComponent(part.slice(1), component.slice(1))
  )
}

function readsPath([part, ...rest]: readonly string[], components: readonly string[]): boolean {
  if (part === undefined) return true
  const [component, ...below] = components
  if (part === '**')
    return readsPath(rest, components) || (component !== undefined && readsPath([part, ...rest], below))
  return component !== undefined && readsComponent(part, component) && readsPath(rest, below)
}

/** Its answer; where it hangs, an error, and not a run of tests that hangs. */
function endsInTime(action: () => boolean): unknown {
  return runInNewContext('action()', { action }, { timeout: 20_000 })
}
