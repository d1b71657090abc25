/**
 * What the judges have found, each in a world of its own. Where the fault is not in the code but in how it may be used,
 * the test shows that the judge still sees it.
 */
import { assert } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { cutFindings } from '../checkers/cut.ts'
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

describe('a clock jumps while messages of a volatile channel are on their way: the drain is over at once (C2)', () => {
  test('the certificate shows each of them as missing, is not consistent, and is judged by what it shows', async () => {
    const world = new World(scenarioOf(12_060), { isTraced: false })
    expect(await world.run()).toEqual([])
    const [first] = world.durable.snapshots
    assert(first !== undefined, 'nothing was sealed')
    const observed = world.observe(first)
    const missing = [...missingIn(first.certificate)]
    expect(missing.length).toBeGreaterThan(0)
    expect(observed.verdict).toBe('crash-consistent')
    for (const reason of observed.reasons) expect(reason).toMatch(/neither received nor recorded, as in a crash$/)
    expect(cutFindings(observed)).toEqual([])
    expect(cutFindings({ ...observed, missing: new Set() })).not.toEqual([])
  })
})
