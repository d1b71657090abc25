/**
 * Holding a database's writers: every table of the user's locked in EXCLUSIVE MODE by one transaction, which readers
 * pass. The server ends it by `idle_in_transaction_session_timeout`, or when its connection breaks (S2, C5).
 *
 * Owns: the holding session and the evidence that it held without a break. Does not own: the mark (mark.ts).
 *
 * Invariants:
 * - H1 No writer waits behind us for longer than one try: one lock is waited for at most `lockTimeoutMs`, all of them
 *   little more than twice that, and a try that does not get them lets go of all before the next one. One wait is
 *   shorter than deadlock_timeout, so no transaction of the user's ends as the victim of a deadlock with us.
 * - H2 Between the answer of `acquireHold` and `end`, no statement runs on the session: each would start the server's
 *   idle clock again, and with it the lease.
 * - H3 `unbroken` is said only when this very transaction has been committed by the server: it has then had its locks
 *   from beginning to end.
 */
import { type Clock, type CutId, Failure, isFailure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import type { HoldReport } from '../source.ts'
import type { Connection } from './connection.ts'
import { sqlState } from './errors.ts'
import { listTables, lockNames, sameTables, type Table, type TableScope, uncovered } from './tables.ts'

export interface HoldOptions {
  readonly cut: CutId
  readonly clock: Clock
  readonly scope: TableScope
  readonly leaseMs: number
  readonly lockTimeoutMs: number
  /** Large objects are rows of a system catalog, which only a superuser may lock. */
  readonly holdLargeObjects: boolean
  /** Called with the tables before they are locked, and again when they have changed. */
  readonly beforeLock: (tables: readonly Table[]) => Promise<void>
}

export interface DatabaseHold {
  readonly tables: readonly Table[]
  /** The server keeps the hold at least until then; by this process's monotonic clock. */
  readonly endsAtMs: number
  /** Why it is over already, as far as is known without asking. */
  broken(): string | undefined
  /** Ends it, and answers whether it was whole. Idempotent. Ends the session. */
  end(): Promise<HoldReport>
}

const endTimeoutMs = 10_000
const largeObjects = ['pg_catalog.pg_largeobject', 'pg_catalog.pg_largeobject_metadata']

/**
 * @throws Failure `hold_unavailable` (retry `later`) when the locks cannot be had within the lease
 */
export async function acquireHold(
  connection: Connection,
  options: HoldOptions,
  signal: AbortSignal,
): Promise<DatabaseHold> {
  const { clock, leaseMs } = options
  const deadlineMs = clock.monotonicMs() + leaseMs
  for (;;) {
    const tables = await listTables(connection, options.scope, signal)
    if (await lockAll(connection, { ...options, tables, deadlineMs }, signal)) {
      const askedMs = clock.monotonicMs()
      // Under the locks, and the last statement before the answer: from its end the server counts the lease (H2).
      const after = await listTables(connection, options.scope, signal)
      if (sameTables(tables, after)) return hold(connection, { ...options, tables, endsAtMs: askedMs + leaseMs })
    }
    await connection.run('ROLLBACK', signal) // a table came or went meanwhile: from the beginning
    if (clock.monotonicMs() > deadlineMs) throw unavailable('tables are made or dropped all the time', leaseMs)
  }
}

interface LockOptions extends HoldOptions {
  readonly tables: readonly Table[]
  readonly deadlineMs: number
}

/** False: a table was gone or had another name. The transaction is open, holding all locks, when it answers true. */
async function lockAll(connection: Connection, options: LockOptions, signal: AbortSignal): Promise<boolean> {
  const { leaseMs } = options
  try {
    await options.beforeLock(options.tables)
    await connection.run(
      `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
       SET LOCAL idle_in_transaction_session_timeout = ${leaseMs};
       ${options.scope.major >= 17 ? 'SET LOCAL transaction_timeout = 0;' : ''}
       SET LOCAL lock_timeout = ${leaseMs};
       SET LOCAL statement_timeout = ${leaseMs}`,
      signal,
    )
    await lockInTries(connection, options, signal)
    return true
  } catch (error) {
    if (isGone(error)) return false
    if (!isBusy(error)) throw error
    await connection.run('ROLLBACK', signal)
    throw unavailable(await blockers(connection, options.tables, signal), leaseMs)
  }
}

async function lockInTries(connection: Connection, options: LockOptions, signal: AbortSignal): Promise<void> {
  const { clock, deadlineMs, leaseMs } = options
  const names = [...lockNames(options.tables), ...(options.holdLargeObjects ? largeObjects : [])]
  if (names.length === 0) return
  const list = names.join(', ')
  const timeoutMs = await tryTimeoutMs(connection, options.lockTimeoutMs, signal)
  // First a lock that no writer minds. Waiting for it, the server makes an autovacuum of the table give way after
  // deadlock_timeout; waiting for the second one it would not have the time to, and one long autovacuum would keep us
  // from holding at all.
  await connection.run(`LOCK TABLE ${list} IN SHARE UPDATE EXCLUSIVE MODE; SAVEPOINT attempt`, signal)
  const attempt = `
    SET LOCAL lock_timeout = ${timeoutMs};
    SET LOCAL statement_timeout = ${timeoutMs * 2 + names.length};
    LOCK TABLE ${list} IN EXCLUSIVE MODE;
    SET LOCAL statement_timeout = ${leaseMs}`
  for (let pauseMs = 5; ; pauseMs = Math.min(pauseMs * 2, 100)) {
    try {
      await connection.run(attempt, signal)
      return
    } catch (error) {
      if (!isBusy(error) || clock.monotonicMs() + pauseMs > deadlineMs) throw error
    }
    await connection.run('ROLLBACK TO SAVEPOINT attempt', signal) // H1: lets go of what it had got
    await sleep(clock, pauseMs, signal)
  }
}

/** H1: half of deadlock_timeout at most. */
async function tryTimeoutMs(connection: Connection, lockTimeoutMs: number, signal: AbortSignal): Promise<number> {
  const row = z.object({ ms: z.coerce.number() })
  const query = `SELECT setting AS ms FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'`
  const [found] = await connection.rows(row, query, signal)
  return Math.max(1, Math.min(lockTimeoutMs, Math.floor((found?.ms ?? 1000) / 2)))
}

function hold(connection: Connection, options: LockOptionsHeld): DatabaseHold {
  const { clock, tables, endsAtMs } = options
  let report: Promise<HoldReport> | undefined
  const broken = () => {
    if (connection.lost !== undefined) return `the holding session ended before: ${connection.lost.message}`
    return clock.monotonicMs() >= endsAtMs ? 'the lease was spent' : undefined
  }
  const finish = async (): Promise<HoldReport> => {
    const before = broken()
    if (before !== undefined) {
      connection.destroy()
      return { unbroken: false, detail: before }
    }
    try {
      return await commit(connection, options)
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error)
      return { unbroken: false, detail: `the hold could not be ended in order: ${detail}` }
    } finally {
      await connection.end()
    }
  }
  return {
    tables,
    endsAtMs,
    broken,
    end() {
      report ??= finish()
      return report
    },
  }
}

interface LockOptionsHeld extends HoldOptions {
  readonly tables: readonly Table[]
  readonly endsAtMs: number
}

async function commit(connection: Connection, options: LockOptionsHeld): Promise<HoldReport> {
  // No signal here: a resume is never cancelled. A server that hangs may not keep it either.
  const timeout = AbortSignal.timeout(endTimeoutMs)
  const now = await listTables(connection, options.scope, timeout)
  const [committed] = await connection.run('COMMIT', timeout)
  const late = uncovered(options.tables, now)
  if (committed?.command !== 'COMMIT') {
    return {
      unbroken: false,
      detail: `the server answered ${committed?.command} to COMMIT: the transaction had failed`,
    }
  }
  if (late.length > 0) return { unbroken: false, detail: `tables were made during the hold: ${late.join(', ')}` }
  return { unbroken: true }
}

/** Another holder, another time. 55P03 lock_not_available, 40P01 deadlock_detected, 57014 query_canceled (statement_timeout). */
export function isBusy(error: unknown): boolean {
  const state = sqlState(isFailure(error) ? error.cause : error)
  return state === '55P03' || state === '40P01' || state === '57014'
}

/** 42P01 undefined_table, 3F000 invalid_schema_name, 42809 wrong_object_type: not what was listed a moment ago. */
function isGone(error: unknown): boolean {
  const state = sqlState(isFailure(error) ? error.cause : error)
  return state === '42P01' || state === '3F000' || state === '42809'
}

function unavailable(why: string, leaseMs: number): Failure {
  return new Failure({
    code: 'hold_unavailable',
    message: `the tables could not be held within ${leaseMs} ms: ${why}`,
    hint: 'End the transactions that keep locks, or take the snapshot when they have ended.',
    retry: 'later',
  })
}

/** Who keeps locks that a hold cannot pass, in words. */
async function blockers(connection: Connection, tables: readonly Table[], signal: AbortSignal): Promise<string> {
  const row = z.object({ text: z.string() })
  const found = await connection.rows(
    row,
    `SELECT pg_catalog.format('session %s (%s, %s) has kept %s on %s for %s s', coalesce(l.pid::text, 'of a prepared transaction'),
        coalesce(nullif(a.application_name, ''), a.backend_type, 'no name'), coalesce(a.state, 'state unknown'), l.mode,
        l.relation::pg_catalog.regclass, coalesce(round(extract(epoch FROM now() - a.xact_start))::text, '?')) AS text
     FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
     WHERE l.granted AND l.locktype = 'relation' AND l.relation::text = ANY ($1::text[])
       AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
       AND l.mode NOT IN ('AccessShareLock') AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
     ORDER BY a.xact_start LIMIT 3`,
    signal,
    [tables.map((table) => table.oid)],
  )
  return found.length === 0 ? 'their locks were always taken' : found.map((each) => each.text).join('; ')
}

export function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted()
    const abort = () => {
      cancel()
      reject(signal.reason)
    }
    const cancel = clock.after(ms, () => {
      signal.removeEventListener('abort', abort)
      resolve()
    })
    signal.addEventListener('abort', abort, { once: true })
  })
}
