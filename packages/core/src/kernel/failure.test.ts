import { describe, expect, test } from 'vitest'
import { AssertionError, assert, defined, unreachable } from './assert.ts'
import { describeFailure, Failure, failureFrom, isFailure } from './failure.ts'

describe('a failure', () => {
  test('says what failed, what to do, and whether to try again', () => {
    const cause = new Error('ECONNREFUSED')
    const failure = new Failure({
      code: 'store_down',
      message: 'orders-db: refused',
      hint: 'Start it.',
      retry: 'later',
      cause,
    })
    expect(failure).toBeInstanceOf(Error)
    expect(failure).toMatchObject({ name: 'Failure', code: 'store_down', hint: 'Start it.', retry: 'later', cause })
    expect(String(failure)).toBe('Failure: orders-db: refused')
  })

  test('is for ever unless it says otherwise, and has no cause that nobody gave', () => {
    const failure = new Failure({ code: 'x', message: 'm' })
    expect(failure.retry).toBe('never')
    expect(failure.hint).toBeUndefined()
    expect(Object.hasOwn(failure, 'cause')).toBe(false)
  })

  test('is told from other errors, and by its code', () => {
    const failure = new Failure({ code: 'x', message: 'm' })
    expect(isFailure(failure)).toBe(true)
    expect(isFailure(failure, 'x')).toBe(true)
    expect(isFailure(failure, 'y')).toBe(false)
    for (const other of [new Error('x'), { code: 'x', message: 'm', retry: 'never' }, null, undefined, 'x']) {
      expect(isFailure(other)).toBe(false)
    }
  })
})

describe('a failure as data', () => {
  test('goes over the wire and comes back', () => {
    for (const hint of [undefined, 'do this']) {
      const base = { code: 'x', message: 'm', retry: 'later' } as const
      const failure = new Failure(hint === undefined ? base : { ...base, hint })
      const report = describeFailure(failure)
      expect(JSON.parse(JSON.stringify(report))).toEqual(report)
      expect('hint' in report).toBe(hint !== undefined)
      expect(describeFailure(failureFrom(report))).toEqual(report)
    }
  })

  test('carries no cause: that may hold what only the log may see', () => {
    const report = describeFailure(new Failure({ code: 'x', message: 'm', cause: new Error('password=1') }))
    expect(JSON.stringify(report)).not.toContain('password')
  })

  test.each([
    [new TypeError('boom'), 'boom'],
    ['thrown text', 'thrown text'],
    [undefined, 'undefined'],
    [{ toString: (): string => 'odd' }, 'odd'],
  ])('what is no failure is unexpected, and not tried again', (thrown, message) => {
    expect(describeFailure(thrown)).toEqual({ code: 'unexpected', message, retry: 'never' })
  })
})

describe('assertions', () => {
  test('crash on our own bugs, and say which', () => {
    expect(() => assert(false, 'two cuts at once')).toThrow(AssertionError)
    expect(() => assert(false, 'two cuts at once')).toThrow('two cuts at once')
    expect(() => assert(true, 'never')).not.toThrow()
    expect(new AssertionError('x')).not.toBeInstanceOf(Failure)
  })

  test('a value that must be there', () => {
    for (const value of [0, '', false]) expect(defined(value, 'it')).toBe(value)
    for (const none of [undefined, null]) expect(() => defined(none, 'the cut')).toThrow('the cut is not there')
  })

  test('a member of a union that came from nowhere is shown', () => {
    expect(() => unreachable({ type: 'surprise' } as never)).toThrow('unreachable: {"type":"surprise"}')
  })
})
