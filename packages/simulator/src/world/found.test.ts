/**
 * What the judges have found, each in a world of its own. Where the fault is not in the code but in how it may be used,
 * the test shows that the judge still sees it.
 */
import { verdictOf } from '@stillpoint/core'
import { describe, expect, test } from 'vitest'
import { missingIn } from '../checkers/missing.ts'
import { type Scenario, scenarioOf } from './scenario.ts'
import { World } from './world.ts'

function findingsOf(scenario: Scenario): Promise<readonly string[]> {
  return new World(scenario, { isTraced: false }).run()
}

const pair: Scenario = {
  ...scenarioOf(1, 'shells'),
  processes: ['p0', 'p1'],
  stores: [],
  channels: 'loose',
  outsiders: 0,
  strangers: [],
  lossPerMille: 0,
  doublePerMille: 0,
  delayMsMax: 2,
  driftPpm: 0,
  healMs: 1_500,
  cutEveryMs: 120,
  leaseMs: 8_000,
  hasRequests: false,
  faults: [],
}

describe('a seal whose answer is an error although it was written (C6)', () => {
  const faults = [{ kind: 'storage', atMs: 0, forMs: 1_400, how: 'lying' }] as const

  test('is an aborted cut with a snapshot, if nobody asks the repository', async () => {
    const findings = await findingsOf({ ...pair, faults, sealsBlindly: true })
    expect(findings.join()).toMatch(/is aborted, and its snapshot exists \(C6\)/)
  })

  test('is a sealed cut, if somebody does', async () => {
    expect(await findingsOf({ ...pair, faults })).toEqual([])
  })
})

describe('a coordinator is replaced in the middle of a slow seal, at one moment or another (C6)', () => {
  const slow = { kind: 'storage', atMs: 0, forMs: 1_400, how: 'slow' } as const

  async function findings(change: Partial<Scenario>, zombie: boolean): Promise<string> {
    const found: string[] = []
    for (let atMs = 300; atMs < 1_200; atMs += 45) {
      const takeover = { kind: 'takeover', atMs, forMs: 60, zombie } as const
      found.push(...(await findingsOf({ ...pair, ...change, faults: [slow, takeover] })))
    }
    return found.join('\n')
  }

  test('while it lives, the shells seal what was aborted: so a system’s lock must be the operating system’s', async () => {
    expect(await findings({}, true)).toMatch(/is sealed after its outcome was recorded \(C6\)/)
  })

  test('when it is dead, they do not', async () => {
    expect(await findings({}, false)).toBe('')
  })

  test('the machines survive even that: the next coordinator seals the same cut, and no other outcome is recorded', async () => {
    expect(await findings({ hasShells: false }, true)).toBe('')
  })
})

test('the hold of an agent that has crashed and started again is left to its lease (C5), and nothing else of the cut is', async () => {
  const stores = ['s0', 's1'].map((name) => ({ name, writers: 'unknown' as const }))
  const barrier = { ...pair, shape: 'barrier', hasShells: false, processes: [], stores, outsiders: 2 }
  const scenario: Scenario = { ...barrier, cutEveryMs: 700, healMs: 2_000, delayMsMax: 40 }
  let holds = 0
  for (let atMs = 700; atMs < 880; atMs += 4) {
    const crash = { kind: 'crash', atMs, node: 's1', forMs: 215 } as const
    const world = new World({ ...scenario, faults: [crash] }, { isTraced: false })
    // It has started again, and the next cut is not there yet.
    world.timeline.at(atMs + 260, () => {
      if (world.storeNode('s1').isHeldByEarlierLife) holds += 1
    })
    expect(await world.run()).toEqual([])
    expect(world.storeNode('s1').leftovers()).toEqual([])
  }
  expect(holds).toBeGreaterThan(0)
})

describe('a clock jumps while messages of a volatile channel are on their way: a drain is over at once (C2)', () => {
  test('the certificate shows each of them as missing, is not consistent, and is judged by what it shows', async () => {
    // Each jump is longer than a drain may take, and shorter than any other deadline.
    const jumps = Array.from({ length: 28 }, (_, index) => {
      return { kind: 'jump', atMs: 300 + 40 * index, node: 'p1', byMs: 500 } as const
    })
    const scattered: Scenario = { ...pair, hasShells: false, channels: 'volatile', delayMsMax: 40, faults: jumps }
    let cuts = 0
    for (let seed = 1; seed <= 12; seed += 1) {
      const world = new World({ ...scattered, seed }, { isTraced: false })
      expect(await world.run()).toEqual([])
      for (const { certificate } of world.durable.snapshots) {
        if (missingIn(certificate).next().done === true) continue
        cuts += 1
        const { kind, reasons } = verdictOf(certificate)
        expect(kind).toBe('crash-consistent')
        expect(reasons.join('; ')).toMatch(/messages were neither received nor recorded, as in a crash/)
      }
    }
    expect(cuts).toBeGreaterThan(0)
  })
})
