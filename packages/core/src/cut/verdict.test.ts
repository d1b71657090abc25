/** The verdict: a good certificate, and one thing wrong at a time. */
import { describe, expect, test } from 'vitest'
import { defined } from '../kernel/assert.ts'
import type { ChannelId } from '../kernel/ids.ts'
import type { Certificate, CoordinatorStep, ProcessEvidence, StoreEvidence } from './certificate.ts'
import type { OpenHandler, ProcessMark, SentAtCut } from './messages.ts'
import { incarnationOf, messageId, nameOf, sessionOf } from './testing/process-rig.ts'
import { sealedSystem } from './testing/system-rig.ts'
import { type Verdict, verdictOf } from './verdict.ts'

/** Processes `a` and `b`, stores `own` (of a), `both` and `any`; 5 messages a→b, 2 of them in flight; 1 back. */
const good = defined(sealedSystem().seals[0], 'a sealed cut').certificate

function processOf(certificate: Certificate, name: string): ProcessEvidence {
  return defined(certificate.processes[name], name)
}

function storeOf(certificate: Certificate, name: string): StoreEvidence {
  return defined(certificate.stores[name], name)
}

function withProcess(name: string, change: Partial<ProcessEvidence>): Certificate {
  const evidence = { ...processOf(good, name), ...change }
  return { ...good, processes: { ...good.processes, [name]: evidence } }
}

function withMark(name: string, change: Partial<ProcessMark>): Certificate {
  return withProcess(name, { mark: { ...processOf(good, name).mark, ...change } })
}

function withStore(name: string, change: Partial<StoreEvidence>): Certificate {
  return { ...good, stores: { ...good.stores, [name]: { ...storeOf(good, name), ...change } } }
}

function withSent(change: Partial<SentAtCut>): Certificate {
  const [sent] = processOf(good, 'a').mark.sent
  return withMark('a', { sent: [{ ...defined(sent, 'a→b'), ...change }] })
}

function withDrained(recorded: readonly number[], certificate = good): Certificate {
  const [drained] = processOf(certificate, 'b').drained
  const messages = recorded.map((seq) => ({ seq, message: messageId(`m${seq}`) }))
  const change = { drained: [{ ...defined(drained, 'a→b'), recorded: messages }] }
  const evidence = { ...processOf(certificate, 'b'), ...change }
  return { ...certificate, processes: { ...certificate.processes, b: evidence } }
}

function withOpen(given: Partial<OpenHandler>): Certificate {
  const handler: OpenHandler = {
    startedBy: 'message',
    message: messageId('m9'),
    transactional: false,
    cutOffBy: 'deadline',
    ...given,
  }
  return withMark('b', { openHandlers: [handler] })
}

function withSteps(change: (steps: readonly CoordinatorStep[]) => readonly CoordinatorStep[]): Certificate {
  return { ...good, steps: change(good.steps) }
}

function isStep(step: CoordinatorStep, kind: CoordinatorStep['step'], participant: string): boolean {
  return step.step === kind && step.participant === participant
}

function withoutStep(kind: CoordinatorStep['step'], participant: string): Certificate {
  return withSteps((steps) => steps.filter((step) => !isStep(step, kind, participant)))
}

/** The step first of all, or last of all. */
function withMoved(kind: CoordinatorStep['step'], participant: string, to: 'first' | 'last'): Certificate {
  return withSteps((steps) => {
    const moved = steps.filter((step) => isStep(step, kind, participant))
    const others = steps.filter((step) => !isStep(step, kind, participant))
    return to === 'first' ? [...moved, ...others] : [...others, ...moved]
  })
}

function omit<T>(record: Readonly<Record<string, T>>, name: string): Record<string, T> {
  return Object.fromEntries(Object.entries(record).filter(([key]) => key !== name))
}

function expectVerdict(certificate: Certificate, kind: Verdict['kind'], reason: string): void {
  const verdict = verdictOf(certificate)
  expect(verdict.reasons.join('\n')).toContain(reason)
  expect(verdict.kind).toBe(kind)
}

test('a good certificate is consistent, without a word', () => {
  expect(verdictOf(good)).toEqual({ kind: 'consistent', reasons: [] })
  expect(processOf(good, 'b').mark.received[0]?.received.upTo).toBe(3)
  expect(processOf(good, 'b').drained[0]?.recorded).toHaveLength(2)
})

test('it is recomputed from the evidence alone, after any number of copies', () => {
  const copy: Certificate = JSON.parse(JSON.stringify(good))
  expect(verdictOf(copy)).toEqual(verdictOf(good))
})

describe('inconsistent: somebody is missing', () => {
  test.each([
    ['a process', { ...good, processes: omit(good.processes, 'b') }, 'b: there is no evidence of it'],
    ['a store', { ...good, stores: omit(good.stores, 'both') }, 'both: there is no evidence of it'],
    ['a held store', { ...good, stores: omit(good.stores, 'any') }, 'any: there is no evidence of it'],
    ['C6: a capture', { ...good, trees: omit(good.trees, 'own') }, 'own: nothing of it was captured'],
    [
      'somebody too many',
      { ...good, processes: { ...good.processes, z: processOf(good, 'a') } },
      'z: is not in the plan',
    ],
  ])('%s', (_name, certificate, reason) => {
    expectVerdict(certificate, 'inconsistent', reason)
  })
})

describe('inconsistent: the coordinator’s own order of events', () => {
  test.each([
    [
      'C4: an order to mark before a hold',
      withMoved('markOrdered', 'b', 'first'),
      'b: ordered to mark before a was held (C4)',
    ],
    ['C4: a hold that was never acknowledged', withoutStep('held', 'any'), 'ordered to mark before any was held (C4)'],
    [
      'C4: a hold acknowledged after the marks',
      withMoved('held', 'a', 'last'),
      'b: ordered to mark before a was held (C4)',
    ],
    ['C4: a mark that nobody ordered', withoutStep('markOrdered', 'own'), 'own: marked before it was ordered to (C4)'],
    ['C3: a mark that never came', withoutStep('marked', 'own'), 'own: did not mark'],
    ['C3: a resume before a mark', withMoved('marked', 'both', 'last'), 'resumed before both had marked (C3)'],
    ['C3: a resume first of all', withMoved('resumeOrdered', 'any', 'first'), 'any: resumed before a had marked (C3)'],
    ['C3: a resume that nobody ordered', withoutStep('resumeOrdered', 'any'), 'any: was never ordered to resume (C3)'],
    ['C5: let go before the order', withMoved('resumed', 'any', 'first'), 'any: was let go before it was ordered'],
    ['nothing at all', withSteps(() => []), 'a: did not mark'],
  ])('%s', (_name, certificate, reason) => {
    expectVerdict(certificate, 'inconsistent', reason)
  })

  const reopened: CoordinatorStep = { step: 'reopened', participant: nameOf('a'), hold: 1 }

  test('C4: a hold that was reopened before the marks, and not held again', () => {
    const certificate = withSteps((steps) => {
      const first = steps.findIndex(({ step }) => step === 'markOrdered')
      return steps.toSpliced(first, 0, reopened)
    })
    expectVerdict(certificate, 'inconsistent', 'ordered to mark before a was held (C4)')
  })

  test('C5: a hold that was reopened while the marks were taken', () => {
    const certificate = withSteps((steps) => {
      const first = steps.findIndex(({ step }) => step === 'marked')
      return steps.toSpliced(first, 0, reopened)
    })
    expectVerdict(certificate, 'inconsistent', 'a: reopened its gate after the marks had been ordered (C5)')
  })

  test('a hold that was reopened and held again is what the marks relied on', () => {
    const again: CoordinatorStep = { step: 'held', participant: nameOf('a'), stage: 'gate', hold: 2 }
    const certificate = withSteps((steps) => {
      const first = steps.findIndex(({ step }) => step === 'markOrdered')
      return steps.toSpliced(first, 0, reopened, again)
    })
    expectVerdict(certificate, 'inconsistent', 'a: the marks relied on hold 1')
    const { hold, ...rest } = processOf(certificate, 'a')
    const a = { ...rest, hold: { ...hold, hold: 2 }, holdReliedOn: 2 }
    expect(verdictOf({ ...certificate, processes: { ...certificate.processes, a } }).kind).toBe('consistent')
  })

  test('news of the reopening of some other hold is no finding', () => {
    expect(verdictOf(withSteps((steps) => [...steps, { ...reopened, hold: 9 }])).kind).toBe('consistent')
  })
})

describe('inconsistent: C5: a hold that may have ended', () => {
  const broken = { unbroken: false, hold: 1, heldMs: 5, detail: 'the lease ended' }
  test.each([
    ['of a process', withProcess('b', { hold: broken }), 'b: its hold may have ended early (C5): the lease ended'],
    ['of a store', withStore('any', { hold: broken }), 'any: its hold may have ended early (C5): the lease ended'],
    ['of which nothing is said', withStore('any', { hold: { unbroken: null, hold: 1, heldMs: 0 } }), 'any: its hold'],
    ['another hold', withProcess('a', { hold: { unbroken: true, hold: 2, heldMs: 1 } }), 'a: was held again'],
    ['another hold relied on', withProcess('a', { holdReliedOn: 7 }), 'a: was held again'],
  ])('%s', (_name, certificate, reason) => {
    expectVerdict(certificate, 'inconsistent', reason)
  })
})

describe('inconsistent: a store', () => {
  const { mark } = storeOf(good, 'both')
  test.each([
    [
      'of a lower grade',
      withStore('both', { mark: { ...mark, grade: 'owned' } }),
      'both: marked as owned, planned as gated',
    ],
    ['with a caveat', withStore('both', { mark: { ...mark, caveats: ['dirty reads'] } }), 'both: dirty reads'],
    ['that was torn', withStore('own', { torn: ['file.db'] }), 'own: file.db changed between the mark and its capture'],
  ])('%s', (_name, certificate, reason) => {
    expectVerdict(certificate, 'inconsistent', reason)
  })
})

describe('inconsistent: a process', () => {
  const [received] = processOf(good, 'b').mark.received
  const inbound = defined(received, 'a→b')
  test.each([
    [
      'C8: of another incarnation',
      withMark('b', { incarnation: incarnationOf('b-2') }),
      'b: marked by another incarnation (C8)',
    ],
    ['in another epoch', withMark('b', { epochEntered: 2 }), 'b: entered epoch 2, not 1'],
    [
      'that handled messages from outside',
      withMark('b', { uncolouredHandled: 2 }),
      'b: handled 2 messages from outside',
    ],
    [
      'C1: that received a message of the epoch',
      withMark('b', { received: [{ ...inbound, epochMax: 1 }] }),
      'b: received a message of epoch 1 on a→b before its mark (C1)',
    ],
    [
      'C1: that received what was not sent',
      withMark('b', { received: [{ ...inbound, received: { upTo: 3, beyond: [9] } }] }),
      'a→b: message 9 was received and had not been sent (C1)',
    ],
    [
      'that counts a message twice',
      withMark('b', { received: [{ ...inbound, received: { upTo: 2, beyond: [4, 4] } }] }),
      'the messages received on a→b are not in ascending order: 4 after 4',
    ],
    [
      'C1: whose sender knows of fewer',
      withSent({ sent: 4 }),
      'a→b: message 5 was received and had not been sent (C1)',
    ],
    ['that speaks for another', withSent({ channel: 'b→a' as ChannelId }), 'a: reports what b sent on b→a'],
  ])('%s', (_name, certificate, reason) => {
    expectVerdict(certificate, 'inconsistent', reason)
  })
})

describe('C2: every message is received, recorded once, or named', () => {
  test('a deficit on a channel that keeps its messages', () => {
    expectVerdict(withDrained([4]), 'inconsistent', 'a→b: 1 of 5 messages were neither received nor recorded (C2)')
    expectVerdict(withProcess('b', { drained: [] }), 'inconsistent', 'a→b: 2 of 5 messages')
    expectVerdict(withSent({ sent: 8 }), 'inconsistent', 'a→b: 3 of 8 messages')
  })

  test('a message that is received and recorded, or recorded twice', () => {
    expectVerdict(withDrained([3, 4, 5]), 'inconsistent', 'a→b: message 3 is received and recorded, or recorded twice')
    expectVerdict(withDrained([4, 4, 5]), 'inconsistent', 'a→b: message 4 is received and recorded, or recorded twice')
  })

  test('counts of another session say nothing about this one', () => {
    const certificate = withSent({ session: sessionOf('a', 'b', 2) })
    expectVerdict(certificate, 'inconsistent', 'a→b: 5 of 5 messages were neither received nor recorded (C2)')
  })

  test('a deficit on a volatile channel is a loss as in a crash', () => {
    const reason = 'a→b: 1 of 5 messages were neither received nor recorded, as in a crash'
    expectVerdict(withDrained([4], withSent({ volatile: true })), 'crash-consistent', reason)
  })

  test('so is one of messages whose sending is uncertain, and of no others', () => {
    expectVerdict(withDrained([4], withSent({ uncertain: [5] })), 'crash-consistent', 'as in a crash')
    expectVerdict(withDrained([], withSent({ uncertain: [5] })), 'inconsistent', '2 of 5 messages')
  })

  test('a channel that leaves the cut is named, if it was used', () => {
    const away = { channel: 'a→far' as ChannelId, session: sessionOf('a', 'far') }
    const { sent } = processOf(good, 'a').mark
    const [first] = sent
    const used = { ...defined(first, 'a→b'), ...away, sent: 2 }
    expectVerdict(withMark('a', { sent: [...sent, used] }), 'crash-consistent', 'a→far: its receiver takes no part')
    expect(verdictOf(withMark('a', { sent: [...sent, { ...used, sent: 0 }] })).kind).toBe('consistent')
  })
})

describe('crash-consistent: handlers that were cut off are named', () => {
  test.each([
    ['by deadline', withOpen({}), 'b: the handler of message m9 still ran at the mark'],
    [
      'by reply',
      withOpen({ cutOffBy: 'reply' }),
      'b: the handler of message m9 was cut off by a reply of the new epoch',
    ],
    ['by gate', withOpen({ cutOffBy: 'gate' }), 'b: the handler of message m9 ran on after its gate had to close'],
    [
      'by gate, even if transactional',
      withOpen({ cutOffBy: 'gate', transactional: true }),
      'b: the handler of message m9',
    ],
    ['an outsider’s, even if transactional', withOutsider(), 'b: a handler started by outsider still ran at the mark'],
  ])('%s', (_name, certificate, reason) => {
    expectVerdict(certificate, 'crash-consistent', reason)
  })

  function withOutsider(): Certificate {
    const handler: OpenHandler = { startedBy: 'outsider', transactional: true, cutOffBy: 'deadline' }
    return withMark('b', { openHandlers: [handler] })
  }

  test('a transactional handler of a message is redelivered exactly: nothing is lost', () => {
    expect(verdictOf(withOpen({ transactional: true }))).toEqual({ kind: 'consistent', reasons: [] })
  })

  test('what is broken is said before what is lost', () => {
    const certificate = { ...withOpen({}), trees: omit(good.trees, 'own') }
    const verdict = verdictOf(certificate)
    expect(verdict.kind).toBe('inconsistent')
    expect(verdict.reasons.map((reason) => reason.split(':')[0])).toEqual(['own', 'b'])
  })
})

type Path = readonly (string | number)[]

function pathsOf(value: unknown, path: Path = []): readonly Path[] {
  if (typeof value !== 'object' || value === null) return [path]
  const inside = Object.entries(value).flatMap(([key, item]) => pathsOf(item, [...path, key]))
  return path.length === 0 ? inside : [path, ...inside]
}

/** A copy of the certificate with another value at `path`, or without it. */
function changedAt(path: Path, value: unknown): Certificate {
  const copy = JSON.parse(JSON.stringify(good))
  let place = copy
  for (const key of path.slice(0, -1)) place = place[key]
  const last = defined(path.at(-1), 'a key')
  if (value === undefined) delete place[last]
  else place[last] = value
  return copy
}

describe('a damaged certificate', () => {
  const paths = pathsOf(good)
  const withholdable = /pauseMs|planDigest|version|system|deadlines|allowInconsistent|generation|fencing|\.cut$/
  const silent =
    /heldMs|gateMs|heldAtMs|markedAtMs|position|enteredBy|session|fifo|volatile|uncertain|endedBy|missing|heardWhileHeld/

  test('is never an exception, whatever is taken away or put in its place', () => {
    expect(paths.length).toBeGreaterThan(200)
    for (const path of paths) {
      for (const value of [undefined, null, -1, 1.5, 'x', [], {}, [null], true]) {
        const verdict = verdictOf(changedAt(path, value))
        expect(verdict.kind === 'consistent', path.join('.')).toBe(verdict.reasons.length === 0)
      }
    }
    for (const nothing of [{}, { plan: null }, { plan: good.plan }, { ...good, steps: null }, { ...good, plan: {} }]) {
      expect(verdictOf(nothing as unknown as Certificate).kind).toBe('inconsistent')
    }
  })

  test('is inconsistent wherever a rule looks, and says whose evidence it is', () => {
    for (const path of paths) {
      const text = path.join('.')
      if (withholdable.test(text) || silent.test(text) || !/^(processes|stores|steps|trees)\./.test(text)) continue
      // What a rule does not read cannot be missed by it.
      if (
        /\.(stage|detail|message|kind|channelTrees)$|stores\.(own|both)\.(hold|holdReliedOn|mark\.incarnation)/.test(
          text,
        )
      )
        continue
      // On b→a nothing was in flight, so nothing of its drain is needed; the plan knows no incarnation of a store.
      if (/processes\.a\.drained\.0|stores\.any\.mark\.incarnation/.test(text)) continue
      expect(verdictOf(changedAt(path, undefined)).kind, text).toBe('inconsistent')
    }
  })

  test.each([
    [
      'processes.b.mark.uncolouredHandled',
      'b: its evidence cannot be read: the count of uncoloured messages is undefined',
    ],
    ['processes.b.mark.openHandlers', 'b: its evidence cannot be read'],
    ['processes.b.mark', 'b: its evidence cannot be read'],
    ['processes.a.mark.sent.0.sent', 'a: its evidence cannot be read: the count of messages sent on a→b is undefined'],
    ['processes.a.mark.sent.0.channel', 'a: its evidence cannot be read'],
    ['processes.b.mark.received.0.epochMax', 'b: its evidence cannot be read: the greatest epoch on a→b is undefined'],
    ['processes.b.mark.received.0.received.upTo', 'b: its evidence cannot be read: a message received on a→b'],
    ['processes.b.drained.0.recorded.0.seq', 'b: its evidence cannot be read: a recorded message of a→b'],
    ['processes.b.hold', 'b: its evidence cannot be read'],
    ['stores.any.hold.hold', 'any: its evidence cannot be read: the number of the hold is undefined'],
    ['stores.both.mark.caveats', 'both: its evidence cannot be read'],
    ['stores.own.torn', 'own: its evidence cannot be read'],
    ['plan.epoch', 'the certificate: its evidence cannot be read: the epoch of the plan is undefined'],
    ['steps', 'the certificate: its evidence cannot be read'],
  ])('a hole at %s', (path, reason) => {
    expectVerdict(changedAt(path.split('.'), undefined), 'inconsistent', reason)
  })

  test('a step that nobody knows', () => {
    const certificate = changedAt(['steps', 0, 'step'], 'guessed')
    expectVerdict(certificate, 'inconsistent', 'the certificate: its evidence cannot be read: unreachable')
  })

  test('a channel that is none', () => {
    expectVerdict(withSent({ channel: 'nowhere' as ChannelId }), 'inconsistent', 'a: its evidence cannot be read')
  })

  test('a participant called like a property of every object is missed all the same', () => {
    const text = JSON.stringify(good).replaceAll('"b"', '"constructor"').replaceAll('→b"', '→constructor"')
    const named: Certificate = JSON.parse(text.replaceAll('"b→a"', '"constructor→a"').replaceAll('"b-1"', '"c-1"'))
    expect(verdictOf(named).reasons).toEqual([])
    const without = {
      ...named,
      processes: omit(named.processes, 'constructor'),
      trees: omit(named.trees, 'constructor'),
    }
    expectVerdict(without, 'inconsistent', 'constructor: there is no evidence of it')
    expectVerdict(without, 'inconsistent', 'constructor: nothing of it was captured')
  })
})
