import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { isFailure } from '@stillpoint/core/kernel'
import { hasTool } from '@stillpoint/testbed'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Bench, never, newCut, shopTables, startBench, startWriters } from './workbench.ts'

/** Answers when `seconds` have passed, or before it with how long the statement took. */
async function timed(bench: Bench, sql: string): Promise<number> {
  const start = performance.now()
  await bench.server.sql('shop', sql)
  return performance.now() - start
}

describe.skipIf(!hasTool('initdb') || !hasTool('pg_dump'))('holding PostgreSQL [needs postgresql]', () => {
  let bench: Bench
  beforeAll(async () => {
    bench = await startBench({ databases: ['shop', 'empty'] })
    await bench.server.sql('shop', shopTables)
  })
  afterAll(() => bench.stop())

  test('is had quickly under 8 writers, who are not held up before', async () => {
    const session = await bench.open('shop')
    const load = await startWriters(bench.server, 'shop', 8)
    const acquiredMs: number[] = []
    try {
      for (let round = 0; round < 20; round++) {
        const cut = newCut()
        await session.prepare(cut, never)
        const start = performance.now()
        await session.quiesce(cut, 5000, never)
        acquiredMs.push(performance.now() - start)
        expect(await session.resume(cut)).toEqual({ unbroken: true })
        await session.release(cut)
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    } finally {
      await load.stop()
      await session.close()
    }
    acquiredMs.sort((a, b) => a - b)
    console.log(
      `hold under 8 writers: median ${acquiredMs[10]?.toFixed(1)} ms, worst of 20 ${acquiredMs[19]?.toFixed(1)} ms, ${load.acknowledged().length} writes`,
    )
    const seen = load.acknowledged().length
    expect(Number(await bench.server.sql('shop', 'SELECT count(*) FROM entry'))).toBe(seen)
  })

  test.each(['SIGKILL', 'SIGSTOP'] as const)(
    'ends at its lease, or at once, when the holder gets %s',
    async (signal) => {
      const leaseMs = 700
      const workbench = fileURLToPath(new URL('./holder.fixture.ts', import.meta.url))
      const child = spawn(
        process.execPath,
        [workbench, String(bench.server.port), bench.server.password, String(leaseMs)],
        {
          stdio: ['ignore', 'pipe', 'inherit'],
        },
      )
      try {
        await once(child.stdout, 'data')
        const heldMs = performance.now()
        child.kill(signal)
        await timed(bench, 'UPDATE account SET balance = balance WHERE id = 1')
        const freeMs = performance.now() - heldMs
        expect(freeMs).toBeLessThan(leaseMs + 2000)
        if (signal === 'SIGSTOP') expect(freeMs).toBeGreaterThan(leaseMs * 0.5)
      } finally {
        child.kill('SIGKILL')
      }
    },
  )

  test('is refused with the name of who stands in the way, and lets writers pass meanwhile', async () => {
    const session = await bench.open('shop')
    const blocker = new Client({ connectionString: bench.server.url('shop'), application_name: 'nightly report' })
    await blocker.connect()
    await blocker.query('BEGIN; UPDATE account SET balance = balance WHERE id = 2')
    const cut = newCut()
    try {
      const refused = session.quiesce(cut, 600, never)
      const caught = refused.catch((error: unknown) => error)
      // A writer queues behind one try at most, not behind the whole waiting.
      expect(await timed(bench, 'UPDATE account SET balance = balance WHERE id = 1')).toBeLessThan(450)
      const failure = await caught
      expect(isFailure(failure, 'hold_unavailable') && failure.retry).toBe('later')
      expect(failure).toHaveProperty('message', expect.stringContaining('nightly report'))
    } finally {
      await blocker.end()
      await session.close()
    }
  })

  test('makes a running autovacuum-like lock no reason to block writers', async () => {
    const session = await bench.open('shop')
    const vacuum = new Client({ connectionString: bench.server.url('shop') })
    await vacuum.connect()
    await vacuum.query('BEGIN; LOCK TABLE account IN SHARE UPDATE EXCLUSIVE MODE')
    const cut = newCut()
    try {
      const holding = session.quiesce(cut, 3000, never)
      await new Promise((resolve) => setTimeout(resolve, 100))
      expect(await timed(bench, 'UPDATE account SET balance = balance WHERE id = 1')).toBeLessThan(200)
      await vacuum.query('COMMIT')
      await holding
      expect(await session.resume(cut)).toEqual({ unbroken: true })
    } finally {
      await vacuum.end()
      await session.close()
    }
  })

  test('is broken by a table that is made in it', async () => {
    const session = await bench.open('shop')
    const [before, after] = [newCut(), newCut()]
    await session.quiesce(before, 5000, never)
    await bench.server.sql('shop', 'CREATE TABLE late (a int)')
    await expect(session.mark(before, never)).rejects.toMatchObject({ code: 'hold_broken', retry: 'later' })
    expect((await session.resume(before)).unbroken).toBe(false)
    await session.quiesce(after, 5000, never)
    await session.mark(after, never)
    await bench.server.sql('shop', 'CREATE TABLE later (a int); INSERT INTO later VALUES (1)')
    expect(await session.resume(after)).toMatchObject({
      unbroken: false,
      detail: expect.stringContaining('"public"."later"'),
    })
    await bench.server.sql('shop', 'SELECT 1')
    await session.close()
    await bench.server.sql('shop', 'DROP TABLE late, later')
  })

  test('holds a database without tables', async () => {
    const session = await bench.open('empty')
    const cut = newCut()
    expect((await session.prepare(cut, never)).estimateBytes).toBeGreaterThan(0)
    await session.quiesce(cut, 1000, never)
    expect((await session.mark(cut, never)).position).toMatchObject({ database: 'empty', tables: 0 })
    expect(await session.resume(cut)).toEqual({ unbroken: true })
    await session.close()
  })

  test('leaves no session behind after close', async () => {
    const session = await bench.open('shop')
    await session.quiesce(newCut(), 5000, never)
    const cut = newCut()
    await session.mark(cut, never)
    await session.close()
    const sessions = `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stillpoint'`
    await expect.poll(() => bench.server.sql('shop', sessions)).toBe('0')
  })

  test('a server that hangs keeps neither resume nor close', async () => {
    const session = await bench.open('shop')
    const cut = newCut()
    await session.quiesce(cut, 1000, never)
    await bench.server.pause()
    try {
      await new Promise((resolve) => setTimeout(resolve, 1100))
      expect(await session.resume(cut)).toMatchObject({ unbroken: false, detail: expect.stringContaining('lease') })
      await session.close()
    } finally {
      await bench.server.unpause()
    }
  })
})
