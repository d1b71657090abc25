/** Entering an epoch: by order, by a message, by a marker; with handlers that end in time, and with open ones. */
import { describe, expect, test } from 'vitest'
import type { ProcessMark } from './messages.ts'
import type { ProcessEffect } from './process-state.ts'
import {
  channel,
  cutRef,
  factOf,
  failureOf,
  fifo,
  fromOutside,
  heldProcess,
  inShort,
  loose,
  markedProcess,
  messageTo,
  nameOf,
  ownWork,
  type ProcessRig,
  processRig,
  replyTo,
  sessionOf,
} from './testing/process-rig.ts'

function markIn(effects: readonly ProcessEffect[]): ProcessMark {
  const { evidence } = factOf(effects, 'marked')
  if (evidence.kind !== 'process') throw new Error('a process marks as a process')
  return evidence
}

function marker(rig: ProcessRig, given: { epoch: number; generation?: number }): readonly ProcessEffect[] {
  const { epoch, generation = 1 } = given
  const stamp = { generation, epoch, channel: channel('q', 'p'), session: sessionOf('q', 'p') }
  return rig.tell({ type: 'markerArrived', stamp, traits: fifo, nowMs: rig.nowMs })
}

describe('what makes a process enter', () => {
  test('the order to mark', () => {
    const rig = heldProcess()
    expect(inShort(rig.mark())).toEqual(['markState'])
    const mark = markIn(rig.stateMarked())
    expect(mark).toMatchObject({ epochEntered: 1, enteredBy: 'order', incarnation: 'p-1' })
    expect(rig.state.epoch).toBe(1)
    expect(rig.state.gate.kind).toBe('open')
  })

  test('C1: a message of the epoch: first the epoch, then the message', () => {
    const rig = heldProcess()
    expect(inShort(rig.arrive(1, messageTo('p', { seq: 1, epoch: 1 })))).toEqual(['markState'])
    const effects = rig.stateMarked()
    expect(inShort(effects)).toEqual(['marked', 'deliver 1'])
    // It is no part of the marked state, and no channel state either.
    expect(markIn(effects)).toMatchObject({
      enteredBy: 'message',
      received: [{ received: { upTo: 0, beyond: [] }, epochMax: 0 }],
    })
  })

  test('C1: a message of the epoch waits for handlers of the epoch before', () => {
    const rig = heldProcess()
    rig.arrive(1, messageTo('p', { seq: 1 }))
    expect(inShort(rig.arrive(2, messageTo('p', { seq: 2, epoch: 1 })))).toEqual([])
    expect(inShort(rig.finish(1))).toEqual(['markState'])
    expect(inShort(rig.stateMarked())).toEqual(['marked', 'deliver 2'])
  })

  test('a marker of the epoch', () => {
    const rig = heldProcess()
    expect(inShort(marker(rig, { epoch: 1 }))).toEqual(['markState'])
    expect(markIn(rig.stateMarked()).enteredBy).toBe('marker')
  })

  test('the order that follows a message, and the message that follows an order, change nothing', () => {
    const rig = heldProcess()
    rig.arrive(1, messageTo('p', { seq: 1, epoch: 1 }))
    expect(rig.mark()).toEqual([])
    expect(rig.arrive(2, messageTo('p', { seq: 2, epoch: 1 }))).toEqual([])
    expect(markIn(rig.stateMarked()).enteredBy).toBe('message')
  })

  test('C9: a marker of another generation changes nothing', () => {
    const rig = heldProcess()
    const before = rig.state
    expect(marker(rig, { epoch: 1, generation: 2 })).toEqual([])
    expect(marker(rig, { epoch: 1, generation: 0 })).toEqual([])
    expect(rig.state).toBe(before)
  })

  test('a process without a part in the cut takes over its epoch: what it sends next carries it', () => {
    const rig = processRig()
    expect(inShort(rig.arrive(1, messageTo('p', { seq: 1, epoch: 3 })))).toEqual(['deliver 1'])
    expect(inShort(rig.send(1, 'q', 1))).toEqual(['send 1 in epoch 3'])
  })

  test('a message of a still later epoch is the news that the cut is over', () => {
    const rig = heldProcess()
    rig.arrive(1, fromOutside)
    expect(inShort(rig.arrive(2, messageTo('p', { seq: 1, epoch: 2 })))).toEqual(['deliver 1', 'deliver 2'])
    expect(rig.state).toMatchObject({ epoch: 2, work: null })
  })

  test('a message of an earlier attempt’s epoch moves the epoch and leaves the cut alone', () => {
    const rig = processRig()
    rig.prepare({ ...cutRef, epoch: 3 })
    expect(inShort(rig.arrive(1, messageTo('p', { seq: 1, epoch: 2 })))).toEqual(['deliver 1'])
    expect(rig.state.epoch).toBe(2)
    expect(rig.work.ref.epoch).toBe(3)
  })

  test('after its mark a process follows later epochs and goes on draining this one', () => {
    const rig = markedProcess()
    rig.arrive(1, messageTo('p', { seq: 2, epoch: 2 }))
    expect(rig.state.epoch).toBe(2)
    expect(inShort(rig.arrive(2, messageTo('p', { seq: 1 })))).toEqual(['record 1', 'deliver 2'])
  })
})

describe('the mark', () => {
  test('C2: what waits is recorded, what ran is received, what was sent is counted: in one step', () => {
    const rig = heldProcess()
    rig.arrive(1, messageTo('p', { seq: 1 }))
    rig.send(1, 'q', 1)
    rig.mark()
    rig.arrive(2, messageTo('p', { seq: 3 }))
    rig.arrive(3, messageTo('p', { seq: 2 }))
    rig.finish(1)
    const effects = rig.stateMarked()
    expect(inShort(effects)).toEqual(['record 3', 'record 2', 'marked', 'deliver 2', 'deliver 3'])
    expect(markIn(effects)).toMatchObject({ sent: [{ sent: 1 }], received: [{ received: { upTo: 1, beyond: [] } }] })
    expect(rig.work.recordings[0]?.recorded.map(({ seq }) => seq)).toEqual([2, 3])
  })

  test('C2: a reply that waits is recorded like a message', () => {
    const rig = heldProcess()
    rig.mark()
    rig.arrive(1, replyTo('p', { seq: 1, awaitedBy: null }))
    expect(inShort(rig.stateMarked())).toEqual(['record 1', 'marked', 'deliver 1'])
  })

  test('C2: a message of the epoch before that comes later is recorded once, and handed over', () => {
    const rig = markedProcess()
    expect(inShort(rig.arrive(1, messageTo('p', { seq: 1 })))).toEqual(['record 1', 'deliver 1'])
    expect(inShort(rig.arrive(2, messageTo('p', { seq: 1 })))).toEqual(['refuse 2: duplicate'])
    expect(rig.work.recordings).toMatchObject([{ recorded: [{ seq: 1, message: 'q-p-1' }] }])
  })

  test('a marker goes out on FIFO channels, and on no others', () => {
    const rig = heldProcess()
    rig.open('r', fifo)
    rig.mark()
    const effects = rig.stateMarked()
    expect(effects.filter(({ type }) => type === 'sendMarker')).toEqual([
      { type: 'sendMarker', stamp: { generation: 1, epoch: 1, channel: 'p→r', session: 'p→r/1' } },
    ])
  })

  test('says which sendings are uncertain, and of the open session only', () => {
    const rig = heldProcess()
    for (const seq of [3, 1]) {
      rig.tell({ type: 'sendUncertain', channel: channel('p', 'q'), session: sessionOf('p', 'q'), seq })
    }
    rig.tell({ type: 'sendUncertain', channel: channel('p', 'q'), session: sessionOf('p', 'q', 9), seq: 2 })
    rig.tell({ type: 'sendUncertain', channel: channel('p', 'z'), session: sessionOf('p', 'z'), seq: 2 })
    rig.mark()
    expect(markIn(rig.stateMarked()).sent).toMatchObject([{ uncertain: [1, 3] }])
  })

  describe('C2: a session that another one replaces', () => {
    function sessionsOf(effects: readonly ProcessEffect[]): readonly (readonly [string, number])[] {
      return markIn(effects).sent.map(({ session, sent }) => [session, sent])
    }

    test('while the mark is taken is counted: the marked state has what was sent in it', () => {
      const rig = heldProcess()
      rig.open('q')
      rig.send(1, 'q', null)
      rig.open('r')
      rig.mark()
      rig.open('q', fifo, 2)
      rig.open('q', fifo, 3)
      rig.open('r', fifo, 2)
      const effects = rig.stateMarked()
      expect(sessionsOf(effects)).toEqual([
        ['p→q/1', 1],
        ['p→q/3', 0],
        ['p→r/2', 0],
      ])
      const markers = effects.flatMap((effect) => (effect.type === 'sendMarker' ? [effect.stamp.session] : []))
      expect(markers).toEqual(['p→q/3', 'p→r/2'])
    })

    test('before that or after it is not: its end is in the marked state, or in neither', () => {
      const rig = heldProcess()
      rig.open('q')
      rig.send(1, 'q', null)
      rig.open('q', loose, 2)
      rig.mark()
      expect(sessionsOf(rig.stateMarked())).toEqual([['p→q/2', 0]])
      rig.open('q', loose, 3)
      expect(rig.work.mark?.sent).toMatchObject([{ session: 'p→q/2' }])
    })
  })

  test('C5: a gate that its lease opened while handlers still ran is marked when they end, and the hold is broken', () => {
    const rig = processRig({ gated: true, handlerMs: 9_000 })
    rig.arrive(1, messageTo('p', { seq: 1 }))
    rig.prepare()
    rig.quiesce()
    rig.arrive(2, messageTo('p', { seq: 2, epoch: 1 }))
    rig.tick(1_000)
    expect(rig.state.gate.kind).toBe('open')
    expect(inShort(rig.finish(1))).toEqual(['markState'])
    expect(markIn(rig.stateMarked())).toMatchObject({ enteredBy: 'message', gateMs: 0 })
    expect(factOf(rig.resume(), 'resumed').evidence).toMatchObject({ unbroken: false, detail: 'the lease ended' })
  })

  test('tells how long the gate was closed', () => {
    const rig = processRig({ gated: true })
    rig.nowMs = 10
    rig.prepare()
    rig.quiesce()
    rig.nowMs = 35
    rig.mark()
    rig.nowMs = 50
    expect(markIn(rig.stateMarked()).gateMs).toBe(40)
  })

  test('C3: a gated process stays closed after its mark, until the order to resume', () => {
    const rig = markedProcess({ gated: true })
    expect(rig.state.gate.kind).toBe('closed')
    expect(rig.arrive(1, ownWork)).toEqual([])
    expect(inShort(rig.resume())).toEqual(['resumed', 'deliver 1'])
  })

  test('a mark that is answered before it was asked for, or twice, changes nothing', () => {
    const rig = heldProcess()
    expect(rig.stateMarked()).toEqual([])
    rig.mark()
    rig.stateMarked()
    expect(rig.stateMarked()).toEqual([])
  })

  test('a state that cannot be marked ends the cut here, and says why', () => {
    const rig = heldProcess()
    rig.mark()
    rig.send(1, 'q', null)
    const failure = failureOf('hook_failed')
    const effects = rig.tell({ type: 'stateMarkFailed', ref: cutRef, failure, nowMs: 0 })
    expect(inShort(effects)).toEqual(['dropMark', 'send 1 in epoch 1', 'failed hook_failed'])
    expect(rig.state).toMatchObject({ work: null, gate: { kind: 'open' }, epoch: 1 })
    expect(rig.tell({ type: 'stateMarkFailed', ref: cutRef, failure, nowMs: 0 })).toEqual([])
  })

  test('a state whose mark takes longer than the lease ends the cut here (C5, C10)', () => {
    const rig = heldProcess({ leaseMs: 1_000 })
    rig.nowMs = 500
    rig.mark()
    expect(rig.tick(1_499)).toEqual([])
    expect(inShort(rig.tick(1_500))).toEqual(['dropMark', 'failed mark_timed_out'])
    expect(rig.state.gate.kind).toBe('open')
  })
})

describe('owned stores', () => {
  const owner = { owns: [nameOf('db')] }

  test('are marked behind the closed gate: the epoch is entered when both marks are there', () => {
    const rig = heldProcess(owner)
    expect(inShort(rig.mark())).toEqual(['markState', 'entering'])
    expect(rig.stateMarked()).toEqual([])
    expect(rig.send(1, 'q', null)).toEqual([])
    const effects = rig.order({ type: 'ownedMarked', ref: cutRef })
    expect(inShort(effects)).toEqual(['marked', 'send 1 in epoch 1'])
  })

  test('in the other order too, and with the news told twice', () => {
    const rig = heldProcess(owner)
    rig.mark()
    expect(rig.order({ type: 'ownedMarked', ref: cutRef })).toEqual([])
    expect(rig.order({ type: 'ownedMarked', ref: cutRef })).toEqual([])
    expect(inShort(rig.stateMarked())).toEqual(['marked'])
    expect(rig.order({ type: 'ownedMarked', ref: cutRef })).toEqual([])
  })
})

describe('open handlers', () => {
  test('by deadline: the process enters without a handler that does not end, and its message is channel state', () => {
    const rig = heldProcess({ handlerMs: 100 })
    rig.arrive(1, messageTo('p', { seq: 1, transactional: true }))
    expect(rig.mark()).toEqual([])
    expect(rig.tick(99)).toEqual([])
    expect(inShort(rig.tick(100))).toEqual(['markState'])
    const effects = rig.stateMarked()
    expect(inShort(effects)).toEqual(['record 1', 'marked'])
    expect(markIn(effects)).toMatchObject({
      received: [{ received: { upTo: 0, beyond: [] } }],
      openHandlers: [
        { startedBy: 'message', message: 'q-p-1', channel: 'q→p', transactional: true, cutOffBy: 'deadline' },
      ],
    })
    expect(inShort(rig.send(1, 'q', 1))).toEqual(['send 1 in epoch 1'])
    rig.finish(1)
    expect(rig.state.open.size).toBe(0)
  })

  test('by reply: a handler that waits for a reply of the new epoch can never end before it', () => {
    const rig = heldProcess()
    rig.arrive(1, fromOutside)
    rig.arrive(2, ownWork)
    expect(inShort(rig.arrive(3, replyTo('p', { seq: 1, epoch: 1, awaitedBy: 2 })))).toEqual(['markState'])
    const effects = rig.stateMarked()
    expect(markIn(effects).openHandlers).toEqual([{ startedBy: 'process', transactional: false, cutOffBy: 'reply' }])
    expect(inShort(effects)).toEqual(['marked', 'deliver 1', 'deliver 3'])
  })

  test('a reply of the new epoch that nobody awaits, or whose handler has ended, opens nothing', () => {
    const rig = heldProcess()
    rig.arrive(1, replyTo('p', { seq: 1, epoch: 1, awaitedBy: null }))
    rig.arrive(2, replyTo('p', { seq: 2, epoch: 1, awaitedBy: 99 }))
    expect(markIn(rig.stateMarked()).openHandlers).toEqual([])
  })

  test('an old reply is handed over, and does not open its handler', () => {
    const rig = heldProcess()
    rig.arrive(1, ownWork)
    rig.mark()
    expect(inShort(rig.arrive(2, replyTo('p', { seq: 1, awaitedBy: 1 })))).toEqual(['deliver 2'])
    expect(inShort(rig.finish(1))).toEqual(['markState'])
    expect(markIn(rig.stateMarked()).openHandlers).toEqual([])
  })

  test('a handler of an outsider’s request is named as such', () => {
    const rig = processRig({ handlerMs: 100 })
    rig.arrive(1, { kind: 'outsider', holdable: true, transactional: true })
    rig.prepare()
    rig.quiesce()
    rig.mark()
    rig.tick(100)
    expect(markIn(rig.stateMarked()).openHandlers).toEqual([
      { startedBy: 'outsider', transactional: true, cutOffBy: 'deadline' },
    ])
  })

  test('by gate: see gate.test.ts; a handler of the process’s own that ends late is named without a message', () => {
    const rig = processRig({ gated: true })
    rig.arrive(1, ownWork)
    rig.prepare()
    rig.quiesce()
    rig.tick(100)
    rig.finish(1)
    rig.mark()
    expect(markIn(rig.stateMarked()).openHandlers).toEqual([
      { startedBy: 'process', transactional: false, cutOffBy: 'gate' },
    ])
  })

  test('one that ends while the mark is being taken is open all the same: the mark may not have its effects', () => {
    const rig = heldProcess()
    rig.arrive(1, messageTo('p', { seq: 1 }))
    rig.mark()
    rig.tick(100)
    rig.finish(1)
    const effects = rig.stateMarked()
    expect(markIn(effects).openHandlers).toHaveLength(1)
    expect(inShort(effects)).toEqual(['record 1', 'marked'])
  })

  test('an open handler does not stop its FIFO channel: it may wait for that channel', () => {
    const rig = heldProcess()
    rig.arrive(1, messageTo('p', { seq: 1, traits: fifo }))
    rig.mark()
    rig.tick(100)
    rig.arrive(2, messageTo('p', { seq: 2, traits: fifo }))
    expect(inShort(rig.stateMarked())).toEqual(['record 2', 'record 1', 'marked', 'deliver 2'])
  })

  test('no later gate waits for it, until it has ended', () => {
    const rig = processRig({ gated: true })
    rig.arrive(1, ownWork)
    rig.prepare()
    rig.quiesce()
    rig.tick(100)
    rig.mark()
    rig.stateMarked()
    rig.resume()
    expect([...rig.state.open]).toEqual([1])
    rig.release()
    // The cut is over: the next one waits for it like for any other.
    expect([...rig.state.open]).toEqual([])
  })
})
