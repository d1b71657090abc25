/** The drain: by counts, by marker, at its deadline. */
import { describe, expect, test } from 'vitest'
import type { Drained } from './messages.ts'
import { nextProcessDeadlineMs } from './process.ts'
import type { ProcessEffect } from './process-state.ts'
import {
  channel,
  factOf,
  fifo,
  heldProcess,
  inShort,
  markedProcess,
  messageTo,
  type ProcessRig,
  sentTo,
  sessionOf,
  volatile,
} from './testing/process-rig.ts'

function drainedIn(effects: readonly ProcessEffect[]): readonly Drained[] {
  return factOf(effects, 'drained').inbound
}

/** Everybody has marked and resumed; `received` messages of `q` are in the mark. */
function resumedProcess(received: number): ProcessRig {
  const rig = heldProcess()
  for (let seq = 1; seq <= received; seq += 1) {
    rig.arrive(seq, messageTo('p', { seq }))
    rig.finish(seq)
  }
  rig.mark()
  rig.stateMarked()
  rig.resume()
  return rig
}

describe('by counts', () => {
  test('ends at once where everything sent is received', () => {
    const rig = resumedProcess(2)
    expect(drainedIn(rig.drain([sentTo('p', 2)]))).toEqual([
      { channel: 'q→p', session: 'q→p/1', recorded: [], missing: [], endedBy: 'counts' },
    ])
  })

  test('ends at once where there are no channels', () => {
    expect(drainedIn(resumedProcess(0).drain())).toEqual([])
  })

  test('C2: ends when the last message that was in flight has come, and each is recorded once', () => {
    const rig = resumedProcess(1)
    expect(rig.drain([sentTo('p', 3)])).toEqual([])
    expect(inShort(rig.arrive(10, messageTo('p', { seq: 3 })))).toEqual(['record 3', 'deliver 10'])
    const effects = rig.arrive(11, messageTo('p', { seq: 2 }))
    expect(inShort(effects)).toEqual(['record 2', 'deliver 11', 'drained'])
    expect(drainedIn(effects)).toMatchObject([{ recorded: [{ seq: 2 }, { seq: 3 }], missing: [], endedBy: 'counts' }])
  })

  test('messages of the new epoch end nothing and are not recorded', () => {
    const rig = resumedProcess(0)
    rig.drain([sentTo('p', 1)])
    expect(inShort(rig.arrive(10, messageTo('p', { seq: 2, epoch: 1 })))).toEqual(['deliver 10'])
    expect(drainedIn(rig.arrive(11, messageTo('p', { seq: 1 })))).toMatchObject([{ recorded: [{ seq: 1 }] }])
  })

  test('waits for every session, also those that it never heard of', () => {
    const rig = resumedProcess(0)
    rig.drain([sentTo('p', 1), sentTo('p', 1, { from: 'r' })])
    expect(inShort(rig.arrive(10, messageTo('p', { seq: 1 })))).toEqual(['record 1', 'deliver 10'])
    expect(drainedIn(rig.arrive(11, messageTo('p', { from: 'r', seq: 1 })))).toMatchObject([
      { channel: 'q→p', recorded: [{ seq: 1 }] },
      { channel: 'r→p', recorded: [{ seq: 1 }] },
    ])
  })

  test('what arrives after the drain is not recorded any more', () => {
    const rig = resumedProcess(0)
    rig.drain()
    expect(inShort(rig.arrive(10, messageTo('p', { seq: 1 })))).toEqual(['deliver 10'])
  })
})

describe('by marker', () => {
  function markerComes(rig: ProcessRig): readonly ProcessEffect[] {
    const stamp = { generation: 1, epoch: 1, channel: channel('q', 'p'), session: sessionOf('q', 'p') }
    return rig.tell({ type: 'markerArrived', stamp, traits: fifo, nowMs: rig.nowMs })
  }

  test('ends a FIFO channel whose messages have all come', () => {
    const rig = markedProcess()
    rig.arrive(1, messageTo('p', { seq: 1, traits: fifo }))
    rig.finish(1)
    markerComes(rig)
    expect(drainedIn(rig.drain([sentTo('p', 1, fifo)]))).toMatchObject([{ recorded: [{ seq: 1 }], endedBy: 'marker' }])
  })

  test('C2: ends a FIFO channel whose counts do not agree: what is missing can never come, and is named', () => {
    const rig = markedProcess()
    expect(rig.drain([sentTo('p', 2, fifo)])).toEqual([])
    expect(inShort(rig.arrive(1, messageTo('p', { seq: 1, traits: fifo })))).toEqual(['record 1', 'deliver 1'])
    expect(drainedIn(markerComes(rig))).toMatchObject([{ missing: [2], endedBy: 'marker' }])
  })

  test('the first message of the new epoch is a marker', () => {
    const rig = markedProcess()
    rig.drain([sentTo('p', 1, fifo)])
    expect(drainedIn(rig.arrive(1, messageTo('p', { seq: 2, epoch: 1, traits: fifo })))).toMatchObject([
      { missing: [1], endedBy: 'marker' },
    ])
  })

  test('means nothing on a channel without order', () => {
    const rig = resumedProcess(1)
    markerComes(rig)
    expect(rig.drain([sentTo('p', 2)])).toEqual([])
  })
})

describe('at the deadline', () => {
  test.each([
    ['a channel that keeps its messages', false],
    ['a volatile channel', true],
  ])('C2: what has not come on %s is missing, one by one', (_name, isVolatile) => {
    const rig = resumedProcess(1)
    expect(rig.drain([sentTo('p', 4, { volatile: isVolatile })], 500)).toEqual([])
    rig.arrive(10, messageTo('p', { seq: 3, ...(isVolatile ? { traits: volatile } : {}) }))
    expect(rig.tick(499)).toEqual([])
    expect(drainedIn(rig.tick(500))).toMatchObject([{ recorded: [{ seq: 3 }], missing: [2, 4], endedBy: 'deadline' }])
  })

  test('the same order again is answered the same way again', () => {
    const rig = resumedProcess(0)
    rig.drain([sentTo('p', 1)])
    const first = rig.tick(500)
    expect(rig.drain([sentTo('p', 1)])).toEqual(first)
  })

  test('is asked for by the timer, and not any more when the drain has ended', () => {
    const rig = resumedProcess(0)
    rig.drain([sentTo('p', 1)], 700)
    expect(nextProcessDeadlineMs(rig.state)).toBe(700)
    rig.arrive(1, messageTo('p', { seq: 1 }))
    expect(nextProcessDeadlineMs(rig.state)).toBeNull()
  })
})
