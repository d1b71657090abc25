/** What a coordinator does with a cut that it finds half done; crashes at every moment. */
import { describe, expect, test } from 'vitest'
import { defined } from '../kernel/assert.ts'
import { recoverCut } from './collect.ts'
import { decideCoordinator } from './coordinator.ts'
import type { CutOutcome, CutRecord } from './coordinator-state.ts'
import { nameOf } from './testing/process-rig.ts'
import { mixed, System, type SystemShape, sealedSystem } from './testing/system-rig.ts'

function endedIn(records: readonly CutRecord[]): readonly CutOutcome[] {
  return records.flatMap((record) => (record.type === 'ended' ? [record.outcome] : []))
}

/** The coordinator dies; everybody notices. Another one finds the first `kept` records. */
function crash(system: System, kept: number, options: { readonly storesNotice: boolean }): boolean {
  system.records.splice(kept)
  const participants = [...system.processes.keys(), ...(options.storesNotice ? system.stores.keys() : [])]
  system.orders.length = 0
  system.facts.length = 0
  for (const name of participants) {
    const input = { type: 'disconnected', nowMs: system.nowMs } as const
    if (system.stores.has(name)) system.tellStore(name, input)
    else system.tellProcess(name, input)
  }
  const decision = recoverCut(system.records, system.nowMs)
  if (decision !== null) system.recover(decision)
  // Nobody asks for a cut that has ended: in the end every agent learns that its connection is gone.
  else for (const name of system.stores.keys()) system.tellStore(name, { type: 'disconnected', nowMs: system.nowMs })
  return decision !== null
}

function finish(system: System): void {
  system.deliver()
  system.run()
  if (system.coordinator.phase !== 'ended') system.timeOut()
  system.passTime(60_000)
}

/** Some messages of each kind, so that there is something to drain. */
function started(shape: SystemShape): System {
  const system = new System(shape)
  if (system.processes.size > 1) for (let count = 0; count < 2; count += 1) system.send('a', 'b')
  return system
}

/**
 * Up to a moment; what is in flight arrives after the marks. Answers how many records are surely persisted: those of the
 * last step may be lost, since none of its effects has been carried out.
 */
function runTo(system: System, moment: number): number {
  let persisted = system.records.length
  for (let count = 0; count < moment; count += 1) {
    if (system.coordinator.phase === 'collect') system.deliver()
    persisted = system.records.length
    if (!system.step()) break
  }
  return persisted
}

const momentsMax = 300

const shapes: readonly (readonly [string, SystemShape])[] = [
  ['owned, gated and quiesced stores', mixed],
  ['processes only', { processes: ['a', 'b', 'c'], stores: [] }],
  [
    'stores only',
    {
      processes: [],
      stores: [
        { name: 's', writers: 'unknown' },
        { name: 't', writers: 'unknown' },
      ],
    },
  ],
]

describe('a crash at every moment, with every part of the last records lost', () => {
  const cases = shapes.flatMap(([name, shape]) => [
    [`${name}, whose agents notice`, shape, true] as const,
    [`${name}, whose agents do not notice`, shape, false] as const,
  ])

  test.each(cases)('C6: %s: one outcome, never sealed after ended, nothing left', (_name, shape, storesNotice) => {
    const outcomes = new Set<string>()
    for (let moment = 0; moment < momentsMax; moment += 1) {
      const probe = started(shape)
      const persisted = runTo(probe, moment)
      if (probe.coordinator.phase === 'ended') break
      const [before] = endedIn(probe.records)
      for (let kept = persisted; kept <= probe.records.length; kept += 1) {
        const system = started(shape)
        runTo(system, moment)
        const hasRecovered = crash(system, kept, { storesNotice })
        const sealsBefore = system.seals.length
        finish(system)
        const where = `step ${moment}, ${kept} records`
        const ended = endedIn(system.records)
        expect(ended, where).toHaveLength(1)
        expect(system.leftovers(), where).toEqual([])
        if (!hasRecovered) expect(system.seals.length, where).toBe(sealsBefore)
        // What one coordinator recorded is what the next one leaves.
        if (before !== undefined && kept === probe.records.length) expect(ended[0], where).toEqual(before)
        const isTaken = system.records.some(({ type }) => type === 'taken')
        if (!isTaken) expect(ended[0], where).toMatchObject({ failure: { code: 'coordinator_restarted' } })
        if (isTaken && !storesNotice) expect(ended[0], where).toEqual({ kind: 'sealed', verdict: 'consistent' })
        outcomes.add(ended[0]?.kind ?? '')
      }
    }
    expect([...outcomes].sort()).toEqual(['aborted', 'sealed'])
  })

  test('C6: and again at every moment of the recovery', () => {
    for (let moment = 0; moment < 60; moment += 1) {
      for (let later = 0; later < 25; later += 3) {
        const system = started(mixed)
        runTo(system, moment)
        if (!crash(system, system.records.length, { storesNotice: false })) continue
        system.run(later)
        crash(system, system.records.length, { storesNotice: false })
        finish(system)
        expect(endedIn(system.records), `steps ${moment} and ${later}`).toHaveLength(1)
        expect(system.leftovers(), `steps ${moment} and ${later}`).toEqual([])
      }
    }
  })
})

describe('recovery', () => {
  const done = sealedSystem()

  function prefixUpTo(type: CutRecord['type']): readonly CutRecord[] {
    const index = done.records.findIndex((record) => record.type === type)
    return done.records.slice(0, index + 1)
  }

  test('of nothing is nothing', () => {
    expect(recoverCut([], 0)).toBeNull()
    expect(recoverCut(done.records.slice(1, 3), 0)).toBeNull()
  })

  test('C6: a cut that has ended is left alone', () => {
    expect(recoverCut(done.records, 0)).toBeNull()
    expect(recoverCut([...prefixUpTo('planned'), ...done.records.slice(-1)], 0)).toBeNull()
  })

  test('before all marks were taken: aborted, and everybody is released (C7)', () => {
    const decision = defined(recoverCut(prefixUpTo('planned'), 5), 'a decision')
    expect(endedIn(decision.records)).toMatchObject([{ kind: 'aborted', failure: { code: 'coordinator_restarted' } }])
    expect(decision.effects.filter(({ type }) => type === 'order')).toHaveLength(5)
    expect(decision.state.phase).toBe('release')
  })

  test('after it: what is missing is asked for, and only that', () => {
    const captured = done.records.find((record) => record.type === 'captured')
    const drained = done.records.find((record) => record.type === 'drained')
    if (captured?.type !== 'captured' || drained?.type !== 'drained') throw new Error('the cut recorded both')
    const decision = defined(recoverCut([...prefixUpTo('taken'), captured, drained], 100), 'a decision')
    const asked = decision.effects.flatMap((effect) =>
      effect.type === 'order' ? [`${effect.order.type} ${effect.to}`] : [],
    )
    const { processes, stores } = done
    const expected = [...processes.keys(), ...stores.keys()]
      .filter((name) => name !== captured.participant)
      .map((name) => (processes.has(name) && name !== drained.participant ? `drain ${name}` : `capture ${name}`))
    expect(asked).toEqual(expected)
    expect(decision.state.deadlineAtMs).toBe(100 + done.plan.deadlines.captureMs)
    expect(decision.records).toEqual([])
  })

  test('the senders’ counts are asked to be drained as before', () => {
    const decision = defined(recoverCut(prefixUpTo('taken'), 0), 'a decision')
    const drain = decision.effects.find((effect) => effect.type === 'order' && effect.to === 'b')
    expect(drain).toMatchObject({ order: { type: 'drain', inbound: [{ channel: 'a→b', sent: 5 }] } })
  })

  test('with everything captured: the same certificate is sealed', () => {
    const decision = defined(recoverCut(done.records.slice(0, -1), 0), 'a decision')
    const seal = decision.effects.find(({ type }) => type === 'seal')
    expect(seal).toEqual({ type: 'seal', ...pick(done) })
    expect(decision.state.phase).toBe('seal')
    const sealed = decideCoordinator(decision.state, { type: 'sealed', nowMs: 0 })
    expect(endedIn(sealed.records)).toEqual([{ kind: 'sealed', verdict: 'consistent' }])
  })

  test('an inconsistent cut is not sealed by a recovery either', () => {
    const torn = done.records.slice(0, -1).map((record): CutRecord => {
      if (record.type !== 'captured' || record.participant !== nameOf('any')) return record
      return { ...record, evidence: { ...record.evidence, torn: ['part'] } }
    })
    const decision = defined(recoverCut(torn, 0), 'a decision')
    expect(endedIn(decision.records)).toMatchObject([{ kind: 'aborted', failure: { code: 'cut_inconsistent' } }])
  })

  function pick(system: System): object {
    const seal = defined(system.seals[0], 'a seal')
    return { certificate: seal.certificate, verdict: seal.verdict }
  }
})
