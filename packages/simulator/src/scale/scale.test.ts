/** The short form of `npm run scale`: what a cut sends is known exactly, and what it writes is linear. */
import { describe, expect, test } from 'vitest'
import { connectionColumns, measureConnections } from './connections.ts'
import { growthOf } from './fit.ts'
import { type ScaleCounts, ScaleWorld } from './scale-world.ts'
import { type Measured, measure, tableOf, worldColumns } from './table.ts'
import type { TopologyName } from './topology.ts'

/** prepare, quiesce, mark, resume, drain, capture, release; and an answer to each. */
const ordersPerProcess = 7

async function cutOf(topology: TopologyName, processes: number): Promise<ScaleCounts> {
  const world = new ScaleWorld({ topology, processes, seed: 7 })
  expect(await world.run()).toEqual([])
  return world.counts
}

describe('a cut without trouble', () => {
  test.each([
    ['ring', 10, 40],
    ['ring', 100, 400],
    ['star', 100, 198],
    ['mesh', 20, 380],
  ] as const)(
    '%s of %i: seven orders and facts per process, a marker per channel',
    async (topology, processes, channels) => {
      const counts = await cutOf(topology, processes)
      const each = ordersPerProcess * processes
      expect(counts).toMatchObject({ processes, channels, orders: each, facts: each, markers: channels })
      expect(counts.messages).toBeGreaterThan(processes)
      expect(counts.certificateBytes).toBeGreaterThan(0)
    },
  )

  test('the bytes of its evidence grow as its participants and channels do', async () => {
    const rows: ScaleCounts[] = []
    for (const processes of [10, 30, 100]) rows.push(await cutOf('ring', processes))
    for (const name of ['wireBytes', 'recordBytes', 'certificateBytes'] as const) {
      const growth = growthOf(rows.map((row) => [row.processes, row[name]]))
      expect(growth, name).toBeGreaterThan(0.95)
      expect(growth, name).toBeLessThan(1.05)
    }
  })

  test('what comes while records are being written is written together', async () => {
    const { commits } = await cutOf('ring', 100)
    // The plan, what was taken, the end, and two records of each process between them.
    expect(commits).toBeLessThan(40)
  })
})

test('a row of the table is measured in a process of its own', async () => {
  const row = await measure<Measured>('ring', 10)
  expect(row).toMatchObject({ processes: 10, orders: 70 })
  const lines = tableOf(worldColumns, [row, { ...row, processes: 100, orders: 700 }]).split('\n')
  expect(lines).toHaveLength(5)
  expect(lines[0]).toMatch(/^\| processes \| channels \| orders \|/)
  expect(lines[4]).toMatch(/^\| n\^1\.00 \| n\^0\.00 \| n\^1\.00 \|/)
})

test('growth is fitted: of lines, squares and n log n', () => {
  const sizes = [10, 100, 1_000]
  expect(growthOf(sizes.map((n) => [n, 3 * n]))).toBeCloseTo(1)
  expect(growthOf(sizes.map((n) => [n, n * n]))).toBeCloseTo(2)
  expect(growthOf(sizes.map((n) => [n, n * Math.log(n)]))).toBeGreaterThan(1.1)
})

test('ten real connections: a cut by a real server is sealed', async () => {
  const row = await measureConnections(10, 1)
  expect(row).toMatchObject({ processes: 10, orders: 70 })
  expect(row.facts).toBeGreaterThanOrEqual(70)
  expect(row.takenMs).toBeGreaterThan(0)
  expect(row.sealedMs).toBeGreaterThan(row.takenMs)
  expect(tableOf(connectionColumns, [row])).toContain('| 10 | 70 |')
})
