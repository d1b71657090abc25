/**
 * In the child: looking at a target, and putting a restored file in its place.
 *
 * Owns: the order of the swap. A crash at any line leaves the old database or the new one, and never a new file beside
 * an old `-wal` or `-journal`, which SQLite would play into it:
 * 1. The new file is complete and synced, beside the target (done by restore.ts).
 * 2. The old database is switched out of WAL: SQLite itself moves its log into the file and deletes the log. This fails
 *    while any other connection has it open. From here the old file is whole by itself.
 * 3. An exclusive lock keeps everybody out of the old file; what is left beside it is removed, and the directory synced,
 *    so that the removal is on disk before the rename can be.
 * 4. `rename` puts the new file in place, in one step; the directory is synced.
 * 5. This process is killed, not closed: a closing connection would tidy up files by name, which are the new one's now.
 */
import {
  chmodSync,
  chownSync,
  closeSync,
  fsyncSync,
  linkSync,
  openSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import {
  ChildFailure,
  factsOf,
  isBusy,
  isDamaged,
  numberOf,
  openDatabase,
  problemsOf,
  textOf,
  usersOf,
} from './child-database.ts'
import type { Answer, AskOf, TargetFile } from './messages.ts'

const besides = ['-wal', '-shm', '-journal'] as const

/** Never closed (5): not by the garbage collector either. */
const kept: DatabaseSync[] = []

export function inspectTarget(target: TargetFile): Answer<'inspect'> {
  const stat = statSync(target.path, { throwIfNoEntry: false })
  if (stat === undefined) return { state: hasLog(target.path) ? 'damaged' : 'absent', usedBy: [] }
  if (!stat.isFile()) throw notAFile(target.path)
  const usedBy = usersOf(target.path)
  let database: DatabaseSync
  try {
    database = openDatabase(target.path, target)
  } catch (error) {
    if (!isDamaged(error)) throw error
    return { state: 'damaged', usedBy }
  }
  try {
    return { state: hasContent(database) ? 'content' : 'empty', usedBy }
  } finally {
    database.close()
  }
}

function notAFile(path: string): ChildFailure {
  return new ChildFailure('target_not_file', `not a regular file: ${path}`, {
    hint: 'Give the path of a database file.',
  })
}

/** A log without its database: somebody's committed transactions may be in it. */
function hasLog(path: string): boolean {
  return ['-wal', '-journal'].some((suffix) => (statSync(path + suffix, { throwIfNoEntry: false })?.size ?? 0) > 0)
}

function hasContent(database: DatabaseSync): boolean {
  return numberOf(database, 'SELECT count(*) FROM sqlite_schema') > 0
}

/** Checks a file of ours that nobody else has open. */
export function checkFile(path: string): Answer<'check'> {
  const database = openDatabase(path, { busyTimeoutMs: 0, immutable: true })
  try {
    return { problems: problemsOf(database) }
  } catch (error) {
    if (isDamaged(error)) return { problems: [error instanceof Error ? error.message : String(error)] }
    throw error
  } finally {
    database.close()
  }
}

export function factsOfTarget(target: TargetFile): Answer<'facts'> {
  const database = openDatabase(target.path, target)
  try {
    // One snapshot for all counts: the target may be in use again.
    database.exec('BEGIN')
    return { facts: factsOf(database), problems: problemsOf(database) }
  } finally {
    database.close()
  }
}

export function swapTarget(ask: AskOf<'swap'>): Answer<'swap'> {
  const stat = statSync(ask.path, { throwIfNoEntry: false })
  if (stat === undefined) return swapAbsent(ask)
  if (!stat.isFile()) throw notAFile(ask.path)
  let database: DatabaseSync
  try {
    database = openDatabase(ask.path, ask)
  } catch (error) {
    if (!isDamaged(error)) throw error
    return swapDamaged(ask, stat)
  }
  kept.push(database)
  const journal = textOf(database, 'PRAGMA journal_mode')
  try {
    lockOut(database, ask)
    removeBesides(ask.path)
    keepOwner(ask.from, stat)
    syncDirectory(ask.path)
    renameSync(ask.from, ask.path)
    syncDirectory(ask.path)
  } catch (error) {
    giveBack(database, journal)
    if (!isDamaged(error)) throw error
    database.close()
    return swapDamaged(ask, stat)
  }
  return { replaced: 'database' }
}

/** Still the old database: its journal mode is put back. */
function giveBack(database: DatabaseSync, journal: string): void {
  try {
    if (database.isTransaction) database.exec('ROLLBACK')
    if (journal === 'wal') database.exec('PRAGMA journal_mode = WAL')
  } catch {
    // Somebody else has it by now, or it is damaged. It is whole in either mode, and the first error is the one to tell.
  }
}

function lockOut(database: DatabaseSync, ask: AskOf<'swap'>): void {
  try {
    if (!ask.replace && hasContent(database)) throw notEmpty(ask.path)
    const journal = textOf(database, 'PRAGMA journal_mode = DELETE')
    if (journal !== 'delete') throw inUse(ask.path, [])
    database.exec('BEGIN EXCLUSIVE')
    // Looked at again where nobody can change it any more.
    if (!ask.replace && hasContent(database)) throw notEmpty(ask.path)
  } catch (error) {
    throw isBusy(error) ? inUse(ask.path, usersOf(ask.path)) : error
  }
  // An idle connection has no lock: it would go on writing to the old file, which has no name any more.
  const users = usersOf(ask.path)
  if (users.length > 0) throw inUse(ask.path, users)
}

function swapAbsent(ask: AskOf<'swap'>): Answer<'swap'> {
  if (!ask.replace && hasLog(ask.path)) throw notEmpty(ask.path)
  removeBesides(ask.path)
  syncDirectory(ask.path)
  try {
    // Unlike a rename, a link does not replace what somebody put there meanwhile.
    linkSync(ask.from, ask.path)
    rmSync(ask.from)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'EEXIST') throw notEmpty(ask.path)
    // File systems without hard links.
    if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'EOPNOTSUPP') throw error
    renameSync(ask.from, ask.path)
  }
  syncDirectory(ask.path)
  return { replaced: 'nothing' }
}

/** What is there cannot be opened, so SQLite cannot fold its log in: the log is kept aside until the new file is there. */
function swapDamaged(ask: AskOf<'swap'>, stat: Stats): Answer<'swap'> {
  if (!ask.replace) throw notEmpty(ask.path)
  const users = usersOf(ask.path)
  if (users.length > 0) throw inUse(ask.path, users)
  for (const suffix of besides) {
    if (statSync(ask.path + suffix, { throwIfNoEntry: false }) === undefined) continue
    renameSync(ask.path + suffix, join(dirname(ask.from), `damaged${suffix}`))
  }
  keepOwner(ask.from, stat)
  syncDirectory(ask.from)
  syncDirectory(ask.path)
  renameSync(ask.from, ask.path)
  syncDirectory(ask.path)
  return { replaced: 'damaged' }
}

function removeBesides(path: string): void {
  for (const suffix of besides) rmSync(path + suffix, { force: true })
}

function keepOwner(path: string, old: Stats): void {
  const made = statSync(path)
  if (made.uid !== old.uid || made.gid !== old.gid) {
    try {
      chownSync(path, old.uid, old.gid)
    } catch (cause) {
      throw new ChildFailure(
        'target_privilege_missing',
        `the owner of the old database cannot be kept: ${String(cause)}`,
        {
          hint: 'Restore as root, or as the user who owns the database.',
        },
      )
    }
  }
  chmodSync(path, old.mode & 0o7777)
}

function syncDirectory(path: string): void {
  const directory = openSync(dirname(path), 'r')
  try {
    fsyncSync(directory)
  } finally {
    closeSync(directory)
  }
}

export function notEmpty(path: string): ChildFailure {
  return new ChildFailure('target_not_empty', `there is a database with content at ${path}`, {
    hint: 'Restore to another path, or say that it is to be replaced (--replace).',
  })
}

function inUse(path: string, users: readonly string[]): ChildFailure {
  const by = users.length === 0 ? 'another connection' : users.join(', ')
  return new ChildFailure('target_in_use', `the database is open in ${by}: ${path}`, {
    hint: 'Stop what uses it: it would go on with the old file, which has lost its name.',
    retry: 'later',
  })
}
