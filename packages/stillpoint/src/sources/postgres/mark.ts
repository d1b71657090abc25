/**
 * The mark of a database: an exported MVCC snapshot, kept by a transaction of its own until `release`.
 *
 * Owns: that transaction, and what must be read at the mark: position, tables, sequences. Does not own: copying.
 *
 * Invariants:
 * - M1 All tables are locked in ACCESS SHARE MODE by the marking transaction before the snapshot is taken, and before
 *   any hold: TRUNCATE and rewriting ALTER TABLE are not transactional for older snapshots, and would change what
 *   `capture` reads. Taken later, the lock could queue behind a TRUNCATE that waits for the hold's end.
 * - M2 The snapshot is taken by the first statement after those locks that needs one, which is in the hold.
 * - M3 The server ends the transaction by itself after the mark's budget: a mark cannot be forgotten.
 */
import { type Clock, type CutId, defined, Failure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import type { Mark } from '../source.ts'
import type { Connection } from './connection.ts'
import {
  listTables,
  readLockNames,
  readSequences,
  type SequenceState,
  type Table,
  type TableScope,
  uncovered,
} from './tables.ts'

export interface DatabaseMark {
  readonly mark: Mark
  /** Name to import: SET TRANSACTION SNAPSHOT. */
  readonly snapshot: string
  readonly tables: readonly Table[]
  readonly sequences: readonly SequenceState[]
  /** End of the budget, by this process's monotonic clock. */
  readonly endsAtMs: number
}

export interface PinOptions {
  readonly tables: readonly Table[]
  readonly scope: TableScope
  /** How long it may stay without a mark. */
  readonly idleMs: number
}

/** Begins the marking transaction and locks the tables (M1). No snapshot is taken yet. May be called again. */
export async function pinTables(connection: Connection, options: PinOptions, signal: AbortSignal): Promise<void> {
  const names = readLockNames(options.tables)
  await connection.run(
    `ROLLBACK;
     BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
     SET LOCAL idle_in_transaction_session_timeout = ${options.idleMs};
     SET LOCAL lock_timeout = ${options.idleMs};
     SET LOCAL statement_timeout = ${options.idleMs};
     ${options.scope.major >= 17 ? 'SET LOCAL transaction_timeout = 0;' : ''}
     ${names.length === 0 ? '' : `LOCK TABLE ${names.join(', ')} IN ACCESS SHARE MODE`}`,
    signal,
  )
}

export interface MarkOptions {
  readonly cut: CutId
  readonly clock: Clock
  readonly scope: TableScope
  /** The tables that `pinTables` has locked. */
  readonly pinned: readonly Table[]
  readonly budgetMs: number
  /** False: writers of large objects may have gone on during the hold. */
  readonly largeObjectsHeld: boolean
}

const positionRow = z.object({
  snapshot: z.string(),
  lsn: z.string(),
  timeline: z.coerce.number(),
  transactions: z.string(),
  database: z.string(),
})

/** @throws Failure `hold_broken` when there is a table that the hold does not cover */
export async function takeMark(
  connection: Connection,
  options: MarkOptions,
  signal: AbortSignal,
): Promise<DatabaseMark> {
  const askedMs = options.clock.monotonicMs()
  await connection.run(
    `SET LOCAL idle_in_transaction_session_timeout = ${options.budgetMs}; SET LOCAL statement_timeout = 0`,
    signal,
  )
  const [position] = await connection.rows(
    positionRow,
    `SELECT pg_catalog.pg_export_snapshot() AS snapshot, pg_catalog.pg_current_wal_lsn()::text AS lsn,
       ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int AS timeline,
       pg_catalog.pg_current_snapshot()::text AS transactions, pg_catalog.current_database()::text AS database`,
    signal,
  )
  const { snapshot, ...exact } = defined(position, 'the answer of a SELECT without FROM')
  const tables = await listTables(connection, options.scope, signal)
  const late = uncovered(options.pinned, tables)
  if (late.length > 0) {
    throw new Failure({
      code: 'hold_broken',
      message: `tables were made since the hold began, and were not held: ${late.join(', ')}`,
      hint: 'Take the snapshot again, at a time when no tables are made.',
      retry: 'later',
    })
  }
  const caveats = options.largeObjectsHeld ? [] : await largeObjectCaveats(connection, signal)
  const sequences = await readSequences(connection, options.scope, signal)
  return {
    mark: { cut: options.cut, position: { ...exact, tables: tables.length }, caveats },
    snapshot,
    tables,
    sequences,
    endsAtMs: askedMs + options.budgetMs,
  }
}

async function largeObjectCaveats(connection: Connection, signal: AbortSignal): Promise<readonly string[]> {
  const row = z.object({ some: z.boolean() })
  const query = 'SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata) AS some'
  const [found] = await connection.rows(row, query, signal)
  return found?.some ? ['there are large objects, and only a superuser could have held their writers'] : []
}
