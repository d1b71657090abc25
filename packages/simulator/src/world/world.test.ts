/** Worlds of many seeds: the short form of `npm run simulate`. */
import { describe, expect, test } from 'vitest'
import { scenarioOf, shapes } from './scenario.ts'
import { runRange } from './seeds.ts'
import { shrink } from './shrink.ts'
import { diagram } from './trace.ts'
import { World } from './world.ts'

async function traceOf(seed: number): Promise<string> {
  const world = new World(scenarioOf(seed), { isTraced: true })
  await world.run()
  return world.traced.lines().join('\n')
}

test('a hundred seeds: no violation, with cuts sealed and aborted, takeovers and restores among them', async () => {
  const totals = await runRange({ from: 1, count: 100 })
  expect(totals).toMatchObject({ seeds: 100, failed: null, finding: '' })
  expect(totals.sealed).toBeGreaterThan(200)
  for (const count of [totals.aborted, totals.takenOver, totals.restores]) expect(count).toBeGreaterThan(0)
})

test.each(Object.keys(shapes))('every shape has cuts that are sealed: %s', async (shape) => {
  const totals = await runRange({ from: 1, count: 5, shape })
  expect(totals.failed).toBeNull()
  expect(totals.sealed).toBeGreaterThan(0)
})

describe('a seed decides everything', () => {
  test('the same seed is the same run, to the last byte', async () => {
    for (const seed of [3, 18, 22]) {
      const first = await traceOf(seed)
      expect(first.length).toBeGreaterThan(1_000)
      expect(await traceOf(seed)).toBe(first)
    }
  })

  test('worlds that run at the same time do not disturb each other', async () => {
    const [first, second] = await Promise.all([traceOf(5), traceOf(6)])
    expect([first, second]).toEqual([await traceOf(5), await traceOf(6)])
    expect(first).not.toBe(second)
  })
})

test('the shrinker takes away what a failure does not need', async () => {
  const scenario = { ...scenarioOf(4, 'flow'), hasRestores: true, faults: scenarioOf(5, 'flow').faults }
  const world = new World(scenario, { isTraced: true })
  const plain = await world.run()
  expect(plain).toEqual([])
  const fails = async (one: typeof scenario): Promise<boolean> => one.processes.length > 1
  expect(scenario.strangers).not.toEqual([])
  const smallest = await shrink(scenario, fails)
  expect(smallest.faults).toEqual([])
  expect(smallest.strangers).toEqual([])
  expect(smallest.hasRestores).toBe(false)
  const [header = '', ...lines] = diagram(world.traced, ['coordinator', ...scenario.processes])
  expect(header).toContain('p0')
  expect(lines.some((line) => line.includes('●─') || line.includes('─●'))).toBe(true)
})
