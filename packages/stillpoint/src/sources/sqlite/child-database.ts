/**
 * In the child: opening a database, and what its errors mean.
 *
 * Owns: the mapping from SQLite's result codes to failures, and the facts about a database. Does not own: locks.
 * Imports nothing of ours at run time: a child must start fast.
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import type { DatabaseFacts } from './messages.ts'

export class ChildFailure extends Error {
  readonly code: string
  readonly hint: string
  readonly retry: 'never' | 'later'

  constructor(code: string, message: string, options: { readonly hint: string; readonly retry?: 'later' }) {
    super(message)
    this.code = code
    this.hint = options.hint
    this.retry = options.retry ?? 'never'
  }
}

/** Opens what exists and creates nothing. `immutable`: a file of ours that nobody writes; leaves no file beside it. */
export function openDatabase(path: string, options: { busyTimeoutMs: number; immutable?: true }): DatabaseSync {
  const url = pathToFileURL(path)
  url.search = options.immutable === true ? '?immutable=1' : '?mode=rw'
  const database = new DatabaseSync(url, { timeout: options.busyTimeoutMs, readOnly: options.immutable === true })
  // Opening is lazy: without a read, neither a wrong format nor a missing permission would show.
  try {
    database.prepare('SELECT count(*) FROM sqlite_schema').get()
  } catch (error) {
    database.close()
    throw error
  }
  return database
}

export function numberOf(database: DatabaseSync, sql: string): number {
  const value = Object.values(database.prepare(sql).get() ?? {})[0]
  if (typeof value !== 'number') throw new TypeError(`${sql} answered ${String(value)}`)
  return value
}

export function textOf(database: DatabaseSync, sql: string): string {
  return String(Object.values(database.prepare(sql).get() ?? {})[0])
}

export function isBusy(error: unknown): boolean {
  const code = resultCode(error)
  return code === 5 || code === 6
}

export function isDamaged(error: unknown): boolean {
  const code = resultCode(error)
  return code === 11 || code === 26
}

/** SQLite's primary result code (https://sqlite.org/rescode.html), or undefined. */
function resultCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return undefined
  return error.errcode & 0xff
}

export function explain(error: unknown, path: string): ChildFailure {
  if (error instanceof ChildFailure) return error
  const said = error instanceof Error ? error.message : String(error)
  const failure = (code: string, what: string, hint: string, retry?: 'later') =>
    new ChildFailure(code, `${what} (${said}): ${path}`, retry === undefined ? { hint } : { hint, retry })
  switch (resultCode(error)) {
    case 5:
    case 6:
      return failure('store_busy', 'the SQLite database is locked', 'Another process holds a lock; try again.', 'later')
    case 3:
    case 8:
      return failure(
        'store_privilege_missing',
        'the SQLite database cannot be written',
        'Stillpoint needs write permission on the file and its directory, to take the lock that holds writers.',
      )
    case 10:
      return failure('store_io_failed', 'reading or writing the SQLite database failed', 'Check the disk and its log.')
    case 11:
      return failure(
        'store_damaged',
        'the SQLite database is damaged',
        'Run `PRAGMA integrity_check` on it; restore it from a snapshot, or recover it with `sqlite3 FILE .recover`.',
      )
    case 13:
      return failure(
        'disk_full',
        'no space left for a copy of the SQLite database',
        'Free space, then try again.',
        'later',
      )
    case 14:
      return failure(
        'store_unreachable',
        'the SQLite database cannot be opened',
        'Check the path, that the file exists, and that the directory may be read and written.',
      )
    case 26:
      return failure(
        'store_not_database',
        'the file is not a SQLite database',
        'Check the path; encrypted databases cannot be read.',
      )
    default:
      return failure('store_failed', 'SQLite failed', 'The message in parentheses is its own.')
  }
}

/** @param journal the mode of the database that was marked, where `database` is an immutable copy of it */
export function factsOf(database: DatabaseSync, journal = textOf(database, 'PRAGMA journal_mode')): DatabaseFacts {
  const names = database
    .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name")
    .all()
    .map((row) => String(row['name']))
  const schema = createHash('sha256')
  for (const row of database
    .prepare('SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name')
    .iterate()) {
    schema.update(JSON.stringify(Object.values(row)))
  }
  return {
    pageBytes: numberOf(database, 'PRAGMA page_size'),
    pages: numberOf(database, 'PRAGMA page_count'),
    journal,
    userVersion: numberOf(database, 'PRAGMA user_version'),
    applicationId: numberOf(database, 'PRAGMA application_id'),
    schemaSha256: schema.digest('hex'),
    foreignKeyViolations: foreignKeyViolations(database),
    tables: names.map((name) => ({ name, rows: numberOf(database, `SELECT count(*) FROM ${quoted(name)}`) })),
  }
}

function foreignKeyViolations(database: DatabaseSync): number {
  let count = 0
  for (const _ of database.prepare('PRAGMA foreign_key_check').iterate()) count += 1
  return count
}

/** What `PRAGMA integrity_check` finds; empty when the database is whole. */
export function problemsOf(database: DatabaseSync): string[] {
  const found = database
    .prepare('PRAGMA integrity_check(10)')
    .all()
    .map((row) => String(Object.values(row)[0]))
  return found.length === 1 && found[0] === 'ok' ? [] : found
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** Other processes of this machine that have the file open, as far as /proc shows them. */
export function usersOf(path: string): string[] {
  let file: { readonly dev: number; readonly ino: number }
  let processes: string[]
  try {
    file = statSync(path)
    processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  } catch {
    // No file, or no /proc (not Linux): nobody can be named. The locks are still asked.
    return []
  }
  return processes.filter((pid) => pid !== String(process.pid) && hasOpen(pid, file)).map(processName)
}

function hasOpen(pid: string, file: { readonly dev: number; readonly ino: number }): boolean {
  const directory = `/proc/${pid}/fd`
  try {
    return readdirSync(directory).some((descriptor) => {
      const stat = statSync(`${directory}/${descriptor}`, { throwIfNoEntry: false })
      return stat?.ino === file.ino && stat.dev === file.dev
    })
  } catch {
    return false // It has ended, or belongs to another user: it cannot be looked into.
  }
}

function processName(pid: string): string {
  try {
    return `${readFileSync(`/proc/${pid}/comm`, 'utf8').trim()} (process ${pid})`
  } catch {
    return `process ${pid}` // It ended between the two looks.
  }
}
