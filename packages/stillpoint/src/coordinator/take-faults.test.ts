import { Failure } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import type { SourceSession } from '../sources/source.ts'
import { isWritable, quiet, recording, startSystem } from './system-workbench.ts'

const calls = ['prepare', 'quiesce', 'mark', 'resume', 'capture', 'release'] as const
type Call = (typeof calls)[number]
/** `before`: it fails and has done nothing. `after`: it has done its work, and fails. `hangs`: until it is cancelled. */
type Fault = 'before' | 'after' | 'hangs' | 'hangs and ignores its signal'

/** The session itself, except that one of its calls fails while the fault is armed. */
function faulty(session: SourceSession, call: Call, fault: () => Fault | undefined): SourceSession {
  return new Proxy(session, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key)
      if (typeof value !== 'function') return value
      if (key !== call) return value.bind(target)
      return async (...parameters: unknown[]) => {
        const kind = fault()
        if (kind === undefined) return value.apply(target, parameters)
        if (kind === 'hangs and ignores its signal') return new Promise(() => {})
        if (kind === 'hangs') return untilAborted(parameters.find((each) => each instanceof AbortSignal))
        if (kind === 'after') await value.apply(target, parameters)
        throw new Failure({ code: 'injected', message: `injected ${kind} ${call}`, hint: 'None.' })
      }
    },
  })
}

function untilAborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)))
}

/** The deadline that a call that hangs runs into; the others are as long as ever, for the machine may be busy. */
const shortDeadlines: Readonly<Record<Call, string>> = {
  prepare: 'prepareMs: 1500ms',
  quiesce: 'quiesceMs: 800ms, resumeMs: 800ms',
  mark: 'markMs: 800ms, resumeMs: 800ms',
  resume: 'resumeMs: 800ms',
  capture: 'captureMs: 1s, resumeMs: 800ms',
  release: '',
}
const request = { allowInconsistent: false, tags: [] }

/** What a fault at this call must end in. */
function expectedCode(call: Call, fault: Fault): string {
  if (call === 'resume') return fault === 'hangs' ? 'participant_timed_out' : 'hold_broken'
  return fault === 'before' || fault === 'after' ? 'injected' : 'participant_timed_out'
}

describe('a source that fails', () => {
  const cases = calls
    .filter((call) => call !== 'release')
    .flatMap((call) =>
      (call === 'resume' ? (['before', 'after'] as const) : (['before', 'after', 'hangs'] as const)).map(
        (fault) => [call, fault] as const,
      ),
    )

  const name = 'in %s (%s): no hold left, nothing sealed, the next take works'
  test.each(cases.filter(([, fault]) => fault !== 'hangs'))(name, failing)
  // They mostly wait.
  test.concurrent.each(cases.filter(([, fault]) => fault === 'hangs'))(name, failing)

  async function failing(call: Call, fault: Fault): Promise<void> {
    let armed: Fault | undefined = fault
    const wrap = (name: string, session: SourceSession) =>
      name === 'accounts' ? faulty(session, call, () => armed) : session
    const deadlines = fault === 'hangs' ? shortDeadlines[call] : ''
    const bench = await startSystem({ wrap, deadlines, attempts: 1 })
    try {
      await expect(bench.operations.take(request, quiet())).rejects.toMatchObject({ code: expectedCode(call, fault) })
      expect(isWritable(bench.path('accounts.db'))).toBe(true)
      expect(await bench.operations.list(quiet())).toEqual([])
      expect(await bench.catalog.openCuts('bank')).toEqual([])
      const report = await (await bench.repository()).check({ readData: true })
      expect(report.problems).toEqual([])
      armed = undefined
      const taken = await (await bench.reopen({})).operations.take(request, quiet())
      expect(taken.verdict).toBe('consistent')
    } finally {
      await bench.stop()
    }
  }

  test('in release: the snapshot is sealed, the failure is said, the connection is closed all the same', async () => {
    const wrap = (name: string, session: SourceSession) =>
      name === 'accounts' ? faulty(session, 'release', () => 'before') : session
    const bench = await startSystem({ wrap })
    try {
      const { context, events } = recording()
      const taken = await bench.operations.take(request, context)
      expect(taken.verdict).toBe('consistent')
      expect(events).toContainEqual(expect.objectContaining({ type: 'note', participant: 'accounts' }))
      expect(isWritable(bench.path('accounts.db'))).toBe(true)
    } finally {
      await bench.stop()
    }
  })

  test.concurrent.each(['quiesce', 'mark', 'resume', 'capture'] as const)(
    'C7 in %s, deaf to its cancelling: its connection is closed under it, and nothing is held',
    async (call) => {
      let armed: Fault | undefined = 'hangs and ignores its signal'
      const wrap = (name: string, session: SourceSession) =>
        name === 'accounts' ? faulty(session, call, () => armed) : session
      const bench = await startSystem({ wrap, deadlines: shortDeadlines[call], attempts: 1 })
      try {
        const take = bench.operations.take(request, quiet())
        await expect(take).rejects.toMatchObject({ code: 'participant_timed_out' })
        expect(isWritable(bench.path('accounts.db'))).toBe(true)
        armed = undefined
        const next = await bench.reopen({})
        expect((await next.operations.take(request, quiet())).verdict).toBe('consistent')
      } finally {
        await bench.stop()
      }
    },
  )

  test('with `retry: later` is tried again, as another cut of another epoch', async () => {
    let failures = 2
    const wrap = (name: string, session: SourceSession) =>
      name !== 'accounts'
        ? session
        : new Proxy(session, {
            get(target, key) {
              const value: unknown = Reflect.get(target, key)
              if (typeof value !== 'function') return value
              if (key !== 'quiesce') return value.bind(target)
              return async (...parameters: unknown[]) => {
                failures -= 1
                if (failures >= 0) {
                  throw new Failure({ code: 'hold_unavailable', message: 'busy', hint: 'Wait.', retry: 'later' })
                }
                return value.apply(target, parameters)
              }
            },
          })
    const bench = await startSystem({ wrap, attempts: 3 })
    try {
      const { context, events } = recording()
      const taken = await bench.operations.take(request, context)
      expect(taken.epoch).toBe(3)
      expect(events.filter(({ type }) => type === 'retry')).toHaveLength(2)
      expect(await bench.operations.list(quiet())).toHaveLength(1)
    } finally {
      await bench.stop()
    }
  })
})
