import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { cutOffReasons } from '../cut/messages.ts'
import { isFailure } from '../kernel/failure.ts'
import {
  parseFrame,
  readFact,
  readOrder,
  readProcessFrame,
  readRecordedMessage,
  readRestoreContents,
  readServerFrame,
} from './validate.ts'

const ref = { cut: 'cut-1', epoch: 4, generation: 2, fencing: 9 }
const sent = { channel: 'a→b', session: 's1', fifo: true, volatile: false, sent: 3, uncertain: [] }
const tree = 'ab'.repeat(32)

const orders = [
  {
    type: 'prepare',
    ref,
    role: { kind: 'process', incarnation: 'i1', gated: true, owns: ['db'], handlerMs: 5, leaseMs: 9 },
  },
  { type: 'prepare', ref, role: { kind: 'store', grade: 'gated', leaseMs: 9 } },
  { type: 'quiesce', ref, stage: 'gate', leaseMs: 100 },
  { type: 'mark', ref },
  { type: 'ownedMarked', ref },
  { type: 'resume', ref },
  { type: 'drain', ref, inbound: [sent], deadlineMs: 100 },
  { type: 'capture', ref },
  { type: 'release', ref, outcome: 'aborted', reason: 'because' },
]

const processMark = {
  kind: 'process',
  incarnation: 'i1',
  epochEntered: 4,
  enteredBy: 'marker',
  enteredFrom: 'b',
  sent: [sent],
  received: [{ channel: 'b→a', session: 's2', received: { upTo: 2, beyond: [4] }, epochMax: 3, heardWhileHeld: true }],
  openHandlers: cutOffReasons.map((cutOffBy) => {
    return { startedBy: 'message', message: 'm', channel: 'b→a', transactional: false, cutOffBy }
  }),
  uncolouredHandled: 0,
  gateMs: 1.5,
}

const facts = [
  { type: 'ready', ref, incarnation: 'i1', estimateBytes: 0, version: 'sdk', notes: [] },
  { type: 'held', ref, stage: 'ingress', hold: 1 },
  { type: 'reopened', ref, hold: 1 },
  { type: 'entering', ref },
  { type: 'marked', ref, evidence: processMark },
  {
    type: 'marked',
    ref,
    evidence: {
      kind: 'store',
      incarnation: 'i1',
      grade: 'owned',
      position: { lsn: '0/1' },
      caveats: [],
      heldAtMs: null,
      markedAtMs: 2,
    },
  },
  { type: 'resumed', ref, evidence: { unbroken: false, hold: 1, heldMs: 2, detail: 'the lease ended' } },
  {
    type: 'drained',
    ref,
    inbound: [
      { channel: 'b→a', session: 's', recorded: [{ seq: 3, message: 'm' }], missing: [4], endedBy: 'deadline' },
    ],
  },
  { type: 'captureProgressed', ref, bytes: 1, files: 1 },
  {
    type: 'captured',
    ref,
    evidence: { tree, bytes: 1, files: 1, torn: [], notes: [], channels: { 'b→a': tree } },
  },
  { type: 'released', ref },
  { type: 'failed', ref, during: 'mark', failure: { code: 'x', message: 'y', retry: 'later' } },
]

const processFrames = [
  {
    type: 'hello',
    version: 1,
    participant: 'a',
    incarnation: 'i1',
    generation: null,
    epoch: 0,
    sdkVersion: '0.1.0',
  },
  { type: 'fact', fact: facts[0] },
  { type: 'restored', restore: 'r1' },
  { type: 'restoreFailed', restore: 'r1', failure: { code: 'x', message: 'y', hint: 'z', retry: 'never' } },
]

const offer = { restore: 'r1', snapshot: 's1', generation: 3, epoch: 8 }
const serverFrames = [
  { type: 'welcome', system: 'bank', generation: 2, epoch: 3, agentUrl: 'http://127.0.0.1:1', restore: offer },
  { type: 'refused', failure: { code: 'x', message: 'y', retry: 'never' } },
  { type: 'order', order: orders[3] },
  { type: 'restore', offer },
]

const whole: readonly [string, (value: unknown, path: string) => unknown, readonly object[]][] = [
  ['order', readOrder, orders],
  ['fact', readFact, facts],
  ['frame of a process', readProcessFrame, processFrames],
  ['frame of the server', readServerFrame, serverFrames],
]

for (const [what, reader, samples] of whole) {
  describe(`each ${what}`, () => {
    test.each(samples.map((sample) => [Object.values(sample)[0], sample]))(
      '%s is read as it was written',
      (_, sample) => {
        expect(parseFrame(JSON.stringify(sample), reader, 'a frame')).toEqual(sample)
      },
    )

    test('refuses a missing or wrong field by its name', () => {
      for (const sample of samples) {
        for (const key of Object.keys(sample)) {
          if (key === 'reason') continue
          const broken = { ...sample, [key]: { wrong: [] } }
          expect(() => reader(broken, ''), `${JSON.stringify(sample)} with a wrong ${key}`).toThrow(key)
          const { [key as keyof typeof sample]: _, ...without } = sample
          expect(() => reader(without, '')).toThrow(key)
        }
      }
    })
  })
}

describe('what comes from outside', () => {
  test('is read or refused with frame_invalid, never anything else', () => {
    fc.assert(
      fc.property(
        fc.json(),
        fc.constantFrom(readOrder, readFact, readProcessFrame, readServerFrame),
        (json, reader) => {
          try {
            parseFrame(json, reader as (value: unknown, path: string) => unknown, 'a frame')
          } catch (error) {
            expect(isFailure(error, 'frame_invalid')).toBe(true)
          }
        },
      ),
    )
  })

  test('that is no JSON is named', () => {
    expect(() => parseFrame('{', readOrder, 'frame from "orders"')).toThrow('frame from "orders" is not JSON')
  })

  test('keeps only the fields that are known', () => {
    expect(readOrder({ type: 'mark', ref: { ...ref, more: 1 }, extra: true }, '')).toEqual({ type: 'mark', ref })
  })

  test.each([
    [{ upTo: 2, beyond: [3] }, 'beyond'],
    [{ upTo: 2, beyond: [5, 5] }, 'ascending'],
    [{ upTo: -1, beyond: [] }, 'upTo'],
    [{ upTo: 1.5, beyond: [] }, 'upTo'],
  ])('refuses received numbers that no session has: %j', (received, naming) => {
    const mark = { ...processMark, received: [{ channel: 'b→a', session: 's', received, epochMax: 0 }] }
    expect(() => readFact({ type: 'marked', ref, evidence: mark }, '')).toThrow(naming)
  })

  test('refuses names and channels that were not made by their rules', () => {
    expect(() => readProcessFrame({ ...processFrames[0], participant: '../etc' }, '')).toThrow('participant')
    expect(() => readRestoreContents({ parts: [], channels: ['a→b→c'] }, '')).toThrow('channels[0]')
    expect(() => readRestoreContents({ parts: [], channels: ['nothing'] }, '')).toThrow('channels[0]')
  })

  test('cannot reach a prototype', () => {
    const line = `{"message":"m","session":"s","seq":1,"epoch":1,"kind":"message","encoding":"utf8","payload":"","meta":{"__proto__":"x"}}`
    expect(() => parseFrame(line, readRecordedMessage, 'a line')).toThrow('__proto__')
    expect(() => readOrder({ type: 'constructor', ref }, '')).toThrow('type')
  })
})
