/**
 * The embedded catalog: one SQLite file in the state directory, for one machine.
 *
 * Owns: the file, its durability (WAL, `synchronous = FULL`: a commit that answered survives power loss, K1), and what
 * becomes of a damaged one: it is moved aside, never deleted, and an empty one takes its place, to be rebuilt.
 * Does not own: the tables (sqlite-schema.ts), the lock between processes (operation-lock.ts).
 *
 * Every write of an operation checks its fencing token in the same transaction (K3).
 */
import { existsSync, mkdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type Plan, processesOf, type RestoreOffer } from '@stillpoint/core'
import { assert, type CutId, Failure, type ParticipantName, participantName } from '@stillpoint/core/kernel'
import type {
  Catalog,
  CutOutcome,
  Holder,
  OpenCut,
  OperationLease,
  PendingRestore,
  RestoreRecord,
  Schedule,
  SystemCounters,
} from './catalog.ts'
import { takeOperationLock } from './operation-lock.ts'
import { cutIdOf, integerOf, type Row, textOf } from './sqlite-rows.ts'
import { migrate } from './sqlite-schema.ts'

/** How long a write waits for another process's. */
const busyTimeoutMs = 10_000

export interface SqliteCatalogOptions {
  /** Made (0700) where it is not there. */
  readonly directory: string
  /** Is told when a damaged catalog was moved aside. */
  readonly note: (text: string) => void
}

/** @throws Failure `catalog_version_unsupported` | `catalog_unusable` */
export function openSqliteCatalog(options: SqliteCatalogOptions): SqliteCatalog {
  const { directory, note } = options
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const path = join(directory, 'catalog.sqlite')
  try {
    return new SqliteCatalog(openDatabase(path), directory)
  } catch (error) {
    if (!isDamage(error)) throw unusable(path, error)
    const aside = moveAside(path)
    note(
      `The catalog ${path} is damaged (${error.message}). It is kept as ${aside}, and built again from the repository.`,
    )
    return new SqliteCatalog(openDatabase(path), directory)
  }
}

function openDatabase(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { enableForeignKeyConstraints: true })
  try {
    database.exec(`PRAGMA busy_timeout = ${busyTimeoutMs}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL`)
    const checked = database.prepare('PRAGMA quick_check(1)').get()
    if (checked?.['quick_check'] !== 'ok') throw new CatalogDamage(String(checked?.['quick_check']))
    migrate(database, path)
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

class CatalogDamage extends Error {}

/** SQLITE_CORRUPT and SQLITE_NOTADB: the bytes are wrong. Everything else (no space, no permission) is not damage. */
function isDamage(error: unknown): error is Error {
  if (error instanceof CatalogDamage) return true
  return error instanceof Error && 'errcode' in error && (error.errcode === 11 || error.errcode === 26)
}

function moveAside(path: string): string {
  let number = 1
  while (existsSync(`${path}.damaged-${number}`)) number += 1
  const aside = `${path}.damaged-${number}`
  renameSync(path, aside)
  for (const suffix of ['-wal', '-shm']) {
    try {
      renameSync(`${path}${suffix}`, `${aside}${suffix}`)
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
    }
  }
  return aside
}

function unusable(path: string, error: unknown): Failure {
  if (error instanceof Failure) return error
  return new Failure({
    code: 'catalog_unusable',
    message: `The catalog ${path} cannot be opened: ${error instanceof Error ? error.message : String(error)}`,
    hint: 'Check the permissions of the state directory, and that its disk is local and not full.',
    cause: error,
  })
}

type Value = string | number | null

export class SqliteCatalog implements Catalog {
  readonly #database: DatabaseSync
  readonly #directory: string

  constructor(database: DatabaseSync, directory: string) {
    this.#database = database
    this.#directory = directory
  }

  async begin(system: string, holder: Holder): Promise<OperationLease> {
    const lock = takeOperationLock(join(this.#directory, 'locks'), participantName(system), holder)
    try {
      const fencing = this.transaction(() => {
        this.#insertSystem(system)
        this.run('UPDATE systems SET fencing = fencing + 1 WHERE system = ?', system)
        return integerOf(this.one('SELECT fencing FROM systems WHERE system = ?', system), 'fencing')
      })
      return new SqliteLease({ catalog: this, system, fencing, release: () => lock.release() })
    } catch (error) {
      lock.release()
      throw error
    }
  }

  async counters(system: string): Promise<SystemCounters> {
    const row = this.all('SELECT * FROM systems WHERE system = ?', system)[0]
    return row === undefined ? { generation: 1, epoch: 0, fencing: 0 } : countersOf(row)
  }

  async isRebuilt(system: string, repositoryId: string): Promise<boolean> {
    const row = this.all('SELECT repository FROM systems WHERE system = ?', system)[0]
    return row?.['repository'] === repositoryId
  }

  async raise(system: string, least: Partial<SystemCounters>, repositoryId?: string): Promise<SystemCounters> {
    const { generation = 1, epoch = 0, fencing = 0 } = least
    return this.transaction(() => {
      this.#insertSystem(system)
      this.run(
        `UPDATE systems SET generation = max(generation, ?), epoch = max(epoch, ?), fencing = max(fencing, ?),
           repository = coalesce(?, repository) WHERE system = ?`,
        generation,
        epoch,
        fencing,
        repositoryId ?? null,
        system,
      )
      return countersOf(this.one('SELECT * FROM systems WHERE system = ?', system))
    })
  }

  async openCuts(system: string): Promise<readonly OpenCut[]> {
    const rows = this.all(`SELECT * FROM cuts WHERE system = ? AND outcome = 'open' ORDER BY epoch`, system)
    return rows.map((row) => ({
      cut: cutIdOf(row, 'cut'),
      epoch: integerOf(row, 'epoch'),
      generation: integerOf(row, 'generation'),
      fencing: integerOf(row, 'fencing'),
      processes: processNamesOf(textOf(row, 'plan')),
    }))
  }

  async cutRecords(system: string, cut: CutId): Promise<readonly string[]> {
    const rows = this.all('SELECT record FROM cut_records WHERE system = ? AND cut = ? ORDER BY position', system, cut)
    return rows.map((row) => textOf(row, 'record'))
  }

  async openRestores(system: string): Promise<readonly RestoreRecord[]> {
    return this.all(`SELECT * FROM restores WHERE system = ? AND state = 'open'`, system).map((row) => {
      const restore = textOf(row, 'restore')
      const targets = this.all('SELECT * FROM restore_targets WHERE system = ? AND restore = ?', system, restore)
      const named = (states: readonly string[]) =>
        targets
          .filter((target) => states.includes(textOf(target, 'state')))
          .map((target) => participantName(textOf(target, 'participant')))
      return {
        restore,
        snapshot: textOf(row, 'snapshot'),
        ownTargets: integerOf(row, 'own_targets') === 1,
        stores: named(['planned', 'begun', 'replaced']),
        begun: named(['begun', 'replaced']),
        replaced: named(['replaced']),
      }
    })
  }

  async pendingRestores(system: string): Promise<readonly PendingRestore[]> {
    return this.all('SELECT * FROM pending_restores WHERE system = ? ORDER BY participant', system).map((row) => ({
      participant: participantName(textOf(row, 'participant')),
      offer: {
        restore: textOf(row, 'restore'),
        snapshot: textOf(row, 'snapshot'),
        generation: integerOf(row, 'generation'),
        epoch: integerOf(row, 'epoch'),
      },
    }))
  }

  async completeRestore(system: string, participant: ParticipantName, restore: string): Promise<void> {
    const sql = 'DELETE FROM pending_restores WHERE system = ? AND participant = ? AND restore = ?'
    this.transaction(() => this.run(sql, system, participant, restore))
  }

  async cachedSnapshots(system: string): Promise<ReadonlyMap<string, string>> {
    const rows = this.all('SELECT id, summary FROM snapshots WHERE system = ?', system)
    return new Map(rows.map((row) => [textOf(row, 'id'), textOf(row, 'summary')]))
  }

  async cacheSnapshot(system: string, id: string, summary: string): Promise<void> {
    this.transaction(() => {
      this.#insertSystem(system)
      this.run('INSERT OR REPLACE INTO snapshots (system, id, summary) VALUES (?, ?, ?)', system, id, summary)
    })
  }

  async dropCachedSnapshots(system: string, ids: readonly string[]): Promise<void> {
    this.transaction(() => {
      for (const id of ids) this.run('DELETE FROM snapshots WHERE system = ? AND id = ?', system, id)
    })
  }

  async schedules(system: string): Promise<readonly Schedule[]> {
    return this.all('SELECT * FROM schedules WHERE system = ? ORDER BY name', system).map((row) => ({
      name: textOf(row, 'name'),
      everyMs: integerOf(row, 'every_ms'),
      nextAtMs: integerOf(row, 'next_at_ms'),
    }))
  }

  async putSchedule(system: string, schedule: Schedule): Promise<void> {
    const { name, everyMs, nextAtMs } = schedule
    const sql = 'INSERT OR REPLACE INTO schedules (system, name, every_ms, next_at_ms) VALUES (?, ?, ?, ?)'
    this.transaction(() => {
      this.#insertSystem(system)
      this.run(sql, system, name, everyMs, nextAtMs)
    })
  }

  async removeSchedule(system: string, name: string): Promise<void> {
    this.transaction(() => this.run('DELETE FROM schedules WHERE system = ? AND name = ?', system, name))
  }

  async close(): Promise<void> {
    if (this.#database.isOpen) this.#database.close()
  }

  /** For the leases of this file. Synchronous, so no other call of this process comes between its statements. */
  transaction<T>(body: () => T): T {
    this.#database.exec('BEGIN IMMEDIATE')
    try {
      const result = body()
      this.#database.exec('COMMIT')
      return result
    } catch (error) {
      // A failed COMMIT may have ended the transaction already (no space left).
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      throw error
    }
  }

  run(sql: string, ...values: readonly Value[]): number {
    return Number(this.#database.prepare(sql).run(...values).changes)
  }

  all(sql: string, ...values: readonly Value[]): readonly Row[] {
    return this.#database.prepare(sql).all(...values)
  }

  one(sql: string, ...values: readonly Value[]): Row {
    const row = this.all(sql, ...values)[0]
    assert(row !== undefined, `no row for ${sql}`)
    return row
  }

  #insertSystem(system: string): void {
    this.run(
      'INSERT INTO systems (system, generation, epoch, fencing) VALUES (?, 1, 0, 0) ON CONFLICT DO NOTHING',
      system,
    )
  }
}

interface LeaseParts {
  readonly catalog: SqliteCatalog
  readonly system: string
  readonly fencing: number
  readonly release: () => void
}

class SqliteLease implements OperationLease {
  readonly system: string
  readonly fencing: number
  readonly #catalog: SqliteCatalog
  readonly #release: () => void

  constructor(parts: LeaseParts) {
    this.system = parts.system
    this.fencing = parts.fencing
    this.#catalog = parts.catalog
    this.#release = parts.release
  }

  async nextEpoch(): Promise<{ epoch: number; generation: number }> {
    return this.#write(() => this.#takeEpoch())
  }

  async openCut(plan: Plan): Promise<void> {
    const { cut, epoch, generation, fencing } = plan
    const sql = 'INSERT INTO cuts (system, cut, epoch, generation, fencing, plan) VALUES (?, ?, ?, ?, ?, ?)'
    this.#write(() => this.#catalog.run(sql, this.system, cut, epoch, generation, fencing, JSON.stringify(plan)))
  }

  async recordCut(cut: CutId, records: readonly string[]): Promise<void> {
    if (records.length === 0) return
    // A commit stops everything until the disk has it: whatever else has come by now is taken in first, so that what a
    // thousand participants say at once is a few commits, and not a thousand.
    await new Promise((resolve) => setImmediate(resolve))
    this.#write(() => {
      const next = this.#catalog.one(
        'SELECT coalesce(max(position), 0) AS position FROM cut_records WHERE system = ? AND cut = ?',
        this.system,
        cut,
      )
      let position = integerOf(next, 'position')
      for (const record of records) {
        position += 1
        const sql = 'INSERT INTO cut_records (system, cut, position, record) VALUES (?, ?, ?, ?)'
        this.#catalog.run(sql, this.system, cut, position, record)
      }
    })
  }

  async closeCut(cut: CutId, outcome: CutOutcome): Promise<void> {
    const snapshot = outcome.outcome === 'sealed' ? outcome.snapshot : null
    const reason = outcome.outcome === 'aborted' ? outcome.reason : null
    this.#write(() => {
      const changed = this.#catalog.run(
        `UPDATE cuts SET outcome = ?, snapshot = ?, reason = ? WHERE system = ? AND cut = ? AND outcome = 'open'`,
        outcome.outcome,
        snapshot,
        reason,
        this.system,
        cut,
      )
      if (changed === 0) throw new Failure({ code: 'cut_closed', message: `The cut ${cut} is not open` })
    })
  }

  async beginRestore(restore: Omit<RestoreRecord, 'begun' | 'replaced'>): Promise<void> {
    this.#write(() => {
      const sql = 'INSERT INTO restores (system, restore, snapshot, own_targets) VALUES (?, ?, ?, ?)'
      this.#catalog.run(sql, this.system, restore.restore, restore.snapshot, restore.ownTargets ? 1 : 0)
      for (const store of restore.stores) {
        const target = 'INSERT INTO restore_targets (system, restore, participant) VALUES (?, ?, ?)'
        this.#catalog.run(target, this.system, restore.restore, store)
      }
    })
  }

  async markTarget(restore: string, target: ParticipantName, state: 'begun' | 'replaced'): Promise<void> {
    const sql = 'UPDATE restore_targets SET state = ? WHERE system = ? AND restore = ? AND participant = ?'
    const changed = this.#write(() => this.#catalog.run(sql, state, this.system, restore, target))
    assert(changed === 1, `the restore ${restore} has no target ${target}`)
  }

  async switchRestore(restore: string, processes: readonly ParticipantName[]): Promise<RestoreOffer> {
    return this.#write(() => {
      const row = this.#closeRestore(restore, 'switched', null)
      this.#catalog.run('UPDATE systems SET generation = generation + 1 WHERE system = ?', this.system)
      const { epoch, generation } = this.#takeEpoch()
      const snapshot = textOf(row, 'snapshot')
      for (const participant of processes) {
        const sql = `INSERT OR REPLACE INTO pending_restores (system, participant, restore, snapshot, generation, epoch)
          VALUES (?, ?, ?, ?, ?, ?)`
        this.#catalog.run(sql, this.system, participant, restore, snapshot, generation, epoch)
      }
      return { restore, snapshot, generation, epoch }
    })
  }

  async closeRestore(restore: string, reason: string): Promise<void> {
    this.#write(() => this.#closeRestore(restore, 'closed', reason))
  }

  async end(): Promise<void> {
    this.#release()
  }

  #closeRestore(restore: string, state: 'switched' | 'closed', reason: string | null): Row {
    const changed = this.#catalog.run(
      `UPDATE restores SET state = ?, reason = ? WHERE system = ? AND restore = ? AND state = 'open'`,
      state,
      reason,
      this.system,
      restore,
    )
    if (changed === 0) throw new Failure({ code: 'restore_closed', message: `The restore ${restore} is not open` })
    return this.#catalog.one('SELECT * FROM restores WHERE system = ? AND restore = ?', this.system, restore)
  }

  #takeEpoch(): { epoch: number; generation: number } {
    this.#catalog.run('UPDATE systems SET epoch = epoch + 1 WHERE system = ?', this.system)
    const { epoch, generation } = countersOf(this.#catalog.one('SELECT * FROM systems WHERE system = ?', this.system))
    return { epoch, generation }
  }

  /** A transaction that first finds the fencing token to be ours still (K3). */
  #write<T>(body: () => T): T {
    return this.#catalog.transaction(() => {
      const row = this.#catalog.one('SELECT fencing FROM systems WHERE system = ?', this.system)
      const current = integerOf(row, 'fencing')
      if (current !== this.fencing) {
        throw new Failure({
          code: 'operation_superseded',
          message: `The system "${this.system}" is changed by a newer operation (token ${current}, ours is ${this.fencing})`,
          hint: 'Nothing of this operation counts any more. See what the newer one did, then start again.',
        })
      }
      return body()
    })
  }
}

function countersOf(row: Row): SystemCounters {
  return {
    generation: integerOf(row, 'generation'),
    epoch: integerOf(row, 'epoch'),
    fencing: integerOf(row, 'fencing'),
  }
}

function processNamesOf(planText: string): readonly ParticipantName[] {
  // Written by `openCut` of this program, from a plan: no input from outside.
  const plan: Plan = JSON.parse(planText)
  return processesOf(plan).map(({ name }) => name)
}
