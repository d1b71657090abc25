import { describe, expect, test } from 'vitest'
import { type ProofReport, proven } from './proof.ts'

const spread = { median: 1, max: 2 }
const report: ProofReport = {
  cuts: 50,
  held: 50,
  broken: 0,
  naive: 3,
  naiveBroken: 3,
  pauseMs: spread,
  takeMs: spread,
  restoreMs: spread,
  orders: { placed: 9, amended: 9, cancelled: 9, restored: spread, inTransit: spread },
  longestStepMs: 1,
  restic: { checked: true, equal: true, invoices: 600, detail: '' },
  problems: [],
}

describe('the proof', () => {
  test('is one when every restore held and the naive dumps did not', () => {
    expect(proven(report)).toBe(true)
    expect(proven({ ...report, restic: null })).toBe(true)
  })

  test.each<[string, Partial<ProofReport>]>([
    ['one restore did not hold', { held: 49, broken: 1 }],
    ['there was no cut', { cuts: 0, held: 0 }],
    ['a problem was met', { problems: [{ cut: 7, problem: 'the verdict is inconsistent' }] }],
    ['the naive dumps held once', { naiveBroken: 2 }],
    ['there were no naive dumps', { naive: 0, naiveBroken: 0 }],
    ['restic found an error', { restic: { checked: false, equal: false, invoices: 0, detail: 'pack is damaged' } }],
    ['restic restores something else', { restic: { checked: true, equal: false, invoices: 600, detail: '' } }],
  ])('is none when %s', (_, change) => {
    expect(proven({ ...report, ...change })).toBe(false)
  })
})
