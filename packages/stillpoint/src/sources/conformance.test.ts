/**
 * The suite's canaries: for each rule a source that breaks it, around a real one. Each must fail the check that is
 * there for it; the same checks pass without the fault (sqlite/sqlite.test.ts).
 */
import { Failure } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { runConformance } from './conformance.ts'
import type { Mark, Source, SourceSession } from './source.ts'
import type { SqliteOptions } from './sqlite/index.ts'
import { openFile, sqliteWorkbench } from './sqlite/sqlite-workbench.ts'
import { ConformanceError } from './workbench.ts'

const never = new AbortController().signal

type Fault = (honest: SourceSession, options: SqliteOptions) => Partial<SourceSession>

function around(honest: SourceSession): SourceSession {
  return {
    traits: honest.traits,
    prepare: (cut, signal) => honest.prepare(cut, signal),
    quiesce: (cut, leaseMs, signal) => honest.quiesce(cut, leaseMs, signal),
    mark: (cut, signal) => honest.mark(cut, signal),
    resume: (cut) => honest.resume(cut),
    capture: (cut, sink, signal) => honest.capture(cut, sink, signal),
    release: (cut) => honest.release(cut),
    checkTarget: (parts, options, signal) => honest.checkTarget(parts, options, signal),
    restore: (parts, options, signal) => honest.restore(parts, options, signal),
    verify: (parts, signal) => honest.verify(parts, signal),
    close: () => honest.close(),
  }
}

function faulty(source: Source<SqliteOptions>, fault: Fault): Source<SqliteOptions> {
  return {
    kind: source.kind,
    async open(options, env, signal) {
      const honest = await source.open(options, env, signal)
      return { ...around(honest), ...fault(honest, options) }
    },
  }
}

async function failures(check: string, fault: Fault, patienceMs = 800): Promise<readonly unknown[]> {
  const start = () => sqliteWorkbench({ wrap: (source) => faulty(source, fault) })
  const features = { hold: 'writes', mark: 'exact', leaseMs: 400, patienceMs } as const
  const results = await runConformance('canary', start, features, { only: (name) => name.startsWith(check) })
  expect(results.length, `no check is called ${check}`).toBeGreaterThan(0)
  return results.flatMap((result) => ('error' in result ? [result.error] : []))
}

const hold = (leaseMs: number) => ({ endsAtMs: performance.now() + leaseMs })

const faults: readonly (readonly [fault: string, check: string, fault: Fault])[] = [
  [
    'holds nothing',
    'S1 the hold blocks a write',
    () => ({ quiesce: async (cut, leaseMs) => ({ cut, ...hold(leaseMs) }), resume: async () => ({ unbroken: true }) }),
  ],
  [
    'holds nothing, under load',
    'S1 under load',
    () => ({ quiesce: async (cut, leaseMs) => ({ cut, ...hold(leaseMs) }), resume: async () => ({ unbroken: true }) }),
  ],
  [
    'has a lease without an end',
    'S2 a hold that nobody resumes',
    (honest) => ({ quiesce: (cut, _, signal) => honest.quiesce(cut, 3_600_000, signal) }),
  ],
  [
    'counts the lease in this process',
    'S2 the hold ends at its lease while this process is frozen',
    (honest) => ({
      async quiesce(cut, leaseMs, signal) {
        const answer = await honest.quiesce(cut, 3_600_000, signal)
        setTimeout(() => void honest.resume(cut), leaseMs)
        return answer
      },
    }),
  ],
  [
    'calls a broken hold unbroken',
    'S2 a hold that nobody resumes',
    (honest) => ({
      async resume(cut) {
        await honest.resume(cut)
        return { unbroken: true }
      },
    }),
  ],
  [
    'calls the hold of a dead store unbroken',
    'S1 a hold whose store died',
    (honest) => ({
      async resume(cut) {
        await honest.resume(cut)
        return { unbroken: true }
      },
    }),
  ],
  ['does not resume', 'S1 the hold blocks a write', () => ({ resume: async () => ({ unbroken: true }) })],
  [
    'takes the mark when it captures',
    'S3 what is written after the mark',
    (honest) => ({
      async capture(cut, sink, signal) {
        await honest.release(cut)
        await honest.mark(cut, signal)
        return honest.capture(cut, sink, signal)
      },
    }),
  ],
  [
    'moves its mark',
    'S4 the mark of a cut does not move',
    (honest) => ({
      async mark(cut, signal): Promise<Mark> {
        await honest.resume(cut)
        await honest.release(cut)
        return honest.mark(cut, signal)
      },
    }),
  ],
  [
    'has one position for all cuts',
    'S4 the mark of a cut does not move',
    (honest) => ({ mark: async (cut, signal) => ({ ...(await honest.mark(cut, signal)), position: { at: 'now' } }) }),
  ],
  [
    'captures something else the second time',
    'S4 two captures of one mark',
    (honest) => {
      let captures = 0
      return {
        async capture(cut, sink, signal) {
          captures += 1
          await sink.file(`capture-${captures}`, (async function* () {})())
          return honest.capture(cut, sink, signal)
        },
      }
    },
  ],
  ['keeps a released mark', 'S4 resume, release and close', () => ({ release: async () => undefined })],
  [
    'replaces what it was not told to replace',
    'S6 a target with content',
    (honest) => ({ restore: (parts, _, signal) => honest.restore(parts, { replace: true }, signal) }),
  ],
  [
    'merges what it restores with what was there',
    'S6 a target with content',
    (honest, { path }) => ({
      async restore(parts, options, signal) {
        const old = options.replace ? rowsOf(path) : []
        const report = await honest.restore(parts, options, signal)
        const database = openFile(path)
        for (const content of old) database.prepare('INSERT INTO rows (content) VALUES (?)').run(content)
        database.close()
        return report
      },
    }),
  ],
  [
    'verifies nothing',
    'S6 a target with content',
    () => ({ verify: async () => ({ checks: [{ name: 'all', passed: true, detail: 'fine' }] }) }),
  ],
  ['does not look at the signal', 'S5 mark cancelled', (honest) => ({ mark: (cut) => honest.mark(cut, never) })],
  [
    'keeps the hold of a cancelled quiesce',
    'S5 quiesce cancelled',
    (honest) => {
      let kept = false
      return {
        async quiesce(cut, leaseMs, signal) {
          const answer = await honest.quiesce(cut, leaseMs, never)
          kept = signal.aborted
          signal.throwIfAborted()
          return answer
        },
        resume: async (cut) => (kept ? { unbroken: false } : honest.resume(cut)),
        release: async (cut) => (kept ? undefined : honest.release(cut)),
      }
    },
  ],
  [
    'fails without a name',
    'S5 a store that dies before mark',
    (honest) => ({
      async mark(cut, signal) {
        return honest.mark(cut, signal).catch((error: unknown) => {
          throw error instanceof Failure ? new Error(error.message) : error
        })
      },
    }),
  ],
  ['says that it holds, and does not', 'S0', () => ({ traits: { hold: 'none', mark: 'exact' } })],
]

function rowsOf(path: string): Uint8Array[] {
  const database = openFile(path)
  const rows = database.prepare('SELECT content FROM rows').all()
  database.close()
  return rows.flatMap((row) => (row['content'] instanceof Uint8Array ? [row['content']] : []))
}

describe('the conformance suite fails a source that', () => {
  test.each(faults)('%s', async (_, check, fault) => {
    const errors = await failures(check, fault)
    expect(errors).not.toEqual([])
    // The suite must say what is broken; an accident on the way would prove nothing.
    for (const error of errors) expect(error).toBeInstanceOf(ConformanceError)
  })

  test('is not there: the honest one passes the same checks', async () => {
    for (const check of ['S1 the hold blocks a write', 'S6 a target with content']) {
      expect(await failures(check, () => ({}), 5000)).toEqual([])
    }
  })
})
