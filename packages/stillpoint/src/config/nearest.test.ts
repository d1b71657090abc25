import fc from 'fast-check'
import { expect, test } from 'vitest'
import { editDistance, nearestWord } from './nearest.ts'

test.each([
  ['repositry', 'repository'],
  ['prot', 'port'],
  ['HOST', 'host'],
  ['hots', 'host'],
  ['colour', undefined],
  ['x', undefined],
  ['y'.repeat(10_000), undefined],
])('%s: %s', (word, expected) => {
  expect(nearestWord(word, ['repository', 'port', 'host', 'stateDir'])).toBe(expected)
})

test('the distance is symmetric, zero for equals, and at most the longer length', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 12 }), fc.string({ maxLength: 12 }), (a, b) => {
      expect(editDistance(a, b)).toBe(editDistance(b, a))
      expect(editDistance(a, a)).toBe(0)
      expect(editDistance(a, b)).toBeLessThanOrEqual(Math.max(a.length, b.length))
      expect(editDistance(a, b) === 0).toBe(a === b)
    }),
  )
})
