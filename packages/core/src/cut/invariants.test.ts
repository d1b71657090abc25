/**
 * The invariants C1–C10 in seeded worlds: judged by vector clocks and token counts that the protocol knows nothing of.
 * `STILLPOINT_SEEDS` runs more seeds.
 */
import { describe, expect, test } from 'vitest'
import { causalityFindings, conservationFindings, leftoverFindings } from './testing/checks.ts'
import { runCut, step } from './testing/run.ts'
import { createWorld, passTime } from './testing/world.ts'
import type { World, WorldOptions } from './testing/world-types.ts'

const seedCount = Number(process.env['STILLPOINT_SEEDS'] ?? 25)

const shapes: Record<string, Omit<WorldOptions, 'seed'>> = {
  'Chandy–Lamport: processes over FIFO channels': { processes: 3, stores: [], fifo: true },
  'Lai–Yang: processes over channels without order': { processes: 3, stores: [], fifo: false },
  'owned stores, flow': {
    processes: 3,
    fifo: false,
    outsiders: 2,
    stores: [
      { name: 's0', writers: ['p0'] },
      { name: 's1', writers: ['p1'] },
      { name: 's2', writers: ['p2'] },
    ],
  },
  'gated stores': {
    processes: 3,
    fifo: true,
    outsiders: 1,
    stores: [{ name: 's0', writers: ['p0', 'p1'] }],
  },
  'quiesced stores and outsiders who carry what they learn': {
    processes: 2,
    fifo: false,
    outsiders: 2,
    stores: [
      { name: 's0', writers: 'unknown' },
      { name: 's1', writers: 'unknown' },
    ],
  },
  'stores only: a barrier': {
    processes: 0,
    fifo: false,
    outsiders: 4,
    stores: [
      { name: 's0', writers: 'unknown' },
      { name: 's1', writers: 'unknown' },
      { name: 's2', writers: 'unknown' },
    ],
  },
  'requests and replies': {
    processes: 3,
    stores: [{ name: 's0', writers: ['p0', 'p2'] }],
    fifo: false,
    requests: true,
  },
  'everything at once, with repeated orders': {
    processes: 4,
    fifo: true,
    requests: true,
    outsiders: 2,
    faults: { repeat: 150 },
    stores: [
      { name: 's0', writers: ['p0'] },
      { name: 's1', writers: ['p1', 'p2'] },
      { name: 's2', writers: 'unknown' },
    ],
  },
  'lost connections and short leases': {
    processes: 3,
    fifo: false,
    outsiders: 1,
    deadlines: { leaseMs: 400, handlerMs: 200, quiesceMs: 400, markMs: 400, resumeMs: 400, drainMs: 400 },
    faults: { disconnect: 10, repeat: 50 },
    stores: [
      { name: 's0', writers: 'unknown' },
      { name: 's1', writers: ['p0'] },
    ],
  },
  'messages lost on volatile channels': {
    processes: 3,
    fifo: false,
    faults: { lose: 60 },
    deadlines: { drainMs: 60 },
    stores: [],
  },
}

function settle(world: World): void {
  for (const node of world.processes.values()) node.connected = true
  for (let steps = 0; steps < 800; steps += 1) step(world)
  passTime(world, 60_000) // Marks whose coordinator never came back end by themselves.
  for (let steps = 0; steps < 200; steps += 1) step(world)
}

describe.each(Object.entries(shapes))('%s', (_name, shape) => {
  test('every sealed cut is closed, complete and leaves nothing behind (C1–C7, C10)', () => {
    let sealed = 0
    let consistent = 0
    for (let seed = 1; seed <= seedCount; seed += 1) {
      const world = createWorld({ ...shape, seed })
      for (let cut = 0; cut < 2; cut += 1) {
        const isEnded = runCut(world)
        expect(isEnded, `seed ${seed}: C10, the cut has not ended in ${world.coordinator?.phase}`).toBe(true)
        settle(world)
        expect(leftoverFindings(world), `seed ${seed}: C7`).toEqual([])
      }
      for (const cut of world.sealed) {
        sealed += 1
        if (cut.verdict.kind === 'consistent') consistent += 1
        expect(cut.verdict.kind, `seed ${seed}`).not.toBe('inconsistent')
        expect(causalityFindings(cut), `seed ${seed}: C1`).toEqual([])
        if (cut.verdict.kind !== 'consistent' || shape.faults?.lose !== undefined) continue
        expect(conservationFindings(cut, world.tokens), `seed ${seed}: C2`).toEqual([])
      }
    }
    // A suite that seals nothing would prove nothing.
    expect(sealed).toBeGreaterThan(seedCount / 4)
    expect(consistent).toBeGreaterThan(seedCount / 8)
  })
})
