import { expect, test } from 'vitest'
import { systemClock, systemEntropy, systemRandom } from './system-env.ts'

test('wakes after the delay, never before, and not when it is cancelled', async () => {
  const startMs = systemClock.monotonicMs()
  let wrong = false
  const cancel = systemClock.after(5, () => {
    wrong = true
  })
  cancel()
  await new Promise<void>((wake) => systemClock.after(30, wake))
  expect(systemClock.monotonicMs() - startMs).toBeGreaterThanOrEqual(29)
  expect(wrong).toBe(false)
})

test('a delay longer than a timer can wait does not fire at once', async () => {
  let fired = false
  const cancel = systemClock.after(2 ** 31 + 1_000, () => {
    fired = true
  })
  await new Promise<void>((wake) => systemClock.after(20, wake))
  cancel()
  expect(fired).toBe(false)
})

test('chance and entropy differ from call to call', () => {
  const drawn = new Set(Array.from({ length: 64 }, () => systemRandom.uint32()))
  expect(drawn.size).toBeGreaterThan(60)
  for (const value of drawn) expect(Number.isInteger(value) && value >= 0 && value < 2 ** 32).toBe(true)
  const bytes = new Uint8Array(64)
  systemEntropy.fill(bytes)
  expect(new Set(bytes).size).toBeGreaterThan(20)
})
