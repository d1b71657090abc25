/** The coordinator: when each order is given, and what ends a cut in every phase. */
import { describe, expect, test } from 'vitest'
import type { CutId } from '../kernel/ids.ts'
import { decideCoordinator, nextCoordinatorDeadlineMs } from './coordinator.ts'
import type { CutOutcome, CutPhase, Decision } from './coordinator-state.ts'
import type { Fact, Order } from './messages.ts'
import { failureOf, incarnationOf, nameOf, treeOf } from './testing/process-rig.ts'
import { System, type SystemShape, sealedSystem } from './testing/system-rig.ts'

const twoProcesses: SystemShape = { processes: ['a', 'b'], stores: [] }
const twoStores: SystemShape = {
  processes: [],
  stores: [
    { name: 's', writers: 'unknown' },
    { name: 't', writers: 'unknown' },
  ],
}
const phases: readonly CutPhase[] = ['prepare', 'quiesce', 'mark', 'resume', 'collect', 'seal', 'release']

function at(phase: CutPhase, shape?: SystemShape): System {
  const system = new System(shape)
  system.runUntil(({ coordinator }) => coordinator.phase === phase)
  return system
}

function ordersIn({ effects }: Decision): readonly string[] {
  return effects.flatMap((effect) => (effect.type === 'order' ? [`${effect.order.type} ${effect.to}`] : []))
}

function endedRecords({ records }: System): readonly CutOutcome[] {
  return records.flatMap((record) => (record.type === 'ended' ? [record.outcome] : []))
}

function abortCode(system: System): string | undefined {
  const [outcome] = endedRecords(system)
  return outcome?.kind === 'aborted' ? outcome.failure.code : undefined
}

function orders(system: System, type: Order['type']): readonly string[] {
  return system.orders.filter(({ order }) => order.type === type).map(({ to }) => to)
}

test('a cut without trouble is sealed as consistent, once, and leaves nothing', () => {
  const system = sealedSystem()
  expect(system.outcomes).toEqual([{ kind: 'sealed', verdict: 'consistent' }])
  expect(endedRecords(system)).toEqual(system.outcomes)
  expect(system.seals).toHaveLength(1)
  expect(system.leftovers()).toEqual([])
  const kinds = system.records.map(({ type }) => type)
  expect(kinds.slice(0, 2)).toEqual(['planned', 'taken'])
  expect(kinds.slice(2, -1).sort()).toEqual([...Array(5).fill('captured'), ...Array(2).fill('drained')])
  expect(kinds.at(-1)).toBe('ended')
})

describe('holds and marks', () => {
  test('stores are asked to hold only when every gate is closed', () => {
    const system = at('quiesce')
    const { ref } = system.coordinator
    const held = (hold: number): Fact => ({ type: 'held', ref, stage: 'gate', hold })
    expect(orders(system, 'quiesce')).toEqual(['a', 'b'])
    expect(ordersIn(system.report('a', held(1)))).toEqual([])
    expect(ordersIn(system.report('b', held(1)))).toEqual(['quiesce any'])
  })

  test('C4: no order to mark before every hold is acknowledged', () => {
    const system = at('quiesce', twoStores)
    const { ref } = system.coordinator
    expect(ordersIn(system.report('s', { type: 'held', ref, stage: 'store', hold: 1 }))).toEqual([])
    expect(system.coordinator.phase).toBe('quiesce')
    const last = system.report('t', { type: 'held', ref, stage: 'store', hold: 1 })
    expect(ordersIn(last)).toEqual(['mark s', 'mark t'])
  })

  test('C4: an owned store is marked only when its process has closed its gate', () => {
    const system = at('mark')
    expect(orders(system, 'mark')).toEqual(['a', 'b', 'both', 'any'])
    const { ref } = system.coordinator
    expect(ordersIn(system.report('a', { type: 'entering', ref }))).toEqual(['mark own'])
    // Told twice: ordered once.
    expect(ordersIn(system.report('a', { type: 'entering', ref }))).toEqual([])
    expect(system.report('own', { type: 'entering', ref }).acceptance).toBe('unknown')
  })

  test('a process that owns several stores waits for all of their marks', () => {
    const stores = ['one', 'two'].map((name) => ({ name, writers: ['a'] }))
    const system = at('mark', { processes: ['a'], stores })
    system.runUntil(() => orders(system, 'ownedMarked').length > 0)
    const marked = [...system.coordinator.steps].filter(({ step }) => step === 'marked')
    expect(marked.map(({ participant }) => participant).sort()).toEqual(['one', 'two'])
    expect(orders(system, 'ownedMarked')).toEqual(['a'])
  })

  test('C3: no order to resume before every store and every process has marked', () => {
    const system = at('mark')
    system.runUntil(
      ({ coordinator }) => [...coordinator.tracks.values()].filter(({ mark }) => mark === null).length === 1,
    )
    expect(orders(system, 'resume')).toEqual([])
    system.runUntil(({ coordinator }) => coordinator.phase === 'resume')
    // Owned and gated stores hold nothing by themselves.
    expect(orders(system, 'resume')).toEqual(['a', 'b', 'any'])
  })

  test('C5: one hold that was not unbroken voids the attempt, and names who', () => {
    const system = at('resume', twoStores)
    const { ref } = system.coordinator
    const resumed = (unbroken: boolean, detail?: string): Fact => {
      const evidence = { unbroken, hold: 1, heldMs: 1 }
      return { type: 'resumed', ref, evidence: detail === undefined ? evidence : { ...evidence, detail } }
    }
    system.report('s', resumed(false, 'the server restarted'))
    // The seal waits for all answers, and so does this.
    expect(system.coordinator.phase).toBe('resume')
    system.report('t', resumed(true))
    expect(endedRecords(system)).toMatchObject([{ kind: 'aborted', failure: { code: 'hold_broken', retry: 'later' } }])
    expect(JSON.stringify(endedRecords(system))).toContain(
      '\\"s\\" was not held until every mark was taken: the server restarted',
    )
    system.run()
    expect(system.leftovers()).toEqual([])
  })

  test('C5: a hold of another number than the marks relied on voids the attempt', () => {
    const system = at('resume', twoStores)
    const { ref } = system.coordinator
    system.report('s', { type: 'resumed', ref, evidence: { unbroken: true, hold: 2, heldMs: 1 } })
    system.report('t', { type: 'resumed', ref, evidence: { unbroken: true, hold: 1, heldMs: 1 } })
    expect(abortCode(system)).toBe('hold_broken')
    expect(JSON.stringify(endedRecords(system))).toContain('let go and held again')
  })

  test('a lease that ends between the marks and the resume voids the attempt, by the participants’ own clocks', () => {
    for (const shape of [twoStores, { processes: ['a'], stores: [{ name: 's', writers: 'unknown' }] } as const]) {
      const system = at('resume', shape)
      system.nowMs = 8_000
      system.run()
      expect(abortCode(system)).toBe('hold_broken')
      system.passTime(60_000)
      expect(system.leftovers()).toEqual([])
    }
  })
})

describe('a gate that had to reopen', () => {
  const gatedPair: SystemShape = { processes: ['a', 'b'], stores: [{ name: 's', writers: ['a', 'b'] }] }

  function heldBy(system: System, from: string, hold: number): Decision {
    return system.report(from, { type: 'held', ref: system.coordinator.ref, stage: 'gate', hold })
  }

  function reopenedBy(system: System, from: string, hold: number): Decision {
    return system.report(from, { type: 'reopened', ref: system.coordinator.ref, hold })
  }

  test('C4: the marks wait for its next hold', () => {
    const system = at('quiesce', gatedPair)
    heldBy(system, 'a', 1)
    reopenedBy(system, 'a', 1)
    expect(ordersIn(heldBy(system, 'b', 1))).toEqual([])
    expect(ordersIn(heldBy(system, 'a', 2))).toEqual(['mark a', 'mark b', 'mark s'])
    expect(system.coordinator.tracks.get(nameOf('a'))?.holdReliedOn).toBe(2)
  })

  test('news of the reopening that a later hold has overtaken changes nothing', () => {
    const system = at('quiesce', gatedPair)
    heldBy(system, 'a', 1)
    heldBy(system, 'a', 2)
    expect(reopenedBy(system, 'a', 1).acceptance).toBe('accepted')
    expect(ordersIn(heldBy(system, 'b', 1))).toHaveLength(3)
  })

  test.each(['mark', 'resume'] as const)('C5: after the marks were ordered it ends the attempt: in %s', (phase) => {
    const system = at(phase, gatedPair)
    reopenedBy(system, 'a', 1)
    expect(abortCode(system)).toBe('hold_broken')
    expect(JSON.stringify(endedRecords(system))).toContain('\\"a\\" had to reopen its gate')
    system.run()
    expect(system.leftovers()).toEqual([])
  })

  test('after the marks were ordered, news of an older hold ends nothing', () => {
    const system = at('mark', gatedPair)
    expect(reopenedBy(system, 'a', 7).acceptance).toBe('accepted')
    system.run()
    expect(system.outcomes).toMatchObject([{ kind: 'sealed' }])
  })

  test('before and after, it is stale', () => {
    for (const phase of ['prepare', 'collect'] as const) {
      expect(reopenedBy(at(phase, gatedPair), 'a', 1).acceptance).toBe('stale')
    }
  })
})

describe('C8: facts that are stale change nothing', () => {
  test.each(phases)('of another cut, epoch, generation or token: in %s', (phase) => {
    const system = at(phase)
    const { ref } = system.coordinator
    const { coordinator } = system
    const others = [
      { ...ref, cut: 'cut-0' as CutId },
      { ...ref, epoch: 0 },
      { ...ref, generation: 0 },
      { ...ref, fencing: 0 },
    ]
    for (const other of others) {
      for (const fact of factsWith(other)) expect(system.report('a', fact).acceptance, fact.type).toBe('stale')
    }
    expect(system.coordinator).toBe(coordinator)
  })

  test('of nobody in the plan', () => {
    const system = at('prepare')
    const { ref } = system.coordinator
    for (const fact of factsWith(ref)) expect(system.report('z', fact).acceptance).toBe('unknown')
    const lost = { type: 'participantLost', name: nameOf('z'), reason: 'x', nowMs: 0 } as const
    expect(system.tell(lost).acceptance).toBe('unknown')
  })

  test('of another phase', () => {
    const wanted: Partial<Record<Fact['type'], CutPhase>> = {
      ready: 'prepare',
      held: 'quiesce',
      entering: 'mark',
      marked: 'mark',
      resumed: 'resume',
      drained: 'collect',
      captured: 'collect',
      released: 'release',
    }
    for (const phase of phases) {
      for (const fact of factsWith(at(phase).coordinator.ref)) {
        const own = wanted[fact.type]
        if (own === undefined || own === phase) continue
        const system = at(phase)
        const { coordinator } = system
        expect(system.report('a', fact).acceptance, `${fact.type} in ${phase}`).toBe('stale')
        expect(system.coordinator).toBe(coordinator)
      }
    }
  })

  test('of another incarnation: ready, and marks', () => {
    const system = at('prepare')
    const { ref } = system.coordinator
    const ready = { type: 'ready', ref, incarnation: incarnationOf('a-2'), estimateBytes: 0, version: '', notes: [] }
    expect(system.report('a', { ...ready, type: 'ready' }).acceptance).toBe('stale')
    const marking = at('mark', twoStores)
    const evidence = { ...storeMark, incarnation: incarnationOf('s-2') }
    expect(marking.report('s', { type: 'marked', ref: marking.coordinator.ref, evidence }).acceptance).toBe('stale')
  })

  test('after the end', () => {
    const system = at('ended')
    const { coordinator } = system
    for (const fact of factsWith(coordinator.ref)) expect(system.report('a', fact).acceptance).toBe('stale')
    expect(system.tell({ type: 'ticked', nowMs: 1e9 }).acceptance).toBe('stale')
    expect(system.tell({ type: 'sealed', nowMs: 1e9 }).acceptance).toBe('stale')
    expect(system.coordinator).toBe(coordinator)
  })

  test('an answer of a seal that nobody waits for', () => {
    const system = at('collect')
    expect(system.tell({ type: 'sealed', nowMs: 0 }).acceptance).toBe('stale')
    expect(system.tell({ type: 'sealFailed', failure: failureOf('x'), nowMs: 0 }).acceptance).toBe('stale')
  })
})

const storeMark = {
  kind: 'store',
  incarnation: incarnationOf('s-1'),
  grade: 'quiesced',
  position: {},
  caveats: [],
  heldAtMs: 0,
  markedAtMs: 0,
} as const
const captureEvidence = { tree: treeOf('t'), bytes: 0, files: 0, torn: [], notes: [], channels: {} }

function factsWith(ref: Fact['ref']): readonly Fact[] {
  return [
    { type: 'ready', ref, incarnation: incarnationOf('a-1'), estimateBytes: 0, version: '', notes: [] },
    { type: 'held', ref, stage: 'gate', hold: 1 },
    { type: 'reopened', ref, hold: 1 },
    { type: 'entering', ref },
    { type: 'marked', ref, evidence: storeMark },
    { type: 'resumed', ref, evidence: { unbroken: true, hold: 1, heldMs: 0 } },
    { type: 'drained', ref, inbound: [] },
    { type: 'captureProgressed', ref, bytes: 0, files: 0 },
    { type: 'captured', ref, evidence: captureEvidence },
    { type: 'released', ref },
    { type: 'failed', ref, during: 'mark', failure: failureOf('x') },
  ]
}

test('every fact twice: the second is a duplicate, or stale, and orders nothing', () => {
  const system = new System()
  for (let count = 0; count < 1_000; count += 1) {
    const [news] = system.orders.length > 0 ? [] : system.facts
    if (!system.step()) break
    if (news === undefined || news.fact.type === 'captureProgressed') continue
    const { phase, steps, outcome } = system.coordinator
    const again = system.report(news.from, news.fact)
    expect(['duplicate', 'stale', 'accepted'], news.fact.type).toContain(again.acceptance)
    // `ready` and `entering` say the same again: accepted, and without effect.
    if (again.acceptance === 'accepted') expect(['ready', 'entering']).toContain(news.fact.type)
    expect({ ...again, state: null, acceptance: null }).toEqual({
      state: null,
      acceptance: null,
      records: [],
      effects: [],
    })
    expect(system.coordinator).toMatchObject({ phase, steps, outcome })
  }
  expect(system.outcomes).toEqual([{ kind: 'sealed', verdict: 'consistent' }])
})

describe('what ends a cut says why', () => {
  test.each([
    ['prepare', '"a", "b", "own", "both", "any"'],
    ['quiesce', '"a", "b"'],
    ['mark', '"a", "b", "own", "both", "any"'],
    ['resume', '"a", "b", "any"'],
    ['collect', '"a", "b", "own", "both", "any"'],
  ] as const)('C10: the deadline of %s names who did not answer', (phase, names) => {
    const system = at(phase)
    const before = nextCoordinatorDeadlineMs(system.coordinator) ?? 0
    expect(system.tell({ type: 'ticked', nowMs: before - 1 }).acceptance).toBe('stale')
    system.timeOut()
    const [outcome] = endedRecords(system)
    expect(outcome).toMatchObject({
      failure: { code: 'participant_timed_out', message: `${names} did not answer in time during ${phase}` },
    })
  })

  test('C10: who cannot be released does not keep the cut from ending', () => {
    const system = at('release')
    expect(nextCoordinatorDeadlineMs(system.coordinator)).not.toBeNull()
    system.timeOut()
    expect(system.coordinator.phase).toBe('ended')
    expect(nextCoordinatorDeadlineMs(system.coordinator)).toBeNull()
  })

  test('C10: while the seal is written no deadline is set: its answer decides', () => {
    expect(nextCoordinatorDeadlineMs(at('seal').coordinator)).toBeNull()
  })

  test('a lost participant is named, with the phase and the reason', () => {
    const system = at('mark')
    system.lose('b')
    expect(endedRecords(system)).toMatchObject([
      { failure: { code: 'participant_lost', message: '"b" was lost during mark: connection lost' } },
    ])
  })

  test('a failure that does not name its participant is made to', () => {
    const system = at('mark')
    const { ref } = system.coordinator
    system.report('any', { type: 'failed', ref, during: 'mark', failure: failureOf('x') })
    expect(endedRecords(system)).toMatchObject([{ failure: { code: 'x', message: 'any: planted: x' } }])
    const other = at('mark')
    const failure = { ...failureOf('x'), message: '"any" is full' }
    other.report('any', { type: 'failed', ref: other.coordinator.ref, during: 'mark', failure })
    expect(endedRecords(other)).toMatchObject([{ failure: { message: '"any" is full' } }])
  })
})

describe('capture', () => {
  function failCapture(system: System, retry: 'later' | 'never'): Decision {
    const { ref } = system.coordinator
    return system.report('s', { type: 'failed', ref, during: 'capture', failure: failureOf('disk_full', retry) })
  }

  test('that failed is tried again from the same mark, three times in all', () => {
    const system = at('collect', twoStores)
    expect(ordersIn(failCapture(system, 'later'))).toEqual(['capture s'])
    expect(ordersIn(failCapture(system, 'later'))).toEqual(['capture s'])
    failCapture(system, 'later')
    expect(abortCode(system)).toBe('disk_full')
  })

  test('that can never succeed is not tried again', () => {
    const system = at('collect', twoStores)
    failCapture(system, 'never')
    expect(abortCode(system)).toBe('disk_full')
  })

  test('C6: the failure of one that is captured already ends nothing: what is captured is durable', () => {
    // Bug: an order that came twice, to an agent that had been restarted since, aborted the cut.
    const system = at('collect', twoStores)
    const { ref } = system.coordinator
    system.report('s', { type: 'captured', ref, evidence: captureEvidence })
    expect(failCapture(system, 'never').acceptance).toBe('stale')
    system.run()
    expect(system.outcomes).toMatchObject([{ kind: 'sealed' }])
  })

  test('a process is drained before it is captured', () => {
    const system = at('collect', twoProcesses)
    expect(orders(system, 'drain')).toEqual(['a', 'b'])
    expect(orders(system, 'capture')).toEqual([])
    const { ref } = system.coordinator
    expect(ordersIn(system.report('a', { type: 'drained', ref, inbound: [] }))).toEqual(['capture a'])
  })

  test('C2: one that is captured and was never drained has nothing recorded, and the counts show it', () => {
    const system = new System(twoProcesses)
    system.send('a', 'b')
    system.runUntil(({ coordinator }) => coordinator.phase === 'collect')
    const { ref } = system.coordinator
    for (const name of ['a', 'b']) system.report(name, { type: 'captured', ref, evidence: captureEvidence })
    expect(abortCode(system)).toBe('cut_inconsistent')
    expect(JSON.stringify(endedRecords(system))).toContain('a→b: 1 of 1 messages were neither received nor recorded')
  })

  test('its progress is passed on', () => {
    const system = at('collect', twoStores)
    const { ref } = system.coordinator
    expect(system.report('s', { type: 'captureProgressed', ref, bytes: 7, files: 2 }).effects).toEqual([
      { type: 'captureProgressed', participant: 's', bytes: 7, files: 2 },
    ])
  })
})

describe('C6: sealed at most once, when every capture is there and the verdict has been recomputed', () => {
  test('not before the last capture', () => {
    const system = at('collect', twoStores)
    const { ref } = system.coordinator
    system.report('s', { type: 'captured', ref, evidence: captureEvidence })
    expect(system.seals).toEqual([])
    system.report('t', { type: 'captured', ref, evidence: captureEvidence })
    expect(system.seals).toHaveLength(1)
    expect(system.seals[0]?.verdict.kind).toBe('consistent')
  })

  test('while it is written nothing else decides: no failure, no loss, no cancelling', () => {
    // Bug: a failure that was reported meanwhile recorded an abort, whatever became of the snapshot.
    const system = at('seal')
    const { ref } = system.coordinator
    const failed = system.report('a', { type: 'failed', ref, during: 'capture', failure: failureOf('x') })
    expect(failed.acceptance).toBe('stale')
    system.tell({ type: 'cancelled', failure: failureOf('cancelled'), nowMs: 0 })
    system.lose('b')
    expect(endedRecords(system)).toEqual([])
    system.run()
    expect(endedRecords(system)).toEqual([{ kind: 'sealed', verdict: 'consistent' }])
  })

  test('a seal that failed aborts the cut', () => {
    const system = at('seal')
    system.isSealing = false
    system.tell({ type: 'sealFailed', failure: failureOf('repository_full'), nowMs: 0 })
    system.run()
    expect(endedRecords(system)).toMatchObject([{ kind: 'aborted', failure: { code: 'repository_full' } }])
    expect(system.leftovers()).toEqual([])
  })

  test('an inconsistent cut is not sealed, unless the plan allows it, and then never silently', () => {
    for (const allowInconsistent of [false, true]) {
      const system = at('collect', { ...twoStores, request: { allowInconsistent } })
      const { ref } = system.coordinator
      system.report('s', { type: 'captured', ref, evidence: { ...captureEvidence, torn: ['wal'] } })
      system.report('t', { type: 'captured', ref, evidence: captureEvidence })
      system.run()
      if (allowInconsistent) expect(endedRecords(system)).toEqual([{ kind: 'sealed', verdict: 'inconsistent' }])
      else {
        expect(system.seals).toEqual([])
        expect(abortCode(system)).toBe('cut_inconsistent')
        expect(JSON.stringify(endedRecords(system))).toContain('s: wal changed')
      }
    }
  })

  test('an outcome is not changed by what comes after it', () => {
    const system = at('mark')
    system.tell({ type: 'cancelled', failure: failureOf('cancelled'), nowMs: 0 })
    const { coordinator } = system
    expect(system.tell({ type: 'cancelled', failure: failureOf('again'), nowMs: 0 }).acceptance).toBe('stale')
    const { ref } = coordinator
    const failed: Fact = { type: 'failed', ref, during: 'mark', failure: failureOf('late') }
    expect(system.report('a', failed).acceptance).toBe('stale')
    expect(endedRecords(system)).toHaveLength(1)
  })
})

test('a decision changes nothing that it was given', () => {
  const system = at('mark')
  const { coordinator } = system
  const copy = structuredClone(coordinator)
  decideCoordinator(coordinator, { type: 'cancelled', failure: failureOf('x'), nowMs: 0 })
  expect(structuredClone(coordinator)).toEqual(copy)
})
