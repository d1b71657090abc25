/** The cut protocol of one store: the order of the calls, idempotence, the lease, and that nothing is left. */
import { describe, expect, test } from 'vitest'
import { defined } from '../kernel/assert.ts'
import type { CutId } from '../kernel/ids.ts'
import type { CutRef } from './messages.ts'
import { initialStore, nextStoreDeadlineMs, type StoreEffect } from './store.ts'
import { cutRef, factOf, failureOf, incarnationOf, nameOf, nextRef } from './testing/process-rig.ts'
import { calls, evidence, facts, type Stage, StoreRig, settle, storeAt } from './testing/store-rig.ts'

describe('a quiesced store, from prepare to release', () => {
  test('each order is a call, and each answer a fact', () => {
    const rig = new StoreRig()
    expect(calls(rig.prepare())).toEqual(['prepare'])
    expect(factOf(rig.prepared(), 'ready')).toMatchObject({
      incarnation: 'db-1',
      estimateBytes: 9,
      version: 'model 1',
      notes: ['slow'],
    })
    expect(rig.quiesce()).toMatchObject([{ type: 'call', call: { call: 'quiesce', leaseMs: 1_000 } }])
    rig.nowMs = 5
    expect(factOf(rig.held(), 'held')).toMatchObject({ stage: 'store', hold: 1 })
    expect(calls(rig.give('mark'))).toEqual(['mark'])
    rig.nowMs = 8
    expect(factOf(rig.marked(), 'marked').evidence).toEqual({
      kind: 'store',
      incarnation: 'db-1',
      grade: 'quiesced',
      position: { lsn: '0/1' },
      caveats: ['no row locks'],
      heldAtMs: 5,
      markedAtMs: 8,
    })
    expect(calls(rig.give('resume'))).toEqual(['resume'])
    rig.nowMs = 10
    expect(factOf(rig.resumed(), 'resumed').evidence).toEqual({ unbroken: true, hold: 1, heldMs: 5 })
    expect(calls(rig.give('capture'))).toEqual(['capture'])
    expect(factOf(rig.answer({ call: 'capture', evidence }), 'captured').evidence).toBe(evidence)
    expect(calls(rig.release())).toEqual(['release'])
    expect(facts(rig.answer({ call: 'release' }))).toEqual(['released'])
    expect(rig.state.work).toBeNull()
  })

  test.each(['owned', 'gated'] as const)('a store that is %s marks without a hold of its own', (grade) => {
    const rig = storeAt('prepared', grade)
    expect(calls(rig.give('mark'))).toEqual(['mark'])
    expect(factOf(rig.marked(), 'marked').evidence).toMatchObject({ grade, heldAtMs: null })
    expect(settle(rig, rig.release())).toEqual({ calls: ['release'], facts: ['released'] })
  })

  test('one call at a time: what is ordered meanwhile waits', () => {
    const rig = new StoreRig()
    rig.prepare()
    expect(rig.quiesce()).toEqual([])
    expect(rig.quiesce()).toEqual([])
    const effects = rig.prepared()
    expect(facts(effects)).toEqual(['ready'])
    expect(calls(effects)).toEqual(['quiesce'])
  })

  test('orders for processes only are not for a store', () => {
    const rig = storeAt('held')
    expect(rig.give('ownedMarked')).toEqual([])
    expect(rig.order({ type: 'drain', ref: cutRef, inbound: [], deadlineMs: 1 })).toEqual([])
    const role = { kind: 'process', incarnation: incarnationOf('x'), gated: false, owns: [], handlerMs: 1, leaseMs: 1 }
    expect(new StoreRig().order({ type: 'prepare', ref: cutRef, role: { ...role, kind: 'process' } })).toEqual([])
  })

  test('nothing is captured without a mark', () => {
    expect(storeAt('held').give('capture')).toEqual([])
  })

  test('tells how far the capture is', () => {
    const rig = storeAt('resumed')
    rig.give('capture')
    const told = rig.tell({ type: 'captureProgressed', ref: cutRef, bytes: 7, files: 2 })
    expect(told).toMatchObject([{ fact: { type: 'captureProgressed', bytes: 7, files: 2 } }])
    expect(rig.tell({ type: 'captureProgressed', ref: nextRef, bytes: 7, files: 2 })).toEqual([])
  })
})

describe('every order twice: the same answer, and no second call', () => {
  const orders: readonly (readonly [string, Stage, (rig: StoreRig) => readonly StoreEffect[]])[] = [
    ['prepare', 'prepared', (rig) => rig.prepare()],
    ['quiesce', 'held', (rig) => rig.quiesce()],
    ['mark', 'marked', (rig) => rig.give('mark')],
    ['resume', 'resumed', (rig) => rig.give('resume')],
    ['capture', 'captured', (rig) => rig.give('capture')],
  ]
  test.each(orders)('%s', (_name, stage, give) => {
    const rig = storeAt(stage)
    const { state } = rig
    const first = give(rig)
    expect(calls(first)).toEqual([])
    expect(facts(first)).toHaveLength(1)
    expect(give(rig)).toEqual(first)
    expect(rig.state).toEqual(state)
  })

  test('while the call of the first one still runs, the second one waits for the same answer', () => {
    const steps: readonly (readonly [Stage, (rig: StoreRig) => readonly StoreEffect[]])[] = [
      ['prepared', (rig) => rig.quiesce()],
      ['held', (rig) => rig.give('mark')],
      ['marked', (rig) => rig.give('resume')],
      ['resumed', (rig) => rig.give('capture')],
    ]
    for (const [stage, give] of steps) {
      const rig = storeAt(stage)
      expect(calls(give(rig))).toHaveLength(1)
      expect(give(rig)).toEqual([])
      expect(settle(rig, []).facts).toHaveLength(1)
    }
    const rig = new StoreRig()
    rig.prepare()
    expect(rig.prepare()).toEqual([])
  })

  test('release', () => {
    const rig = storeAt('held')
    expect(calls(rig.release())).toEqual(['resume'])
    expect(rig.release()).toEqual([])
    expect(settle(rig, [])).toEqual({ calls: ['release'], facts: ['released'] })
    expect(facts(rig.release())).toEqual(['released'])
  })
})

describe('C8: what is stale changes nothing', () => {
  const others: readonly (readonly [string, CutRef])[] = [
    ['cut', { ...cutRef, cut: 'cut-0' as CutId }],
    ['epoch', { ...cutRef, epoch: 0 }],
    ['generation', { ...cutRef, generation: 0 }],
  ]
  test.each(others)('another %s', (_name, ref) => {
    const rig = storeAt('held')
    const { state } = rig
    for (const type of ['mark', 'resume', 'capture'] as const) {
      expect(facts(rig.give(type, ref))).toEqual(['failed cut_unknown'])
    }
    expect(facts(rig.release(ref))).toEqual(['released'])
    expect(rig.answer({ call: 'resume', unbroken: true }, ref)).toEqual([])
    const failure = failureOf('x')
    expect(rig.tell({ type: 'callFailed', ref, call: 'mark', failure, nowMs: 0 })).toEqual([])
    expect(rig.state).toBe(state)
  })

  test('an older fencing token is not even answered', () => {
    const rig = new StoreRig()
    rig.prepare({ ...cutRef, fencing: 5 })
    const { state } = rig
    expect(rig.prepare({ ...nextRef, fencing: 4 })).toEqual([])
    expect(rig.give('mark', { ...cutRef, fencing: 4 })).toEqual([])
    expect(rig.release({ ...cutRef, fencing: 4 })).toEqual([])
    expect(rig.state).toBe(state)
  })

  test('an answer that nobody waits for', () => {
    const rig = storeAt('held')
    const { state } = rig
    expect(rig.marked()).toEqual([])
    expect(rig.fail('capture')).toEqual([])
    expect(rig.state).toBe(state)
  })

  test.each([
    ['epoch', cutRef, nextRef],
    ['generation', cutRef, { ...nextRef, epoch: 1, generation: 2 }],
    ['fencing token', { ...cutRef, epoch: 9 }, { ...nextRef, fencing: 2 }],
  ])('an older attempt does not end a newer one: %s', (_name, older, newer) => {
    // Bug: any other order to prepare ended the cut that was under way.
    const rig = new StoreRig()
    rig.prepare(newer)
    const { state } = rig
    const answer = facts(rig.prepare(older))
    expect(answer).toEqual(older.fencing < newer.fencing ? [] : ['failed epoch_past'])
    expect(rig.state).toBe(state)
  })

  test('another attempt that claims the same place does not end the one that is under way', () => {
    const rig = storeAt('held')
    expect(facts(rig.prepare({ ...cutRef, cut: 'cut-x' as CutId }))).toEqual(['failed epoch_past'])
    expect(rig.state.work?.ref).toEqual(cutRef)
  })
})

describe('C5: a hold that may have ended is no hold', () => {
  test('C4: without a hold nothing is marked', () => {
    expect(facts(storeAt('prepared').give('mark'))).toEqual(['failed hold_lost'])
  })

  test('the mark is refused when the lease has ended by its own clock', () => {
    const rig = storeAt('held')
    rig.nowMs = 1_000
    expect(facts(rig.give('mark'))).toEqual(['failed hold_lost'])
  })

  test('the timer ends our side of the hold, and the answer to resume says so', () => {
    const rig = storeAt('marked')
    expect(nextStoreDeadlineMs(rig.state)).toBe(1_000)
    expect(rig.tick(999)).toEqual([])
    expect(calls(rig.tick(1_000))).toEqual(['resume'])
    expect(rig.tick(1_001)).toEqual([])
    expect(facts(rig.resumed())).toEqual([])
    expect(nextStoreDeadlineMs(rig.state)).toBeNull()
    expect(factOf(rig.give('resume'), 'resumed').evidence).toMatchObject({
      unbroken: false,
      detail: 'let go before the order to resume',
    })
  })

  test('a lease that has ended wants no timer while the store is slow to let go, or goes round in circles', () => {
    const running = storeAt('marked')
    expect(calls(running.tick(1_000))).toEqual(['resume'])
    expect(nextStoreDeadlineMs(running.state)).toBeNull()
    const queued = storeAt('held')
    queued.give('mark')
    expect(queued.tick(1_000)).toEqual([])
    expect(nextStoreDeadlineMs(queued.state)).toBeNull()
    expect(calls(queued.marked())).toEqual(['resume'])
    expect(nextStoreDeadlineMs(queued.state)).toBeNull()
  })

  test('an order to resume that comes after the lease: whatever the store says, the hold was spent', () => {
    const rig = storeAt('marked')
    rig.nowMs = 1_000
    rig.give('resume')
    expect(factOf(rig.resumed(true), 'resumed').evidence).toMatchObject({
      unbroken: false,
      detail: 'the lease ended before the order to resume',
    })
  })

  test('an order to resume while the timer’s resume is under way', () => {
    const rig = storeAt('marked')
    rig.tick(1_000)
    expect(rig.give('resume')).toEqual([])
    expect(factOf(rig.resumed(true), 'resumed').evidence.unbroken).toBe(false)
  })

  test('the store’s own word that it was let go stands', () => {
    const rig = storeAt('marked')
    rig.give('resume')
    expect(factOf(rig.resumed(false, 'the server closed the session'), 'resumed').evidence).toMatchObject({
      unbroken: false,
      detail: 'the server closed the session',
    })
    const again = storeAt('marked')
    again.give('resume')
    expect(factOf(again.resumed(false), 'resumed').evidence).toEqual({ unbroken: false, hold: 1, heldMs: 0 })
  })

  test('a resume that fails is no proof of an unbroken hold', () => {
    const rig = storeAt('marked')
    rig.give('resume')
    expect(factOf(rig.fail('resume'), 'resumed').evidence).toMatchObject({
      unbroken: false,
      detail: 'planted: store_down',
    })
  })

  test('a mark that took longer than the lease is found out at the resume', () => {
    const rig = storeAt('held')
    rig.give('mark')
    rig.tick(1_000)
    rig.marked()
    rig.resumed()
    expect(factOf(rig.give('resume'), 'resumed').evidence.unbroken).toBe(false)
  })

  test('an order to resume what was never held says that it was not held', () => {
    const rig = storeAt('prepared')
    rig.give('resume')
    const { evidence } = factOf(rig.resumed(), 'resumed')
    expect(evidence).toMatchObject({ unbroken: false, detail: 'nothing was held' })
    expect(factOf(rig.give('resume'), 'resumed').evidence).toEqual(evidence)
  })

  test('a hold that ends ends no other state: no timer without a hold', () => {
    expect(nextStoreDeadlineMs(initialStore(nameOf('db'), incarnationOf('1')))).toBeNull()
    expect(nextStoreDeadlineMs(storeAt('prepared').state)).toBeNull()
    expect(nextStoreDeadlineMs(storeAt('resumed').state)).toBeNull()
    const ending = storeAt('held')
    ending.release()
    expect(nextStoreDeadlineMs(ending.state)).toBeNull()
    expect(ending.tick(5_000)).toEqual([])
  })
})

describe('calls that fail', () => {
  test.each([
    ['prepare', new StoreRig(), (rig: StoreRig) => rig.prepare()],
    ['quiesce', storeAt('prepared'), (rig: StoreRig) => rig.quiesce()],
    ['mark', storeAt('held'), (rig: StoreRig) => rig.give('mark')],
    ['capture', storeAt('resumed'), (rig: StoreRig) => rig.give('capture')],
  ] as const)('%s: the coordinator is told, and may ask again', (call, rig, give) => {
    give(rig)
    const effects = rig.fail(call)
    expect(factOf(effects, 'failed')).toMatchObject({ during: call, failure: { code: 'store_down' } })
    if (call !== 'prepare') expect(calls(give(rig))).toEqual([call])
  })

  test('release: the cut is over all the same', () => {
    const rig = storeAt('captured')
    rig.release()
    expect(facts(rig.fail('release'))).toEqual(['released'])
    expect(rig.state.work).toBeNull()
  })
})

describe('C7: the end of a cut undoes everything, wherever it was', () => {
  const stages: readonly Stage[] = ['prepared', 'held', 'marked', 'resumed', 'captured']
  test.each(stages)('released when %s', (stage) => {
    const rig = storeAt(stage)
    const isHeld = stage !== 'resumed' && stage !== 'captured'
    const seen = settle(rig, rig.release())
    expect(seen).toEqual({ calls: isHeld ? ['resume', 'release'] : ['release'], facts: ['released'] })
    expect(rig.state.work).toBeNull()
  })

  test.each(stages)('disconnected when %s: undone too, and nobody is told', (stage) => {
    const rig = storeAt(stage)
    const seen = settle(rig, rig.tell({ type: 'disconnected', nowMs: 0 }))
    expect(seen.calls.at(-1)).toBe('release')
    expect(seen.facts).toEqual([])
    expect(rig.state.work).toBeNull()
  })

  test.each([
    ['quiesce', storeAt('prepared'), (rig: StoreRig) => rig.quiesce(), ['cancel', 'resume', 'release']],
    ['mark', storeAt('held'), (rig: StoreRig) => rig.give('mark'), ['cancel', 'resume', 'release']],
    ['resume', storeAt('marked'), (rig: StoreRig) => rig.give('resume'), ['cancel', 'release']],
    ['capture', storeAt('resumed'), (rig: StoreRig) => rig.give('capture'), ['cancel', 'release']],
  ] as const)('a %s that runs is cancelled; what it did or did not do is undone', (call, rig, give, expected) => {
    give(rig)
    const first = rig.release()
    expect(calls(first)).toEqual(['cancel'])
    expect(settle(rig, first).calls).toEqual(expected)
    expect(rig.state.work, call).toBeNull()
  })

  test('a cancelled call that answers with a failure is undone as well', () => {
    const rig = storeAt('prepared')
    rig.quiesce()
    rig.release()
    expect(calls(rig.fail('quiesce'))).toEqual(['resume'])
    expect(calls(rig.fail('resume'))).toEqual(['release'])
    expect(facts(rig.fail('release'))).toEqual(['released'])
  })

  test('a cut that is being undone takes no orders', () => {
    const rig = storeAt('held')
    rig.release()
    expect(facts(rig.give('mark'))).toEqual(['failed cut_unknown'])
  })

  test('an order to release after a lost connection is answered when everything is undone', () => {
    const rig = storeAt('held')
    rig.tell({ type: 'disconnected', nowMs: 0 })
    expect(facts(rig.release())).toEqual([])
    rig.tell({ type: 'disconnected', nowMs: 0 })
    expect(settle(rig, []).facts).toEqual(['released'])
  })

  test('disconnected without a cut', () => {
    const rig = new StoreRig()
    expect(rig.tell({ type: 'disconnected', nowMs: 0 })).toEqual([])
  })
})

describe('a newer cut while an older one is under way', () => {
  test('waits until the older one is undone', () => {
    const rig = storeAt('held')
    const first = rig.prepare(nextRef)
    expect(calls(first)).toEqual(['resume'])
    expect(settle(rig, first)).toEqual({ calls: ['resume', 'release', 'prepare'], facts: ['ready'] })
    expect(defined(rig.state.work, 'work').ref).toEqual(nextRef)
  })

  test('of a newer coordinator comes first, even with an older epoch', () => {
    const rig = new StoreRig()
    rig.prepare({ ...nextRef, epoch: 7 })
    rig.prepare({ ...cutRef, fencing: 2 })
    expect(rig.state.fencing).toBe(2)
    expect(rig.state.next?.ref.fencing).toBe(2)
  })

  test('that is released before its turn is forgotten', () => {
    // Bug: it was answered with `released`, and then prepared after all.
    const rig = storeAt('held')
    rig.prepare(nextRef)
    expect(facts(rig.release(nextRef))).toEqual(['released'])
    expect(settle(rig, []).calls).toEqual(['release'])
    expect(rig.state).toMatchObject({ work: null, next: null })
  })

  test('whose coordinator is lost before its turn is forgotten', () => {
    const rig = storeAt('held')
    rig.prepare(nextRef)
    rig.tell({ type: 'disconnected', nowMs: 0 })
    settle(rig, [])
    expect(rig.state).toMatchObject({ work: null, next: null })
  })

  test('the release of some other cut leaves the one that waits', () => {
    const rig = storeAt('held')
    rig.prepare(nextRef)
    rig.release({ ...nextRef, cut: 'cut-7' as CutId })
    settle(rig, [])
    expect(rig.state.work?.ref).toEqual(nextRef)
  })

  test('the same cut prepared again while it is being undone begins anew, and is not called ready before', () => {
    const rig = storeAt('held')
    rig.tell({ type: 'disconnected', nowMs: 0 })
    expect(facts(rig.prepare())).toEqual([])
    expect(settle(rig, [])).toEqual({ calls: ['release', 'prepare'], facts: ['ready'] })
  })
})
