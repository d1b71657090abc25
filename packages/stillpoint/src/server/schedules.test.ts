/** The schedule with a clock that the test moves, over a real catalog. */
import { type Clock, Failure } from '@stillpoint/core/kernel'
import { temporaryDirectory } from '@stillpoint/testbed'
import { expect, test } from 'vitest'
import { openSqliteCatalog, type SqliteCatalog } from '../catalog/sqlite-catalog.ts'
import type { OperationContext, Operations, SnapshotDetail, TakeRequest } from '../coordinator/operations.ts'
import { createLiveEvents } from './live-events.ts'
import { createRunningOperations } from './running-operations.ts'
import { scheduleName, startSchedule } from './schedules.ts'
import { detail, scriptedOperations, summary } from './workbench.ts'

const everyMs = 60_000
const hourMs = 3_600_000

/** Time stands still until `advance`, which fires what is due, in order, and lets what follows from it happen. */
function movableClock(startWallMs: number) {
  let nowMs = 0
  let wallMs = startWallMs
  const timers = new Set<{ readonly atMs: number; readonly wake: () => void }>()
  const clock: Clock = {
    monotonicMs: () => nowMs,
    wallMs: () => wallMs,
    after(delayMs, wake) {
      const timer = { atMs: nowMs + delayMs, wake }
      timers.add(timer)
      return () => timers.delete(timer)
    },
  }
  return {
    clock,
    delays: () => [...timers].map(({ atMs }) => atMs - nowMs),
    jumpWall: (deltaMs: number) => {
      wallMs += deltaMs
    },
    async advance(deltaMs: number, lateMs = 0) {
      const endMs = nowMs + deltaMs
      for (;;) {
        const next = [...timers].filter(({ atMs }) => atMs <= endMs).sort((a, b) => a.atMs - b.atMs)[0]
        if (next === undefined) break
        timers.delete(next)
        const atMs = Math.max(nowMs, next.atMs + lateMs)
        wallMs += atMs - nowMs
        nowMs = atMs
        next.wake()
        await settled()
      }
      wallMs += Math.max(0, endMs - nowMs)
      nowMs = Math.max(nowMs, endMs)
      await settled()
    },
  }
}

/** Lets promises and the catalog's answers run out. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise<void>((resolve) => setImmediate(resolve))
}

interface Bench {
  readonly time: ReturnType<typeof movableClock>
  readonly catalog: SqliteCatalog
  readonly notes: string[]
  readonly start: (take: Operations['take'], more?: Partial<Operations>) => ReturnType<typeof startSchedule>
}

async function withBench(body: (bench: Bench) => Promise<void>, period: number | null = everyMs): Promise<void> {
  await using directory = await temporaryDirectory('schedule')
  const catalog = openSqliteCatalog({ directory: directory.path, note: () => {} })
  const time = movableClock(Date.parse('2026-03-01T00:00:00Z'))
  const notes: string[] = []
  const events = createLiveEvents(() => time.clock.wallMs())
  const running = createRunningOperations(events)
  const config = { system: 'shop', schedule: period === null ? null : { everyMs: period } }
  const log = ({ message }: { message: string }) => void notes.push(message)
  await body({
    time,
    catalog,
    notes,
    start: (take, more = {}) => {
      const operations = scriptedOperations({ take, ...more })
      return startSchedule({ config, catalog, operations, running, clock: time.clock, events, log, settleMs: 1_000 })
    },
  })
  await catalog.close()
}

/** Notes when it was called. */
function recorder(time: Bench['time']) {
  const at: number[] = []
  const requests: TakeRequest[] = []
  const take = async (request: TakeRequest): Promise<SnapshotDetail> => {
    requests.push(request)
    at.push(time.clock.monotonicMs())
    return detail
  }
  return { at, requests, take }
}

test('runs at a fixed rate: lateness of timers and length of runs do not add up', async () => {
  await withBench(async ({ time, start }) => {
    const { at, requests, take } = recorder(time)
    const schedule = await start(take)
    for (let round = 0; round < 10; round++) await time.advance(everyMs, 700)
    expect(at).toHaveLength(10)
    // Each is late by what its own timer was late, and by nothing of those before.
    for (const [index, atMs] of at.entries()) expect(atMs - index * everyMs).toBe(1_700)
    expect(requests[0]).toEqual({ allowInconsistent: false, tags: ['scheduled'] })
    schedule.stop()
    await time.advance(10 * everyMs)
    expect(at).toHaveLength(10)
  })
})

test('a run that is due while one is under way is skipped, and noted', async () => {
  await withBench(async ({ time, notes, start }) => {
    let finish = () => {}
    let begun = 0
    const take = async () => {
      begun += 1
      await new Promise<void>((resolve) => {
        finish = resolve
      })
      return detail
    }
    const schedule = await start(take)
    await time.advance(1_000 + 2.5 * everyMs)
    expect(begun).toBe(1)
    expect(notes.filter((note) => note.includes('still being taken'))).toHaveLength(2)
    finish()
    await time.advance(0)
    await time.advance(everyMs)
    expect(begun).toBe(2)
    schedule.stop()
    finish()
  })
})

test('a failure is reported, another operation at work is a skip, and the schedule goes on', async () => {
  await withBench(async ({ time, notes, start }) => {
    const failures = [
      new Failure({ code: 'participant_timeout', message: 'orders did not answer' }),
      new Failure({ code: 'system_busy', message: 'a restore is under way', retry: 'later' }),
      new Error('a bug'),
    ]
    let runs = 0
    const take = async () => {
      const failure = failures[runs]
      runs += 1
      if (failure !== undefined) throw failure
      return detail
    }
    const schedule = await start(take)
    await time.advance(1_000 + 3 * everyMs)
    expect(runs).toBe(4)
    const said = notes.filter((note) => note.includes('cheduled snapshot') && !note.includes('due in'))
    expect(said).toEqual([
      'A scheduled snapshot failed: orders did not answer',
      'A scheduled snapshot was skipped: a restore is under way',
      'A scheduled snapshot failed: a bug',
      expect.stringContaining('was taken: consistent'),
    ])
    schedule.stop()
  })
})

test('goes on after a restart where it was: from the catalog', async () => {
  await withBench(async ({ time, start }) => {
    const first = recorder(time)
    const schedule = await start(first.take)
    await time.advance(1_000)
    expect(first.at).toEqual([1_000])
    schedule.stop()
    await time.advance(20_000)
    const second = recorder(time)
    const again = await start(second.take)
    await time.advance(2 * everyMs)
    expect(second.at).toEqual([1_000 + everyMs, 1_000 + 2 * everyMs])
    again.stop()
  })
})

test('a run that died with its server is made up for after the next start', async () => {
  await withBench(async ({ time, start }) => {
    let signal: AbortSignal | undefined
    const dying = async (_request: TakeRequest, context: OperationContext) => {
      signal = context.signal
      return await new Promise<never>(() => {})
    }
    const schedule = await start(dying)
    await time.advance(1_000)
    expect(signal?.aborted).toBe(false)
    schedule.stop()
    const second = recorder(time)
    const again = await start(second.take)
    await time.advance(1_000)
    expect(second.at).toEqual([2_000])
    again.stop()
  })
})

test('without a catalog, it goes by the last snapshot; when that cannot be known, it runs', async () => {
  await withBench(async ({ time, start }) => {
    const { at, take } = recorder(time)
    const taken = (agoMs: number) => ({ ...summary, time: new Date(time.clock.wallMs() - agoMs).toISOString() })
    const schedule = await start(take, { list: async () => [taken(500_000), taken(40_000), taken(hourMs)] })
    await time.advance(everyMs)
    expect(at).toEqual([20_000])
    schedule.stop()
  })
  await withBench(async ({ time, notes, start }) => {
    const { at, take } = recorder(time)
    const list = async () => {
      throw new Failure({ code: 'repository_absent', message: 'there is no repository' })
    }
    const schedule = await start(take, { list })
    await time.advance(1_000)
    expect(at).toEqual([1_000])
    expect(notes.join()).toContain('there is no repository')
    schedule.stop()
  })
})

test('a wall clock that jumped delays the next run by one period at most', async () => {
  await withBench(async ({ time, start }) => {
    const first = recorder(time)
    const schedule = await start(first.take)
    await time.advance(1_000)
    schedule.stop()
    time.jumpWall(-365 * 24 * hourMs)
    const second = recorder(time)
    const again = await start(second.take)
    await time.advance(everyMs)
    expect(second.at).toEqual([1_000 + everyMs])
    again.stop()
  })
})

test('periods longer than a timer can be are kept, and what a sleeping machine missed is one run', async () => {
  const monthMs = 30 * 24 * hourMs
  await withBench(async ({ time, notes, start }) => {
    const { at, take } = recorder(time)
    const schedule = await start(take)
    await time.advance(1_000)
    expect(at).toEqual([1_000])
    expect(Math.max(...time.delays())).toBeLessThanOrEqual(hourMs)
    await time.advance(monthMs)
    expect(at).toEqual([1_000, 1_000 + monthMs])
    await time.advance(hourMs, 3 * monthMs)
    expect(at).toHaveLength(3)
    expect(notes.join()).toMatch(/2 scheduled snapshots were skipped/)
    schedule.stop()
  }, monthMs)
})

test('no schedule in the configuration: nothing runs, and nothing is remembered', async () => {
  await withBench(async ({ time, catalog, start }) => {
    await catalog.putSchedule('shop', { name: scheduleName, everyMs, nextAtMs: 1 })
    const { at, take } = recorder(time)
    await start(take)
    await time.advance(hourMs)
    expect(at).toEqual([])
    expect(await catalog.schedules('shop')).toEqual([])
  }, null)
})
