/** Each judge is shown a cut that it must refuse: a checker that cannot fail is none. */
import { describe, expect, test } from 'vitest'
import { cutFindings, reasonless } from './cut.ts'
import type { ObservedCut, Told } from './truth.ts'

/** Two actors: a has sent m1, which b has received inside the cut. */
function cutWith(change: Partial<ObservedCut> = {}, message: Partial<Told> = {}): ObservedCut {
  const told: Told = {
    id: 'm1',
    amount: 5,
    from: 0,
    to: 1,
    sent: { actor: 0, index: 1 },
    received: [{ actor: 1, index: 1 }],
    lost: null,
    ...message,
  }
  return {
    cut: 'cut-1',
    verdict: 'consistent',
    reasons: [],
    marks: new Map([
      ['a', { actor: 0, clock: [1, 0], tokens: 5 }],
      ['b', { actor: 1, clock: [1, 1], tokens: 15 }],
    ]),
    recorded: [],
    messages: [told],
    tokens: 20,
    missing: new Set(),
    redelivered: new Set(),
    cutOff: new Set(),
    overrun: new Set(),
    strangers: new Set(),
    ...change,
  }
}

const openMarks = new Map([
  ['a', { actor: 0, clock: [0, 0], tokens: 10 }],
  ['b', { actor: 1, clock: [1, 1], tokens: 15 }],
])

describe('judges of a cut', () => {
  test('find nothing wrong with a good one', () => {
    expect(cutFindings(cutWith())).toEqual([])
  })

  test('closed under happens-before: a mark that knows more of somebody than that one’s own mark', () => {
    const findings = cutFindings(cutWith({ marks: openMarks }))
    expect(findings.join()).toContain("b's mark knows 1 events of a, whose mark has 0")
    expect(findings.join()).toContain('was not sent in it (C1)')
  })

  test('a cut that calls itself inconsistent is judged by its reason alone', () => {
    expect(cutFindings(cutWith({ marks: openMarks, verdict: 'inconsistent' }))).toEqual([])
  })

  test('what was cut off is exempt only where the certificate says so', () => {
    const exempt = { marks: openMarks, cutOff: new Set(['a']), redelivered: new Set(['m1']) }
    expect(cutFindings(cutWith({ ...exempt, verdict: 'crash-consistent' }))).toEqual([])
    expect(cutFindings(cutWith({ ...exempt, verdict: 'consistent' }))).not.toEqual([])
  })

  test('in two places', () => {
    expect(cutFindings(cutWith({ recorded: ['m1'] })).join()).toContain('received 1, recorded 1 (C2)')
    expect(cutFindings(cutWith({ recorded: ['m1', 'm1'] }, { received: [] })).join()).toContain('recorded 2 (C2)')
  })

  test('in no place', () => {
    expect(cutFindings(cutWith({}, { received: [] })).join()).toContain('neither received nor recorded (C2)')
    expect(cutFindings(cutWith({}, { received: [], lost: 'network' })).join()).toContain('but lost (C2)')
  })

  test('lost inside the cut is the world’s own past, and lost after it is not', () => {
    const lost = { received: [], lost: { actor: 1, index: 1 } }
    const marks = new Map([
      ['a', { actor: 0, clock: [1, 0], tokens: 5 }],
      ['b', { actor: 1, clock: [0, 1], tokens: 10 }],
    ])
    expect(cutFindings(cutWith({ marks }, lost))).toEqual([])
    expect(cutFindings(cutWith({ marks }, { ...lost, lost: { actor: 1, index: 2 } }))).not.toEqual([])
  })

  test('missing, and named by a certificate that does not call itself consistent', () => {
    for (const lost of [null, 'network', { actor: 1, index: 2 }] as const) {
      const missing = new Set(['m1'])
      const crash = { verdict: 'crash-consistent', missing } as const
      expect(cutFindings(cutWith(crash, { received: [], lost }))).toEqual([])
      expect(cutFindings(cutWith({ ...crash, missing: new Set(['m2']) }, { received: [], lost }))).not.toEqual([])
      expect(cutFindings(cutWith({ missing }, { received: [], lost }))).not.toEqual([])
    }
  })

  describe('a process outside the plan is an outsider', () => {
    const marks = new Map([['b', { actor: 1, clock: [1, 1], tokens: 15 }]])
    const heard = { marks, tokens: 15, strangers: new Set([0]) }

    test('who may have been heard, and is in no channel', () => {
      expect(cutFindings(cutWith(heard))).toEqual([])
      expect(cutFindings(cutWith({ ...heard, strangers: new Set() })).join()).toContain('was not sent in it (C1)')
      const recorded = cutWith({ ...heard, recorded: ['m1'] }, { received: [], amount: 0 })
      expect(cutFindings(recorded).join()).toContain('is recorded, and its sender takes no part in the cut (C4)')
      const twice = [1, 1].map((index) => ({ actor: 1, index }))
      expect(cutFindings(cutWith(heard, { received: twice })).join()).toContain('in the cut 2 times (C2)')
    })

    test('who brings what happened after somebody’s mark like any other', () => {
      const actors = { a: { actor: 0, clock: [1, 0, 0], tokens: 5 }, b: { actor: 1, clock: [2, 1, 1], tokens: 15 } }
      const message = { from: 2, sent: { actor: 2, index: 1 }, amount: 0 }
      const brought = cutWith({ marks: new Map(Object.entries(actors)), strangers: new Set([2]) }, message)
      expect(cutFindings(brought)).toEqual(["cut-1 (consistent): b's mark knows 2 events of a, whose mark has 1"])
    })

    test('what it is sent has reached it, or is missing like any other', () => {
      const sent = { strangers: new Set([1]), marks: new Map([['a', { actor: 0, clock: [1, 0], tokens: 20 }]]) }
      const reached = { received: [{ actor: 1, index: 1 }] }
      expect(cutFindings(cutWith(sent, reached))).toEqual([])
      expect(cutFindings(cutWith(sent, { received: [], lost: { actor: 1, index: 2 } }))).toEqual([])
      expect(cutFindings(cutWith(sent, { received: [], lost: 'network' })).join()).toContain('but lost (C2)')
      expect(cutFindings(cutWith(sent, { received: [] })).join()).toContain('neither received nor recorded (C2)')
      const named = { verdict: 'crash-consistent', missing: new Set(['m1']) } as const
      expect(cutFindings(cutWith({ ...sent, ...named }, { received: [] }))).toEqual([])
    })
  })

  test('conservation', () => {
    expect(cutFindings(cutWith({ tokens: 21 })).join()).toContain(
      '20 tokens in the cut and 0 lost before it, 21 in the world',
    )
  })

  test('a bad verdict without a reason', () => {
    const cut = cutWith({ verdict: 'crash-consistent', reasons: ['nobody knows why'] })
    expect(reasonless(cut, true)).toEqual([])
    expect(reasonless(cut, false).join()).toContain('nobody knows why')
    expect(reasonless(cutWith(), false)).toEqual([])
  })
})
