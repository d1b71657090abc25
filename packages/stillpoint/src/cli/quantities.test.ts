import { expect, test } from 'vitest'
import { bytesText, countdownText, elapsedText, plainText, timeText } from './quantities.ts'

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1024, '1.0 KiB'],
  [1024 * 1024 - 1, '1.0 MiB'],
  [1.5 * 1024 ** 3, '1.5 GiB'],
  [5 * 1024 ** 6, '5120.0 PiB'],
])('%d bytes: %s', (bytes, text) => {
  expect(bytesText(bytes)).toBe(text)
})

test.each([
  [0, '0 ms'],
  [0.42, '0.4 ms'],
  [9.94, '9.9 ms'],
  [12.4, '12 ms'],
  [999.6, '1.0 s'],
  [59_949, '59.9 s'],
  [59_960, '1 min 0 s'],
  [3_599_600, '1 h 0 min'],
  [7_240_000, '2 h 1 min'],
])('%d ms: %s', (ms, text) => {
  expect(elapsedText(ms)).toBe(text)
})

test.each([
  [-5, '0:00'],
  [1, '0:01'],
  [65_000, '1:05'],
  [3_723_000, '1:02:03'],
])('%d ms left: %s', (ms, text) => {
  expect(countdownText(ms)).toBe(text)
})

test('a time is shown in UTC, and what is none as it is', () => {
  expect(timeText('2026-11-21T07:39:25.123Z')).toBe('2026-11-21 07:39:25 UTC')
  expect(timeText('soon\u001b[2J')).toBe('soon�[2J')
})

test('text from elsewhere cannot steer the terminal', () => {
  expect(plainText('a\u001b[31mb\rc\u0007\u009bd\u202ee\nf')).toBe('a�[31mb�c��d�e\nf')
})
