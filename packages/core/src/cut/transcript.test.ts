/**
 * Golden transcripts: what passes between coordinator and participants in typical cuts, for a person to read.
 * Rewrite them with `npx vitest run packages/core -u`, and read the difference.
 */
import { expect, test } from 'vitest'
import { runCut, step } from './testing/run.ts'
import { createWorld } from './testing/world.ts'
import type { WorldOptions } from './testing/world-types.ts'

const scenarios: Record<string, WorldOptions> = {
  'two-processes-fifo': { seed: 7, processes: 2, stores: [], fifo: true },
  'owned-stores-flow': {
    seed: 11,
    processes: 2,
    fifo: false,
    outsiders: 1,
    stores: [
      { name: 's0', writers: ['p0'] },
      { name: 's1', writers: ['p1'] },
    ],
  },
  'gated-store-with-requests': {
    seed: 3,
    processes: 2,
    fifo: false,
    requests: true,
    stores: [{ name: 's0', writers: ['p0', 'p1'] }],
  },
  'stores-only-barrier': {
    seed: 5,
    processes: 0,
    fifo: false,
    outsiders: 2,
    stores: [
      { name: 's0', writers: 'unknown' },
      { name: 's1', writers: 'unknown' },
    ],
  },
  'lost-message': {
    seed: 21,
    processes: 2,
    stores: [],
    fifo: false,
    faults: { lose: 300 },
    deadlines: { drainMs: 50 },
  },
  'lease-too-short': {
    seed: 2,
    processes: 0,
    fifo: false,
    outsiders: 2,
    deadlines: { leaseMs: 10 },
    stores: [
      { name: 's0', writers: 'unknown' },
      { name: 's1', writers: 'unknown' },
    ],
  },
  'lost-process': { seed: 4, processes: 3, stores: [], fifo: true, faults: { disconnect: 400 } },
}

test.each(Object.entries(scenarios))('%s', async (name, options) => {
  const world = createWorld(options)
  runCut(world)
  for (let steps = 0; steps < 200; steps += 1) step(world)
  const [sealed] = world.sealed
  const end = sealed === undefined ? `aborted: ${world.aborted[0]?.message}` : `sealed: ${sealed.verdict.kind}`
  const lines = [...world.log, `= ${end}`, ...(sealed?.verdict.reasons ?? []).map((reason) => `  ${reason}`)]
  await expect(`${lines.join('\n')}\n`).toMatchFileSnapshot(`testdata/${name}.txt`)
})
