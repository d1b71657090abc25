/** Processes outside the plan, in worlds of their own: they are heard, they cost attempts, and no cut is wrong. */
import type { CutOutcome } from '@stillpoint/core'
import { describe, expect, test } from 'vitest'
import { type Scenario, type Stranger, scenarioOf } from './scenario.ts'
import { World } from './world.ts'

const comesLate: Stranger = {
  name: 'z0',
  stays: [],
  afterHold: { afterMs: 2, forMs: 150 },
  isDeclared: false,
  isKnown: false,
}
const trio: Scenario = {
  ...scenarioOf(1, 'flow'),
  processes: ['p0', 'p1', 'p2'],
  stores: [],
  channels: 'loose',
  outsiders: 2,
  strangers: [comesLate],
  isHushed: true,
  lossPerMille: 0,
  doublePerMille: 0,
  delayMsMax: 10,
  driftPpm: 0,
  healMs: 2_000,
  cutEveryMs: 200,
  leaseMs: 8_000,
  hasRequests: false,
  hasRestores: false,
  faults: [],
}

async function runOf(scenario: Scenario): Promise<World> {
  const world = new World(scenario, { isTraced: false })
  expect(await world.run()).toEqual([])
  return world
}

function outcomesOf(world: World): readonly CutOutcome[] {
  const records = [...world.durable.cuts.values()].flatMap((cut) => cut.records)
  return records.flatMap((record) => (record.type === 'ended' ? [record.outcome] : []))
}

test('a stranger that is ahead of the order to mark costs the attempt (C4), and cuts are sealed when it is gone', async () => {
  let refused = 0
  for (let seed = 1; seed <= 12; seed += 1) {
    const world = await runOf({ ...trio, seed })
    for (const outcome of outcomesOf(world)) {
      if (outcome.kind === 'aborted' && outcome.failure.code === 'sender_unplanned') refused += 1
    }
    expect(world.counts.consistent).toBeGreaterThan(0)
  }
  expect(refused).toBeGreaterThan(0)
})

test('one that is declared is in the plans that are made while it is there, and in no other', async () => {
  const stays = [{ fromMs: 700, forMs: null }]
  const z0: Stranger = { ...comesLate, stays, afterHold: null, isDeclared: true, isKnown: true }
  const world = await runOf({ ...trio, isHushed: false, strangers: [z0] })
  const guests = world.durable.snapshots.map(({ uploads }) => uploads.has('z0'))
  expect(guests[0]).toBe(false)
  expect(guests.at(-1)).toBe(true)
  expect(guests).toEqual([...guests].sort())
})

test('a restore takes along whoever is there, in the snapshot or not (C9)', async () => {
  const stays = [{ fromMs: 100, forMs: null }]
  let restores = 0
  for (const isDeclared of [true, false]) {
    const z0: Stranger = { ...comesLate, stays, afterHold: null, isDeclared, isKnown: false }
    for (let seed = 1; seed <= 6; seed += 1) {
      const strangers = isDeclared ? [z0] : [{ ...z0, stays: [{ fromMs: 100, forMs: 1_800 }] }]
      const { counts } = await runOf({ ...trio, seed, isHushed: false, cutEveryMs: 80, strangers, hasRestores: true })
      restores += counts.restores
    }
  }
  expect(restores).toBeGreaterThan(0)
})

describe('a session is replaced while its sender’s mark is taken (C2)', () => {
  // It comes and goes all the time; whoever owns a store waits for that one’s mark, too.
  const stays = Array.from({ length: 60 }, (_, index) => ({ fromMs: 100 + 30 * index, forMs: 22 }))
  const z0: Stranger = { ...comesLate, stays, afterHold: null, isKnown: true }
  const stores = [{ name: 's0', writers: ['p0'] }]

  test('what was sent in it is counted, and named as lost: its receiver had it, or nobody', async () => {
    let replaced = 0
    for (let seed = 1; seed <= 12; seed += 1) {
      const world = await runOf({ ...trio, seed, isHushed: false, delayMsMax: 40, stores, strangers: [z0] })
      for (const { certificate } of world.durable.snapshots) {
        const sent = Object.values(certificate.processes).flatMap(({ mark }) => mark.sent)
        if (new Set(sent.map(({ channel }) => channel)).size < sent.length) replaced += 1
      }
    }
    expect(replaced).toBeGreaterThan(0)
  })
})

test('a seed has strangers or has not, whatever else it has', () => {
  const seeds = Array.from({ length: 400 }, (_, index) => scenarioOf(index + 1))
  const those = seeds.filter(({ strangers }) => strangers.length > 0)
  expect(those.length).toBeGreaterThan(40)
  expect(those.length).toBeLessThan(120)
  for (const { shape, processes, strangers, healMs } of those) {
    expect(['calm', 'barrier']).not.toContain(shape)
    expect(processes.length).toBeGreaterThan(0)
    for (const { stays, isDeclared } of strangers) {
      // Whoever is in no plan is gone when everything is to heal.
      for (const { fromMs, forMs } of stays) {
        expect(isDeclared || (forMs !== null && fromMs + forMs <= healMs)).toBe(true)
      }
    }
  }
})
