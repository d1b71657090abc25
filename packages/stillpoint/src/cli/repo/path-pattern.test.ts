import { describe, expect, test } from 'vitest'
import { anyMatches, parsePattern } from './path-pattern.ts'

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
  test('the case may be ignored, and the last pattern decides', () => {
    expect(parsePattern('*.JPG', { ignoreCase: true }).matches('/a.jpg')).toBe(true)
    const patterns = [parsePattern('*.log'), parsePattern('!keep.log')]
    expect(anyMatches(patterns, '/x/a.log')).toBe(true)
    expect(anyMatches(patterns, '/x/keep.log')).toBe(false)
  })
  test.each(['', '!', 'a[b', '[z-a]'])('%j is none', (pattern) => {
    expect(() => parsePattern(pattern)).toThrow('is no pattern')
  })
  test('many stars take no time', () => {
    const startMs = performance.now()
    expect(parsePattern(`${'*'.repeat(40)}x`).matches(`/${'a'.repeat(200)}`)).toBe(false)
    expect(performance.now() - startMs).toBeLessThan(500)
  })
})
