/** Who may run, and which sendings leave, in every state of the gate. */
import { describe, expect, test } from 'vitest'
import {
  cutRef,
  factOf,
  fifo,
  fromOutside,
  heldProcess,
  inShort,
  markedProcess,
  messageTo,
  ownWork,
  processRig,
  replyTo,
  unstoppable,
} from './testing/process-rig.ts'

describe('an open gate', () => {
  test('hands everything over, in order of arrival', () => {
    const rig = processRig()
    expect(inShort(rig.arrive(1, messageTo('p', { seq: 1 })))).toEqual(['deliver 1'])
    expect(inShort(rig.arrive(2, fromOutside))).toEqual(['deliver 2'])
    expect(inShort(rig.arrive(3, ownWork))).toEqual(['deliver 3'])
    expect(inShort(rig.arrive(4, replyTo('p', { seq: 2, awaitedBy: 3 })))).toEqual(['deliver 4'])
    expect([...rig.state.running.keys()]).toEqual([1, 2, 3])
  })

  test('C2: a message that arrives twice in its session is refused the second time', () => {
    const rig = processRig()
    rig.arrive(1, messageTo('p', { seq: 1 }))
    expect(inShort(rig.arrive(2, messageTo('p', { seq: 1 })))).toEqual(['refuse 2: duplicate'])
  })

  test('a FIFO channel hands over one message after the other', () => {
    const rig = processRig()
    expect(inShort(rig.arrive(1, messageTo('p', { seq: 1, traits: fifo })))).toEqual(['deliver 1'])
    expect(inShort(rig.arrive(2, messageTo('p', { seq: 2, traits: fifo })))).toEqual([])
    expect(inShort(rig.arrive(3, messageTo('p', { seq: 3, traits: fifo })))).toEqual([])
    expect(inShort(rig.arrive(4, messageTo('p', { from: 'r', seq: 1, traits: fifo })))).toEqual(['deliver 4'])
    expect(inShort(rig.finish(1))).toEqual(['deliver 2'])
    expect(inShort(rig.finish(2))).toEqual(['deliver 3'])
  })

  test('a handler that ends twice, or never began, changes nothing', () => {
    const rig = processRig()
    rig.arrive(1, ownWork)
    rig.finish(1)
    const before = rig.state
    expect(rig.finish(1)).toEqual([])
    expect(rig.finish(99)).toEqual([])
    expect(rig.state).toEqual(before)
  })

  test('numbers sendings per channel, and stamps them with generation, epoch and session', () => {
    const rig = processRig()
    rig.open('r')
    const stamps = [rig.send(1, 'q', null), rig.send(2, 'q', null), rig.send(3, 'r', null)].flat()
    expect(stamps).toMatchObject([
      { type: 'send', send: 1, stamp: { seq: 1, epoch: 0, generation: 1 } },
      { type: 'send', send: 2, stamp: { seq: 2 } },
      { type: 'send', send: 3, stamp: { seq: 1 } },
    ])
  })

  test('a sending on a channel without a session is refused, not lost', () => {
    expect(inShort(processRig().send(1, 'nobody', null))).toEqual(['sendRefused 1'])
  })

  test('a new session counts from the beginning', () => {
    const rig = processRig()
    rig.send(1, 'q', null)
    rig.open('q', fifo, 2)
    expect(rig.send(2, 'q', null)).toMatchObject([{ stamp: { seq: 1, session: 'p→q/2' } }])
  })
})

describe('generations', () => {
  test('C9: a message of an older generation is refused, and one of a newer until this process is restored', () => {
    const rig = processRig()
    expect(inShort(rig.arrive(1, messageTo('p', { seq: 1, generation: 0 })))).toEqual(['refuse 1: older-generation'])
    expect(inShort(rig.arrive(2, messageTo('p', { seq: 1, generation: 2 })))).toEqual(['refuse 2: newer-generation'])
    rig.tell({ type: 'generationEntered', generation: 2, epoch: 5, nowMs: 0 })
    expect(inShort(rig.arrive(3, messageTo('p', { seq: 1, generation: 2, epoch: 5 })))).toEqual(['deliver 3'])
    expect(inShort(rig.arrive(4, messageTo('p', { seq: 2, generation: 1 })))).toEqual(['refuse 4: older-generation'])
  })
})

describe('a held ingress', () => {
  test('holds what comes from outside until the epoch is entered; coloured messages and own work flow on', () => {
    const rig = heldProcess()
    expect(inShort(rig.arrive(1, fromOutside))).toEqual([])
    expect(inShort(rig.arrive(2, messageTo('p', { seq: 1 })))).toEqual(['deliver 2'])
    expect(inShort(rig.arrive(3, ownWork))).toEqual(['deliver 3'])
    rig.finish(2)
    rig.finish(3)
    rig.mark()
    expect(inShort(rig.stateMarked())).toEqual(['marked', 'deliver 1'])
  })

  test('counts what an adapter could not hold', () => {
    const rig = heldProcess()
    expect(inShort(rig.arrive(1, unstoppable))).toEqual(['deliver 1'])
    rig.finish(1)
    rig.mark()
    expect(factOf(rig.stateMarked(), 'marked').evidence).toMatchObject({ uncolouredHandled: 1 })
  })

  test('does not count it before the hold, nor after the epoch was entered', () => {
    const rig = processRig()
    rig.prepare()
    rig.arrive(1, unstoppable)
    rig.finish(1)
    rig.quiesce()
    rig.mark()
    expect(factOf(rig.stateMarked(), 'marked').evidence).toMatchObject({ uncolouredHandled: 0 })
    rig.arrive(2, unstoppable)
    expect(rig.work.uncolouredHandled).toBe(0)
  })

  test('what waited goes on when the lease ends (C5)', () => {
    const rig = heldProcess()
    rig.arrive(1, fromOutside)
    expect(inShort(rig.tick(999))).toEqual([])
    expect(inShort(rig.tick(1_000))).toEqual(['deliver 1'])
  })
})

describe('a closing gate', () => {
  function closing() {
    const rig = processRig({ gated: true })
    rig.arrive(1, messageTo('p', { seq: 1 }))
    rig.prepare()
    expect(inShort(rig.quiesce())).toEqual([])
    expect(rig.state.gate.kind).toBe('closing')
    return rig
  }

  test('takes no new work', () => {
    const rig = closing()
    expect(inShort(rig.arrive(2, messageTo('p', { seq: 2 })))).toEqual([])
    expect(inShort(rig.arrive(3, ownWork))).toEqual([])
    expect(inShort(rig.arrive(4, fromOutside))).toEqual([])
    expect(rig.state.waiting.map(({ item }) => item)).toEqual([2, 3, 4])
  })

  test('lets through what running handlers need to end: replies, requests, and their own sendings', () => {
    const rig = closing()
    expect(inShort(rig.arrive(2, replyTo('p', { seq: 2, awaitedBy: 1 })))).toEqual(['deliver 2'])
    expect(inShort(rig.arrive(3, messageTo('p', { seq: 3, expectsReply: true })))).toEqual(['deliver 3'])
    expect(inShort(rig.send(1, 'q', 1))).toEqual(['send 1 in epoch 0'])
    expect(inShort(rig.send(2, 'q', 3))).toEqual(['send 2 in epoch 0'])
  })

  test('keeps the sendings of code outside every handler, and of handlers that have ended', () => {
    const rig = closing()
    expect(rig.send(1, 'q', null)).toEqual([])
    expect(rig.send(2, 'q', 77)).toEqual([])
    expect(inShort(rig.release())).toEqual(['send 1 in epoch 0', 'send 2 in epoch 0', 'released'])
  })

  test('is closed when nothing runs any more', () => {
    const rig = closing()
    expect(factOf(rig.finish(1), 'held')).toMatchObject({ stage: 'gate', hold: 1 })
    expect(rig.state.gate.kind).toBe('closed')
  })

  test('is closed at its deadline, whatever runs', () => {
    const rig = closing()
    expect(inShort(rig.tick(99))).toEqual([])
    expect(inShort(rig.tick(100))).toEqual(['held'])
  })

  test('is not closed by a deadline that comes after its lease has ended (C5)', () => {
    const rig = processRig({ gated: true, handlerMs: 5_000 })
    rig.arrive(1, ownWork)
    rig.prepare()
    rig.quiesce()
    rig.nowMs = 1_000
    expect(inShort(rig.finish(1))).toEqual([])
    expect(inShort(rig.tick(1_000))).toEqual([])
    expect(rig.state.gate.kind).toBe('open')
  })

  test('the order to close comes twice: the gate stays as it is, and a closed one says so again', () => {
    const rig = closing()
    expect(rig.quiesce()).toEqual([])
    const held = factOf(rig.finish(1), 'held')
    expect(factOf(rig.quiesce(), 'held')).toEqual(held)
  })
})

describe('a closed gate', () => {
  /** A handler ran past the deadline. */
  function overrun() {
    const rig = processRig({ gated: true })
    rig.arrive(1, messageTo('p', { seq: 1, transactional: true }))
    rig.prepare()
    rig.quiesce()
    rig.tick(100)
    expect(rig.state.gate.kind).toBe('closed')
    return rig
  }

  test('a handler that ran past its gate’s deadline keeps its sendings', () => {
    const rig = overrun()
    // Bug: they were held behind the gate, so that its state was in the mark and its messages were not.
    expect(inShort(rig.send(1, 'q', 1))).toEqual(['send 1 in epoch 0'])
    expect(rig.send(2, 'q', null)).toEqual([])
    rig.finish(1)
    rig.mark()
    expect(factOf(rig.stateMarked(), 'marked').evidence).toMatchObject({ sent: [{ sent: 1 }] })
    expect(inShort(rig.resume())).toEqual(['resumed', 'send 2 in epoch 1'])
  })

  test('a handler that ends between its gate’s closing and the mark is named', () => {
    const rig = overrun()
    rig.finish(1)
    rig.mark()
    const { evidence } = factOf(rig.stateMarked(), 'marked')
    // Its message is received, its effects are in the mark; what it wrote to a gated store meanwhile may not be.
    expect(evidence).toMatchObject({
      openHandlers: [{ startedBy: 'message', message: 'q-p-1', transactional: true, cutOffBy: 'gate' }],
      received: [{ received: { upTo: 1, beyond: [] } }],
    })
  })

  test('a handler that still runs at the mark is open, and named once', () => {
    const rig = overrun()
    rig.mark()
    const { evidence } = factOf(rig.stateMarked(), 'marked')
    expect(evidence).toMatchObject({ openHandlers: [{ message: 'q-p-1', cutOffBy: 'deadline' }] })
    rig.finish(1)
    expect(rig.work.overran).toEqual([])
  })

  test('holds replies until it opens: only open handlers can wait for one', () => {
    const rig = overrun()
    rig.mark()
    rig.stateMarked()
    expect(inShort(rig.arrive(2, replyTo('p', { seq: 2, awaitedBy: 1 })))).toEqual(['record 2'])
    expect(inShort(rig.resume())).toEqual(['resumed', 'deliver 2'])
  })

  test('opens for a request of a running handler elsewhere, and says first that it was no hold', () => {
    const rig = heldProcess({ gated: true })
    expect(rig.state.gate.kind).toBe('closed')
    const effects = rig.arrive(1, messageTo('p', { seq: 1, expectsReply: true }))
    expect(inShort(effects)).toEqual(['reopened', 'deliver 1'])
    expect(factOf(effects, 'reopened').hold).toBe(1)
    expect(rig.state.gate.kind).toBe('closing')
    // The hold that follows is another one.
    expect(factOf(rig.finish(1), 'held').hold).toBe(2)
    expect(factOf(rig.resume(), 'resumed').evidence).toMatchObject({ unbroken: true, hold: 2 })
  })

  test('while it is reopened there is no hold to mark upon (C4)', () => {
    const rig = heldProcess({ gated: true })
    rig.arrive(1, messageTo('p', { seq: 1, expectsReply: true }))
    expect(inShort(rig.mark())).toContain('failed hold_lost')
    expect(rig.state.gate.kind).toBe('open')
    expect(rig.state.work).toBeNull()
  })

  test('a reopened gate that never comes to rest opens at the end of the first lease (C5)', () => {
    const rig = heldProcess({ gated: true })
    rig.nowMs = 600
    rig.arrive(1, messageTo('p', { seq: 1, expectsReply: true }))
    expect(rig.tick(999)).toEqual([])
    rig.tick(1_000)
    expect(rig.state.gate.kind).toBe('open')
    expect(factOf(rig.resume(), 'resumed').evidence.unbroken).toBe(false)
  })

  test('after the mark a request waits until the gate opens', () => {
    const rig = markedProcess({ gated: true })
    expect(inShort(rig.arrive(1, messageTo('p', { seq: 1, epoch: 1, expectsReply: true })))).toEqual([])
    expect(inShort(rig.resume())).toEqual(['resumed', 'deliver 1'])
  })

  test('an adapter that cannot hold is let through, and counted', () => {
    const rig = heldProcess({ gated: true })
    expect(inShort(rig.arrive(1, unstoppable))).toEqual(['reopened', 'deliver 1'])
    expect(rig.work.uncolouredHandled).toBe(1)
  })
})

describe('while the mark is taken', () => {
  test('nothing runs and nothing is sent', () => {
    const rig = heldProcess()
    expect(inShort(rig.mark())).toEqual(['markState'])
    expect(rig.arrive(1, messageTo('p', { seq: 1 }))).toEqual([])
    expect(rig.arrive(2, replyTo('p', { seq: 2, awaitedBy: null }))).toEqual([])
    expect(rig.arrive(3, unstoppable)).toEqual([])
    expect(rig.arrive(4, ownWork)).toEqual([])
    expect(rig.send(1, 'q', null)).toEqual([])
    const effects = inShort(rig.stateMarked())
    expect(effects.slice(0, 4)).toEqual(['record 1', 'record 2', 'marked', 'send 1 in epoch 1'])
    expect(effects.slice(4)).toEqual(['deliver 1', 'deliver 2', 'deliver 3', 'deliver 4'])
  })

  test('a FIFO channel whose head waits for an epoch is not overtaken', () => {
    const rig = heldProcess()
    rig.mark()
    rig.arrive(1, messageTo('p', { seq: 1, traits: fifo }))
    rig.arrive(2, messageTo('p', { seq: 2, epoch: 1, traits: fifo }))
    expect(inShort(rig.stateMarked())).toEqual(['record 1', 'marked', 'deliver 1'])
    expect(inShort(rig.finish(1))).toEqual(['deliver 2'])
  })

  test('C8: a mark of another cut changes nothing', () => {
    const rig = heldProcess()
    rig.mark()
    const before = rig.state
    for (const ref of [
      { ...cutRef, epoch: 2 },
      { ...cutRef, fencing: 2 },
      { ...cutRef, generation: 2 },
    ]) {
      expect(rig.tell({ type: 'stateMarked', ref, nowMs: 0 })).toEqual([])
    }
    expect(rig.state).toBe(before)
  })
})
