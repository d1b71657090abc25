/** The set of received numbers, against a plain `Set`. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Received } from './messages.ts'
import {
  addReceived,
  countMissing,
  countReceived,
  hasReceived,
  missingFrom,
  nothingReceived,
  removeReceived,
} from './received.ts'

const seqMax = 24
const operations = fc.array(fc.record({ add: fc.boolean(), seq: fc.integer({ min: 1, max: seqMax }) }), {
  maxLength: 60,
})

/** The promise of the type: a prefix, and a sparse rest that does not touch it. */
function expectNormal({ upTo, beyond }: Received): void {
  expect(upTo).toBeGreaterThanOrEqual(0)
  let last = upTo + 1
  for (const seq of beyond) {
    expect(seq).toBeGreaterThan(last === upTo + 1 ? upTo + 1 : last)
    last = seq
  }
}

test('is a set, after any additions and removals', () => {
  fc.assert(
    fc.property(operations, (steps) => {
      let received = nothingReceived
      const model = new Set<number>()
      for (const { add, seq } of steps) {
        received = add ? addReceived(received, seq) : removeReceived(received, seq)
        if (add) model.add(seq)
        else model.delete(seq)
        expectNormal(received)
      }
      for (let seq = 1; seq <= seqMax; seq += 1) expect(hasReceived(received, seq)).toBe(model.has(seq))
      expect(countReceived(received)).toBe(model.size)
      const missing = Array.from({ length: seqMax }, (_, index) => index + 1).filter((seq) => !model.has(seq))
      expect(missingFrom(received, seqMax)).toEqual(missing)
    }),
    { numRuns: 300 },
  )
})

test('has one form, whatever the order of arrival', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 1, max: seqMax })), (seqs) => {
      const arrived = seqs.reduce(addReceived, nothingReceived)
      const sorted = [...seqs].sort((a, b) => a - b).reduce(addReceived, nothingReceived)
      expect(arrived).toEqual(sorted)
    }),
  )
})

test('numbers from 1: nothing smaller is ever missing or added', () => {
  expect(hasReceived(nothingReceived, 0)).toBe(true)
  expect(addReceived(nothingReceived, 0)).toBe(nothingReceived)
  expect(missingFrom(nothingReceived, 0)).toEqual([])
})

test('says the same object where nothing changes', () => {
  const some = addReceived(addReceived(nothingReceived, 1), 3)
  expect(addReceived(some, 3)).toBe(some)
  expect(removeReceived(some, 2)).toBe(some)
})

test('grows with the disorder, not with age', () => {
  let received = nothingReceived
  for (let seq = 1; seq <= 1_000; seq += 2) received = addReceived(addReceived(received, seq + 1), seq)
  expect(received).toEqual({ upTo: 1_000, beyond: [] })
})

test('what is missing is counted without being listed', () => {
  const received = { upTo: 3, beyond: [5, 9] }
  for (let sent = 0; sent < 12; sent += 1) {
    expect(countMissing(received, sent)).toBe(missingFrom(received, sent).length)
  }
  expect(countMissing(received, Number.MAX_SAFE_INTEGER)).toBe(Number.MAX_SAFE_INTEGER - 5)
  expect(missingFrom(received, Number.MAX_SAFE_INTEGER, 2)).toEqual([4, 6])
})
