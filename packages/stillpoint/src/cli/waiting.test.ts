import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../system-env.ts'
import { nextRun, sleep } from './waiting.ts'

describe('a schedule', () => {
  test.each([
    [0, 1_000, 1],
    [999, 1_000, 1],
    [1_000, 2_000, 2],
    [3_500, 4_000, 4],
  ])('at %i ms the next run is at %i', (nowMs, atMs, runs) => {
    expect(nextRun({ startMs: 0, everyMs: 1_000, nowMs })).toEqual({ atMs, runs })
  })

  test('never drifts: every run is a whole number of periods after the start, in the future, and the nearest one', () => {
    const times = fc.record({
      startMs: fc.integer({ min: 0, max: 10 ** 9 }),
      everyMs: fc.integer({ min: 1_000, max: 10 ** 8 }),
      passedMs: fc.integer({ min: 0, max: 10 ** 10 }),
    })
    fc.assert(
      fc.property(times, ({ startMs, everyMs, passedMs }) => {
        const nowMs = startMs + passedMs
        const { atMs, runs } = nextRun({ startMs, everyMs, nowMs })
        expect((atMs - startMs) % everyMs).toBe(0)
        expect((atMs - startMs) / everyMs).toBe(runs)
        expect(atMs).toBeGreaterThan(nowMs)
        expect(atMs - nowMs).toBeLessThanOrEqual(everyMs)
      }),
    )
  })
})

describe('sleeping', () => {
  test('ends with the signal and leaves no timer', async () => {
    const abort = new AbortController()
    const slept = sleep(systemClock, 60_000, abort.signal)
    abort.abort(new Error('stopped'))
    await expect(slept).rejects.toThrow('stopped')
    await expect(sleep(systemClock, 60_000, abort.signal)).rejects.toThrow('stopped')
  })
})
