/** Orders to one process: idempotence, staleness, leases, lost coordinators, generations. */
import { describe, expect, test } from 'vitest'
import { type CutId, channelId } from '../kernel/ids.ts'
import type { CutRef, Order } from './messages.ts'
import { nextProcessDeadlineMs } from './process.ts'
import {
  channel,
  cutRef,
  factOf,
  failureOf,
  fromOutside,
  heldProcess,
  incarnationOf,
  inShort,
  markedProcess,
  messageTo,
  nameOf,
  nextRef,
  ownWork,
  type ProcessRig,
  processRig,
  sentTo,
  sessionOf,
  treeOf,
} from './testing/process-rig.ts'

const evidence = { tree: treeOf('t'), bytes: 3, files: 1, torn: [], notes: [], channels: {} }

/** Everything up to the capture, by order. */
function drainedProcess(): ProcessRig {
  const rig = markedProcess()
  rig.resume()
  rig.drain()
  return rig
}

describe('prepare', () => {
  test('is answered by ready, with the incarnation', () => {
    expect(factOf(processRig().prepare(), 'ready')).toMatchObject({ incarnation: 'p-1', ref: cutRef })
  })

  test('C9: a cut of another generation is refused', () => {
    for (const generation of [0, 2]) {
      const rig = processRig()
      expect(inShort(rig.prepare({ ...cutRef, generation }))).toEqual(['failed generation_mismatch'])
      expect(rig.state.work).toBeNull()
    }
  })

  test('C8: a plan that was made for another incarnation is refused', () => {
    const rig = processRig()
    const role = { ...rig.role, incarnation: incarnationOf('p-0') }
    expect(inShort(rig.order({ type: 'prepare', ref: cutRef, role }))).toEqual(['failed incarnation_mismatch'])
  })

  test('C8: an epoch that this process has passed is refused, and its token is not taken over', () => {
    const rig = processRig()
    rig.arrive(1, messageTo('p', { seq: 1, epoch: 4 }))
    expect(inShort(rig.prepare({ ...cutRef, epoch: 4, fencing: 9 }))).toEqual(['failed epoch_past'])
    expect(rig.state.fencing).toBe(0)
  })

  test('C8: an older attempt does not end a newer one', () => {
    const rig = processRig()
    rig.prepare(nextRef)
    const before = rig.state
    expect(inShort(rig.prepare(cutRef))).toEqual(['failed epoch_past'])
    expect(rig.state).toBe(before)
  })

  test('a newer attempt is the news that the older one is over (C7)', () => {
    const rig = heldProcess({ gated: true })
    rig.arrive(1, ownWork)
    expect(inShort(rig.prepare(nextRef))).toEqual(['ready', 'deliver 1'])
    expect(rig.state.gate.kind).toBe('open')
    expect(rig.work.ref).toEqual(nextRef)
  })

  test('of a newer coordinator ends an attempt with the same epoch', () => {
    const rig = heldProcess()
    const ref = { ...cutRef, cut: 'cut-9' as CutId, fencing: 2 }
    expect(inShort(rig.prepare(ref))).toEqual(['ready'])
    expect(rig.work.ref).toEqual(ref)
  })

  test('for a store is not for a process', () => {
    const rig = processRig()
    const role = { kind: 'store', grade: 'owned', leaseMs: 1 } as const
    expect(rig.order({ type: 'prepare', ref: cutRef, role })).toEqual([])
  })

  test('the same order after this process has entered the epoch is answered by ready again', () => {
    // Bug: it was refused as an epoch of the past, which aborted the cut that it belonged to.
    const rig = markedProcess()
    const { state } = rig
    expect(inShort(rig.prepare())).toEqual(['ready'])
    expect(rig.state).toEqual(state)
  })
})

describe('every order twice: the same answer, and nothing changes', () => {
  const repeats: readonly (readonly [string, () => ProcessRig, (rig: ProcessRig) => unknown])[] = [
    ['prepare', () => processRig(), (rig) => rig.prepare()],
    ['quiesce of the ingress', () => heldProcess(), (rig) => rig.quiesce()],
    ['quiesce of the gate', () => heldProcess({ gated: true }), (rig) => rig.quiesce()],
    ['mark', () => markedProcess(), (rig) => rig.mark()],
    ['drain', () => drainedProcess(), (rig) => rig.drain()],
    ['release', () => processRig(), (rig) => rig.release()],
  ]
  test.each(repeats)('%s', (_name, create, give) => {
    const rig = create()
    const first = give(rig)
    const { state } = rig
    expect(give(rig)).toEqual(first)
    expect(rig.state).toEqual(state)
  })

  test('resume, however late: the lease that has ended since says nothing about the hold', () => {
    // Bug: the answer to the second order was made anew, and called an unbroken hold broken.
    const rig = markedProcess()
    const first = factOf(rig.resume(), 'resumed')
    expect(first.evidence).toMatchObject({ unbroken: true, hold: 1 })
    rig.nowMs = 99_000
    expect(factOf(rig.resume(), 'resumed')).toEqual(first)
  })

  test('quiesce after the mark holds nothing anew', () => {
    const rig = markedProcess()
    const { state } = rig
    expect(rig.quiesce()).toEqual([])
    expect(rig.state).toEqual(state)
  })

  test('quiesce of a stage that a process does not have is not answered', () => {
    const rig = processRig()
    rig.prepare()
    expect(rig.quiesce('store')).toEqual([])
  })

  test('capture while it runs is not begun again; when it is done, it is told again', () => {
    const rig = drainedProcess()
    const order: Order = { type: 'capture', ref: cutRef }
    expect(inShort(rig.order(order))).toEqual(['capture'])
    expect(rig.order(order)).toEqual([])
    const told = rig.tell({ type: 'captured', ref: cutRef, evidence })
    expect(inShort(told)).toEqual(['captured'])
    expect(rig.order(order)).toEqual(told)
  })
})

describe('capture', () => {
  const order: Order = { type: 'capture', ref: cutRef }

  test('is not begun without a mark', () => {
    expect(heldProcess().order(order)).toEqual([])
  })

  test('that failed may be asked for again', () => {
    const rig = drainedProcess()
    rig.order(order)
    const failed = rig.tell({ type: 'captureFailed', ref: cutRef, failure: failureOf('disk_full') })
    expect(inShort(failed)).toEqual(['failed disk_full'])
    expect(inShort(rig.order(order))).toEqual(['capture'])
  })

  test('tells how far it is', () => {
    const rig = drainedProcess()
    const told = rig.tell({ type: 'captureProgressed', ref: cutRef, bytes: 5, files: 1 })
    expect(told).toMatchObject([{ fact: { type: 'captureProgressed', bytes: 5 } }])
  })

  test('C8: news of another cut’s capture changes nothing', () => {
    const rig = drainedProcess()
    const { state } = rig
    expect(rig.tell({ type: 'captured', ref: nextRef, evidence })).toEqual([])
    expect(rig.tell({ type: 'captureFailed', ref: nextRef, failure: failureOf('x') })).toEqual([])
    expect(rig.tell({ type: 'captureProgressed', ref: nextRef, bytes: 1, files: 1 })).toEqual([])
    expect(rig.tell({ type: 'stateMarkFailed', ref: nextRef, failure: failureOf('x'), nowMs: 0 })).toEqual([])
    expect(rig.state).toBe(state)
  })
})

describe('C8: orders of another cut change nothing', () => {
  const others: readonly (readonly [string, CutRef])[] = [
    ['cut', { ...cutRef, cut: 'cut-0' as CutId }],
    ['epoch', { ...cutRef, epoch: 0 }],
    ['generation', { ...cutRef, generation: 0 }],
    ['token, newer', { ...cutRef, fencing: 2 }],
  ]
  test.each(others)('another %s', (_name, ref) => {
    const orders: readonly Order[] = [
      { type: 'quiesce', ref, stage: 'ingress', leaseMs: 1 },
      { type: 'mark', ref },
      { type: 'ownedMarked', ref },
      { type: 'resume', ref },
      { type: 'drain', ref, inbound: [], deadlineMs: 1 },
      { type: 'capture', ref },
    ]
    for (const order of orders) {
      const rig = heldProcess()
      const { state } = rig
      expect(inShort(rig.order(order)), order.type).toEqual(['failed cut_unknown'])
      expect(rig.state).toBe(state)
    }
    const rig = heldProcess()
    const { state } = rig
    expect(factOf(rig.order({ type: 'release', ref, outcome: 'aborted' }), 'released').ref).toEqual(ref)
    expect(rig.state).toBe(state)
  })

  test('an older fencing token is not even answered', () => {
    const rig = processRig()
    rig.prepare({ ...cutRef, fencing: 5 })
    const { state } = rig
    for (const type of ['mark', 'resume', 'capture'] as const) {
      expect(rig.order({ type, ref: { ...cutRef, fencing: 4 } })).toEqual([])
    }
    expect(rig.prepare({ ...nextRef, fencing: 4 })).toEqual([])
    expect(rig.release({ ...cutRef, fencing: 4 })).toEqual([])
    expect(rig.state).toBe(state)
  })
})

describe('holds', () => {
  test('C4: a process that holds nothing does not mark', () => {
    const rig = processRig()
    rig.prepare()
    expect(inShort(rig.mark())).toEqual(['failed hold_lost'])
    expect(rig.state.work).toBeNull()
  })

  test('C5: a hold ends at its lease, by itself; the order to mark that comes then is refused', () => {
    const rig = heldProcess({ gated: true })
    rig.arrive(1, ownWork)
    expect(inShort(rig.tick(1_000))).toEqual(['deliver 1'])
    expect(rig.state.gate.kind).toBe('open')
    expect(inShort(rig.mark())).toEqual(['failed hold_lost'])
  })

  test('C5: a gate that still closes opens at its lease', () => {
    const rig = processRig({ gated: true, handlerMs: 9_000 })
    rig.arrive(1, ownWork)
    rig.prepare()
    rig.quiesce()
    rig.arrive(2, ownWork)
    expect(inShort(rig.tick(1_000))).toEqual(['deliver 2'])
  })

  test('C5: a lease that ends after the mark opens the gate, and the answer to resume says so', () => {
    const rig = markedProcess({ gated: true })
    rig.tick(1_000)
    expect(rig.state.gate.kind).toBe('open')
    expect(factOf(rig.resume(), 'resumed').evidence).toEqual({
      unbroken: false,
      hold: 1,
      heldMs: 1_000,
      detail: 'the lease ended',
    })
  })

  test('C5: a lease that has ended by its own clock is broken, though no timer said so', () => {
    const rig = markedProcess({ gated: true })
    rig.nowMs = 1_000
    expect(factOf(rig.resume(), 'resumed').evidence).toMatchObject({ unbroken: false, detail: 'the lease ended' })
  })

  test('an order to resume without any hold says that nothing was held', () => {
    const rig = processRig()
    rig.prepare()
    const { evidence: told } = factOf(rig.resume(), 'resumed')
    expect(told).toEqual({ unbroken: false, hold: 0, heldMs: 0, detail: 'nothing was held' })
  })

  test('a hold after a lost one has a number of its own', () => {
    const rig = heldProcess()
    rig.tick(1_000)
    expect(factOf(rig.quiesce(), 'held').hold).toBe(2)
    expect(factOf(rig.resume(), 'resumed').evidence).toMatchObject({ hold: 2, unbroken: true })
  })

  test('numbers are never used again, not even in the next cut', () => {
    const rig = heldProcess()
    rig.prepare(nextRef)
    const effects = rig.order({ type: 'quiesce', ref: nextRef, stage: 'ingress', leaseMs: 1_000 })
    expect(factOf(effects, 'held').hold).toBe(2)
  })

  test('a tick without a cut does nothing', () => {
    const rig = processRig()
    const { state } = rig
    expect(rig.tick(5_000)).toEqual([])
    expect(rig.state).toBe(state)
  })
})

describe('timers', () => {
  const states: readonly (readonly [string, () => ProcessRig, number | null])[] = [
    ['nothing to do', () => processRig(), null],
    ['a held ingress', () => heldProcess(), 1_000],
    ['a closed gate', () => heldProcess({ gated: true }), 1_000],
    ['a mark being taken', () => markingProcess(), 1_000],
    ['a mark taken, ingress let go', () => markedProcess(), null],
    ['a mark taken, gate closed', () => markedProcess({ gated: true }), 1_000],
    ['resumed', () => drainedProcess(), null],
    ['an orphan', () => orphan(), 30_000],
  ]

  function markingProcess(): ProcessRig {
    const rig = heldProcess()
    rig.mark()
    return rig
  }

  function orphan(): ProcessRig {
    const rig = drainedProcess()
    rig.tell({ type: 'disconnected', nowMs: 0 })
    return rig
  }

  test.each(states)('%s', (_name, create, atMs) => {
    const rig = create()
    expect(nextProcessDeadlineMs(rig.state)).toBe(atMs)
    // Bug: a lease that had ended went on asking for a timer in the past.
    for (let ticks = 0; ticks < 5; ticks += 1) {
      const next = nextProcessDeadlineMs(rig.state)
      if (next === null) return
      rig.tick(next)
      expect(nextProcessDeadlineMs(rig.state)).not.toBe(next)
    }
    expect(nextProcessDeadlineMs(rig.state)).toBeNull()
  })

  test('a closing gate asks for its own deadline first', () => {
    const rig = processRig({ gated: true })
    rig.arrive(1, ownWork)
    rig.prepare()
    rig.quiesce()
    expect(nextProcessDeadlineMs(rig.state)).toBe(100)
  })
})

describe('a lost coordinator', () => {
  test('before the resume voids the cut: everything is let go at once (C7)', () => {
    for (const rig of [heldProcess(), heldProcess({ gated: true }), markedProcess({ gated: true })]) {
      rig.arrive(1, fromOutside)
      rig.send(1, 'q', null)
      rig.tell({ type: 'disconnected', nowMs: 0 })
      expect(rig.state).toMatchObject({ work: null, gate: { kind: 'open' }, waiting: [], heldSends: [] })
    }
  })

  test('after the resume leaves the mark for the next coordinator, for a while', () => {
    const rig = drainedProcess()
    expect(rig.tell({ type: 'disconnected', nowMs: 10 })).toEqual([])
    expect(rig.tick(30_009)).toEqual([])
    expect(inShort(rig.tick(30_010))).toEqual(['dropMark'])
    expect(rig.state.work).toBeNull()
  })

  test('who comes back in time is answered, and the mark stays', () => {
    const rig = drainedProcess()
    rig.tell({ type: 'disconnected', nowMs: 10 })
    expect(inShort(rig.order({ type: 'capture', ref: cutRef }))).toEqual(['capture'])
    rig.tick(60_000)
    expect(rig.state.work).not.toBeNull()
  })

  test('without a cut changes nothing', () => {
    const rig = processRig()
    const { state } = rig
    rig.tell({ type: 'disconnected', nowMs: 0 })
    expect(rig.state).toBe(state)
  })
})

describe('release', () => {
  test('C7: leaves nothing, whatever the cut had come to', () => {
    const stages: readonly (readonly [string, ProcessRig])[] = [
      ['prepared', preparedProcess()],
      ['held', heldProcess({ gated: true })],
      ['marking', markingOwner()],
      ['marked', markedProcess({ gated: true })],
      ['drained', drainedProcess()],
    ]
    for (const [stage, rig] of stages) {
      const hadEntered = rig.state.work?.entering !== null || rig.state.work?.mark !== null
      const effects = inShort(rig.release())
      expect(effects.at(-1), stage).toBe('released')
      expect(effects.includes('dropMark'), stage).toBe(hadEntered)
      expect(rig.state, stage).toMatchObject({ work: null, gate: { kind: 'open' }, heldSends: [], waiting: [] })
      // An epoch that was begun is never used again.
      expect(rig.state.epoch, stage).toBe(hadEntered ? 1 : 0)
      expect(nextProcessDeadlineMs(rig.state), stage).toBeNull()
    }
  })

  function preparedProcess(): ProcessRig {
    const rig = processRig()
    rig.prepare()
    return rig
  }

  function markingOwner(): ProcessRig {
    const rig = heldProcess({ owns: [nameOf('db')] })
    rig.mark()
    return rig
  }
})

describe('a new generation', () => {
  const enter = (generation: number, epoch: number) =>
    ({ type: 'generationEntered', generation, epoch, nowMs: 0 }) as const

  test('C9: ends sessions, counts, the cut, and whatever of the old one was not handed over', () => {
    const rig = heldProcess({ gated: true })
    rig.send(1, 'q', null)
    rig.arrive(1, messageTo('p', { seq: 1 }))
    rig.arrive(2, fromOutside)
    // Bug: what waited for the gate was sent with the stamp of the old generation, and lost.
    expect(inShort(rig.tell(enter(2, 7)))).toEqual(['sendRefused 1', 'refuse 1: older-generation', 'deliver 2'])
    expect(rig.state).toMatchObject({ generation: 2, epoch: 7, work: null, gate: { kind: 'open' }, heldSends: [] })
    expect(rig.state.inbound.size).toBe(0)
    expect(inShort(rig.send(2, 'q', null))).toEqual(['sendRefused 2'])
    rig.open('q')
    expect(rig.send(3, 'q', null)).toMatchObject([{ stamp: { generation: 2, epoch: 7, seq: 1 } }])
  })

  test('C9: an older generation changes nothing', () => {
    const rig = heldProcess()
    const { state } = rig
    expect(rig.tell(enter(0, 99))).toEqual([])
    expect(rig.tell(enter(1, 0))).toEqual([])
    expect(rig.state).toBe(state)
  })

  test('the same generation in a later epoch moves the epoch only', () => {
    const rig = processRig()
    rig.tell(enter(1, 6))
    expect(rig.state).toMatchObject({ generation: 1, epoch: 6 })
    expect(rig.state.outbound.size).toBe(1)
  })

  test('running handlers run on, and their sendings carry the new generation', () => {
    const rig = processRig()
    rig.arrive(1, ownWork)
    rig.tell(enter(2, 0))
    rig.open('q')
    expect(rig.send(1, 'q', 1)).toMatchObject([{ stamp: { generation: 2 } }])
  })
})

test('an uncertain sending of a session that is over changes nothing', () => {
  const rig = processRig()
  const { state } = rig
  const stale = { type: 'sendUncertain', channel: channel('p', 'q'), session: sessionOf('p', 'q', 7), seq: 1 } as const
  expect(rig.tell(stale)).toEqual([])
  expect(rig.tell({ ...stale, channel: channelId(nameOf('p'), nameOf('z')) })).toEqual([])
  expect(rig.state).toBe(state)
})

test('C2: counts at the drain come from the senders, one session after the other', () => {
  const rig = markedProcess()
  rig.arrive(1, messageTo('p', { seq: 1 }))
  expect(factOf(rig.drain([sentTo('p', 1)]), 'drained').inbound).toMatchObject([
    { recorded: [{ seq: 1 }], missing: [] },
  ])
})
