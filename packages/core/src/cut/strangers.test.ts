/**
 * C4, ADR 0008: processes outside the plan are held by nobody. One that is heard between a participant's hold and its
 * mark must never leave the cut `consistent`, whatever its messages' epoch is.
 */
import { describe, expect, test } from 'vitest'
import { defined } from '../kernel/assert.ts'
import type { Certificate, ProcessEvidence } from './certificate.ts'
import type { CutOutcome } from './coordinator-state.ts'
import type { Drained, ProcessMark, ReceivedAtCut } from './messages.ts'
import {
  channel,
  factOf,
  fifo,
  fromOutside,
  heldProcess,
  inShort,
  messageId,
  messageTo,
  nameOf,
  processRig,
  replyTo,
  sessionOf,
} from './testing/process-rig.ts'
import { System, sealedSystem } from './testing/system-rig.ts'
import { verdictOf } from './verdict.ts'

const twoProcesses = { processes: ['a', 'b'], stores: [] } as const

/** Until `a` holds, and the order to hold has not reached `b`. */
function halfHeld(): System {
  const system = new System(twoProcesses)
  system.runUntil(({ coordinator }) => coordinator.phase === 'quiesce')
  system.step()
  expect(system.processes.get(nameOf('a'))?.work?.hold).not.toBeNull()
  expect(system.processes.get(nameOf('b'))?.work?.hold).toBeNull()
  return system
}

function abortOf(outcomes: readonly CutOutcome[]): { readonly code: string; readonly message: string } {
  const [outcome] = outcomes
  if (outcome?.kind !== 'aborted') throw new Error(`the cut is ${outcome?.kind}`)
  return outcome.failure
}

function hear(system: System, to: string, epoch: number): void {
  const origin = messageTo(to, { from: 'z', seq: 1, epoch })
  system.tellProcess(nameOf(to), { type: 'arrived', item: 99, origin, nowMs: system.nowMs })
}

describe('a process that takes no part in the cut', () => {
  test('and sends in its epoch before everybody is held: the attempt is void, and says whose message it was', () => {
    // Found by TLC (model NoJoiners): a marks and opens its ingress while b is not held; an outsider could carry an
    // event of the new epoch from a to b, and the certificate would have been consistent.
    const system = halfHeld()
    hear(system, 'a', 1)
    expect(system.processes.get(nameOf('a'))?.epoch).toBe(1)
    system.run()
    expect(system.seals).toEqual([])
    expect(abortOf(system.outcomes)).toMatchObject({
      code: 'sender_unplanned',
      message: '"a" entered the epoch by a message of "z", which takes no part in this cut',
      retry: 'later',
    })
    expect(system.leftovers()).toEqual([])
  })

  test('and sends in the old epoch to one that is held: it may pass on what an outsider told it of the new one', () => {
    const system = halfHeld()
    hear(system, 'a', 0)
    system.run()
    expect(system.seals).toEqual([])
    expect(abortOf(system.outcomes)).toMatchObject({
      code: 'sender_unplanned',
      message: '"a" was held, and handled messages of "z", which takes no part in this cut',
    })
  })

  test('and whose last message arrives after the mark: it is no channel state of this cut', () => {
    const system = new System(twoProcesses)
    system.runUntil(({ coordinator }) => coordinator.phase === 'resume')
    hear(system, 'a', 0)
    system.run()
    expect(abortOf(system.outcomes)).toMatchObject({ code: 'cut_inconsistent' })
    expect(abortOf(system.outcomes).message).toContain(
      'z→a: 1 messages of a sender that takes no part in this cut are recorded (C4)',
    )
  })

  test('and was heard before the cut only: nothing is wrong', () => {
    const system = new System(twoProcesses)
    hear(system, 'a', 0)
    system.run()
    expect(system.outcomes).toEqual([{ kind: 'sealed', verdict: 'consistent' }])
  })

  test('and is heard in the new epoch after the mark: nothing is wrong', () => {
    const system = new System(twoProcesses)
    system.runUntil(({ coordinator }) => coordinator.phase === 'resume')
    hear(system, 'a', 1)
    system.run()
    expect(system.outcomes).toEqual([{ kind: 'sealed', verdict: 'consistent' }])
  })
})

describe('the evidence of a process', () => {
  function markOf(rig: ReturnType<typeof processRig>): ProcessMark {
    const { evidence } = factOf(rig.stateMarked(), 'marked')
    if (evidence.kind !== 'process') throw new Error('a process marks as a process')
    return evidence
  }

  test('names whose message, reply or marker made it enter, and nobody for an order', () => {
    const byMessage = heldProcess()
    byMessage.arrive(1, messageTo('p', { from: 'r', seq: 1, epoch: 1 }))
    expect(markOf(byMessage)).toMatchObject({ enteredBy: 'message', enteredFrom: 'r' })
    const byReply = heldProcess()
    byReply.arrive(1, replyTo('p', { from: 'r', seq: 1, epoch: 1, awaitedBy: null }))
    expect(markOf(byReply)).toMatchObject({ enteredBy: 'message', enteredFrom: 'r' })
    const byMarker = heldProcess()
    const stamp = { generation: 1, epoch: 1, channel: channel('r', 'p'), session: sessionOf('r', 'p') }
    byMarker.tell({ type: 'markerArrived', stamp, traits: fifo, nowMs: 0 })
    expect(markOf(byMarker)).toMatchObject({ enteredBy: 'marker', enteredFrom: 'r' })
    const byOrder = heldProcess()
    byOrder.mark()
    expect(markOf(byOrder)).not.toHaveProperty('enteredFrom')
  })

  test('says on which sessions it heard something between its hold and its mark', () => {
    const rig = processRig()
    rig.arrive(1, messageTo('p', { from: 'q', seq: 1 }))
    rig.prepare()
    rig.arrive(2, messageTo('p', { from: 'r', seq: 1 }))
    rig.quiesce()
    rig.arrive(3, messageTo('p', { from: 's', seq: 1 }))
    rig.arrive(4, messageTo('p', { from: 's', seq: 2 }))
    for (const item of [1, 2, 3, 4]) rig.finish(item)
    rig.mark()
    const mark = markOf(rig)
    expect(mark.received.map(({ channel, heardWhileHeld }) => [channel, heardWhileHeld])).toEqual([
      ['q→p', false],
      ['r→p', false],
      ['s→p', true],
    ])
  })

  test('what only waited was not heard', () => {
    const rig = heldProcess({ gated: true })
    rig.arrive(1, messageTo('p', { from: 's', seq: 1 }))
    expect(inShort(rig.mark())).toEqual(['markState'])
    expect(markOf(rig).received).toMatchObject([{ channel: 's→p', heardWhileHeld: false, received: { upTo: 0 } }])
  })

  test('an outsider is nobody’s session', () => {
    const rig = heldProcess()
    rig.arrive(1, fromOutside)
    rig.mark()
    expect(markOf(rig).received).toEqual([])
  })
})

describe('the verdict', () => {
  const good = defined(sealedSystem().seals[0], 'a sealed cut').certificate
  const b = defined(good.processes['b'], 'b')
  const fromZ = { channel: channel('z', 'b'), session: sessionOf('z', 'b') }
  const received: ReceivedAtCut = { ...fromZ, received: { upTo: 4, beyond: [] }, epochMax: 0, heardWhileHeld: false }
  const drained: Drained = { ...fromZ, recorded: [], missing: [], endedBy: 'counts' }

  function withB(change: Partial<ProcessEvidence>): Certificate {
    return { ...good, processes: { ...good.processes, b: { ...b, ...change } } }
  }
  function withMark(change: Partial<ProcessMark>): Certificate {
    return withB({ mark: { ...b.mark, ...change } })
  }
  function without(field: 'heardWhileHeld'): ReceivedAtCut {
    const { [field]: _, ...rest } = received
    return rest
  }

  test.each([
    [
      'a message of a stranger made it enter',
      withMark({ enteredBy: 'message', enteredFrom: nameOf('z') }),
      'b: entered the epoch by a message of "z", which takes no part in this cut (C4)',
    ],
    [
      'a marker of a stranger did',
      withMark({ enteredBy: 'marker', enteredFrom: nameOf('z') }),
      'b: entered the epoch by a marker of "z"',
    ],
    [
      'a store of the plan sends no messages',
      withMark({ enteredBy: 'message', enteredFrom: nameOf('any') }),
      'b: entered the epoch by a message of "any"',
    ],
    [
      'nobody says whose message it was',
      withMark({ enteredBy: 'message' }),
      'b: does not say whose message made it enter the epoch (C4)',
    ],
    [
      'a stranger was heard while it was held',
      withMark({ received: [...b.mark.received, { ...received, heardWhileHeld: true }] }),
      'b: was held, and handled messages of "z", which takes no part in this cut (C4)',
    ],
    [
      'nobody says when a stranger was heard',
      withMark({ received: [...b.mark.received, without('heardWhileHeld')] }),
      'b: was held, and handled messages of "z"',
    ],
    [
      'a stranger’s message is channel state',
      withB({ drained: [...b.drained, { ...drained, recorded: [{ seq: 5, message: messageId('m5') }] }] }),
      'z→b: 1 messages of a sender that takes no part in this cut are recorded (C4)',
    ],
  ])('inconsistent: %s', (_name, certificate, reason) => {
    const verdict = verdictOf(certificate)
    expect(verdict.reasons.join('\n')).toContain(reason)
    expect(verdict.kind).toBe('inconsistent')
  })

  test('strangers of other times, and participants at any time, are nobody’s concern', () => {
    const heard = b.mark.received.map((one) => ({ ...one, heardWhileHeld: true }))
    const entered = { enteredBy: 'message', enteredFrom: nameOf('a') } as const
    const certificate = withB({
      mark: { ...b.mark, ...entered, received: [...heard, received] },
      drained: [...b.drained, drained],
    })
    expect(verdictOf(certificate)).toEqual({ kind: 'consistent', reasons: [] })
  })
})
