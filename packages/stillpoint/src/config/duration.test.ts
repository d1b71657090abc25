import fc from 'fast-check'
import { expect, test } from 'vitest'
import { durationText, parseDurationMs } from './duration.ts'

test.each([
  ['200ms', 200],
  ['8s', 8_000],
  ['1.5s', 1_500],
  ['1h30m', 5_400_000],
  ['1h 30min', 5_400_000],
  [' 2d ', 172_800_000],
  ['0s', 0],
])('%s is %i ms', (text, ms) => {
  expect(parseDurationMs(text)).toBe(ms)
})

test.each(['', '8', 's', '8 apples', '-1s', '8S', '1e3s', '9'.repeat(15).concat('d'), '1s'.repeat(3).concat('x')])(
  '%s is no duration',
  (text) => {
    expect(parseDurationMs(text)).toBeUndefined()
  },
)

test('what is written is read back', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 10 ** 12 }), (ms) => {
      expect(parseDurationMs(durationText(ms))).toBe(ms)
    }),
  )
})

test.each([
  [0, '0ms'],
  [1_500, '1s500ms'],
  [90_000, '1m30s'],
  [7_200_000, '2h'],
])('%i ms is written %s', (ms, text) => {
  expect(durationText(ms)).toBe(text)
})
