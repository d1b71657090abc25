/** The plan: which case each store is, whose gates close, and what cannot be planned. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isFailure } from '../kernel/failure.ts'
import type { CutId } from '../kernel/ids.ts'
import {
  canonicalJson,
  canonicalPlan,
  type DeclaredStore,
  defaultDeadlines,
  makePlan,
  type PlanRequest,
  processesOf,
  storesOf,
} from './plan.ts'
import { incarnationOf } from './testing/process-rig.ts'
import { mustBeHeld } from './verdict.ts'

function request(processes: readonly string[], stores: readonly Omit<DeclaredStore, 'source'>[]): PlanRequest {
  return {
    system: 'shop',
    cut: 'cut-1' as CutId,
    epoch: 4,
    generation: 2,
    fencing: 3,
    processes: processes.map((name) => ({ name, incarnation: incarnationOf(`${name}-1`) })),
    stores: stores.map((store) => ({ ...store, source: 'model' })),
  }
}

describe('the case of each store', () => {
  const plan = makePlan(
    request(
      ['a', 'b', 'c'],
      [
        { name: 'one', writers: ['a'] },
        { name: 'two', writers: ['a', 'b'] },
        { name: 'same', writers: ['c', 'c'] },
      ],
    ),
  )

  test('one writer: owned; several: gated', () => {
    expect(storesOf(plan).map(({ name, grade }) => [name, grade])).toEqual([
      ['one', 'owned'],
      ['two', 'gated'],
      ['same', 'owned'],
    ])
  })

  test('who writes a store that others write gates; who alone writes one owns it', () => {
    expect(processesOf(plan).map(({ name, gated, owns }) => [name, gated, owns])).toEqual([
      ['a', true, ['one']],
      ['b', true, []],
      ['c', false, ['same']],
    ])
  })

  test('unknown writers, or none declared: quiesced, and every process gates', () => {
    for (const writers of ['unknown', []] as const) {
      const unknown = makePlan(request(['a'], [{ name: 'db', writers }]))
      expect(storesOf(unknown)).toMatchObject([{ grade: 'quiesced', writers: 'unknown' }])
      expect(processesOf(unknown)).toMatchObject([{ gated: true, owns: [] }])
    }
  })

  test('C4: the marks wait for all processes and all quiesced stores', () => {
    const both = makePlan(
      request(
        ['a'],
        [
          { name: 'db', writers: 'unknown' },
          { name: 'own', writers: ['a'] },
        ],
      ),
    )
    expect(mustBeHeld(both)).toEqual(['a', 'db'])
  })
})

test('takes over what was asked for, with the usual deadlines', () => {
  expect(makePlan(request([], [{ name: 'db', writers: 'unknown' }]))).toMatchObject({
    version: 1,
    system: 'shop',
    cut: 'cut-1',
    epoch: 4,
    generation: 2,
    fencing: 3,
    deadlines: defaultDeadlines,
    allowInconsistent: false,
  })
  const given = { ...request(['a'], []), deadlines: { leaseMs: 5 }, allowInconsistent: true }
  expect(makePlan(given)).toMatchObject({ deadlines: { ...defaultDeadlines, leaseMs: 5 }, allowInconsistent: true })
})

test('the lease covers quiesce and mark with the usual deadlines (C5)', () => {
  const { leaseMs, quiesceMs, markMs, handlerMs } = defaultDeadlines
  expect(leaseMs).toBeGreaterThan(quiesceMs + markMs)
  expect(handlerMs).toBeLessThan(quiesceMs)
})

describe('what cannot be planned is named', () => {
  test.each([
    ['two processes of one name', request(['a', 'a'], []), '"a" is there twice'],
    [
      'two stores of one name',
      request(
        [],
        [
          { name: 'db', writers: 'unknown' },
          { name: 'db', writers: 'unknown' },
        ],
      ),
      '"db" is there twice',
    ],
    ['a store named like a process', request(['a'], [{ name: 'a', writers: 'unknown' }]), '"a" is there twice'],
    ['a writer that is not there', request(['a'], [{ name: 'db', writers: ['z'] }]), '"z", which is not connected'],
    ['nobody at all', request([], []), '"shop" has no participants'],
  ])('%s', (_name, given, words) => {
    expect(() => makePlan(given)).toThrow(words)
    try {
      makePlan(given)
    } catch (error) {
      expect(isFailure(error, 'plan_invalid')).toBe(true)
    }
  })

  test('names that are no names', () => {
    expect(() => makePlan(request(['a/b'], []))).toThrow('not a valid name')
    expect(() => makePlan(request([], [{ name: '../x', writers: 'unknown' }]))).toThrow('not a valid name')
    expect(() => makePlan(request(['a'], [{ name: 'db', writers: ['a', '*'] }]))).toThrow('not a valid name')
  })
})

describe('the plan as text', () => {
  test('is the same for the same plan, whatever the order of its keys', () => {
    const plan = makePlan(request(['a'], [{ name: 'db', writers: ['a'] }]))
    const shuffled = Object.fromEntries(Object.entries(plan).reverse()) as unknown as typeof plan
    expect(canonicalPlan(shuffled)).toBe(canonicalPlan(plan))
    expect(canonicalPlan({ ...plan, epoch: 5 })).not.toBe(canonicalPlan(plan))
  })

  test('is JSON with sorted keys, and what is undefined is left out', () => {
    expect(canonicalJson({ b: [1, { d: null, c: 'x' }], a: undefined, A: true })).toBe(
      '{"A":true,"b":[1,{"c":"x","d":null}]}',
    )
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = canonicalJson(value)
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)))
        expect(canonicalJson(JSON.parse(text))).toBe(text)
      }),
    )
  })
})
