/**
 * Brings a captured database back.
 *
 * Owns: the three ways of target.ts, and the moment at which the new state takes the old one's place. Does not own:
 * deciding between them (target.ts).
 *
 * Invariants:
 * - R1 Until the restore has succeeded, the target is what it was: the dump goes in by one transaction, or into a
 *   database beside it, which takes its name by one transaction.
 * - R2 Sequences stand where they stood at the mark, not where pg_dump met them later.
 * - R3 Input that breaks off kills pg_restore before its standard input ends: it never takes a part for the whole.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { Failure, isFailure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import type { Parts, RestoreReport } from '../source.ts'
import { partNames } from './capture.ts'
import { type Connection, connect, type Login } from './connection.ts'
import { sqlState } from './errors.ts'
import { describeAddress } from './options.ts'
import { readSettings, type Settings } from './settings.ts'
import { qualified, quoteName, quoteText, type SequenceState } from './tables.ts'
import type { RestorePlan, Snapshot } from './target.ts'
import { findTool, type RunningTool, startTool } from './tools.ts'

export interface RestoreContext {
  readonly login: Login
  readonly major: number
  readonly toolsDir: string | undefined
  readonly scratchDir: string
  readonly snapshot: Snapshot
  readonly plan: RestorePlan
  readonly parts: Parts
}

/** How often the switch is tried: each try ends the sessions that came since the last one, and waits up to 5 s. */
const switchTries = 6
const cleanUpTimeoutMs = 30_000

export async function restoreDatabase(context: RestoreContext, signal: AbortSignal): Promise<RestoreReport> {
  if (context.plan.way === 'switch') return replaceBySwitch(context, signal)
  const bytes = await fill(context, context.login, signal)
  const notes = await finish(context, context.login, signal)
  return { bytes, notes: [...context.plan.notes, ...notes] }
}

async function fill(context: RestoreContext, login: Login, signal: AbortSignal): Promise<number> {
  const { plan, snapshot, scratchDir } = context
  const major = Math.max(snapshot.manifest.dumpMajor, context.major)
  const tool = await findTool('pg_restore', { major, toolsDir: context.toolsDir })
  const args = ['--exit-on-error', '--no-password', `--dbname=${connectionString(login)}`]
  // In a database of our own nobody sees a half, and one transaction would only need a lock for each object.
  if (plan.way !== 'switch') args.push('--single-transaction')
  if (plan.way === 'clean') args.push('--clean', '--if-exists')
  if (!plan.withOwners) args.push('--no-owner')
  if (!plan.withGrants) args.push('--no-privileges')
  // So that the words of an error can be told, whatever the server's language.
  const settings = plan.superuser ? ['lc_messages=C'] : []
  const stop = new AbortController()
  const all = AbortSignal.any([signal, stop.signal])
  const running = await startTool({ tool, args, login, scratchDir, code: 'restore_failed', settings }, all)
  running.stdout.resume()
  try {
    const bytes = await feed(running, context.parts.file(partNames.dump, all))
    await running.ended
    return bytes
  } catch (error) {
    stop.abort(error) // R3
    await running.ended.catch(() => undefined) // `error` is either this one, or what made us stop it
    if (signal.aborted) throw signal.reason
    throw error
  }
}

/** pg_restore wants a database in its arguments to restore at all; the name alone could be taken for settings. */
function connectionString({ address }: Login): string {
  return `dbname='${address.database.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}

async function feed(tool: RunningTool, content: AsyncIterable<Uint8Array>): Promise<number> {
  let bytes = 0
  let hasEnded = false
  const ended = tool.ended.finally(() => {
    hasEnded = true
  })
  ended.catch(() => undefined) // awaited by the caller, as `tool.ended`
  for await (const chunk of content) {
    if (hasEnded) break // it has what it wanted, or has failed: the caller learns which
    bytes += chunk.length
    if (tool.stdin.write(chunk)) continue
    const waiting = new AbortController()
    try {
      await Promise.race([once(tool.stdin, 'drain', { signal: waiting.signal }), ended])
    } finally {
      waiting.abort()
    }
  }
  tool.stdin.end()
  return bytes
}

/** What the dump does not bring: sequences as at the mark, settings of the database, statistics for the planner. */
async function finish(context: RestoreContext, login: Login, signal: AbortSignal): Promise<readonly string[]> {
  const connection = await connect(login, signal)
  try {
    await connection.run('SET statement_timeout = 0; SET lock_timeout = 0', signal)
    await setSequences(connection, context.snapshot.manifest.sequences, signal)
    const notes = await applySettings(connection, context.snapshot.settings, login.address.database, signal)
    await connection.run('ANALYZE', signal)
    return notes
  } finally {
    await connection.end()
  }
}

/** R2 */
async function setSequences(
  connection: Connection,
  sequences: readonly SequenceState[],
  signal: AbortSignal,
): Promise<void> {
  for (let at = 0; at < sequences.length; at += 200) {
    const calls = sequences.slice(at, at + 200).map((sequence) => {
      const name = quoteText(qualified(sequence))
      return `SELECT pg_catalog.setval(${name}::pg_catalog.regclass, ${sequence.last}, ${sequence.called})`
    })
    await connection.run(calls.join('; '), signal)
  }
}

async function applySettings(
  connection: Connection,
  settings: Settings,
  database: string,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const notes: string[] = []
  for (const { role, settings: pairs } of settings.databaseSettings) {
    const whose =
      role === null ? `DATABASE ${quoteName(database)}` : `ROLE ${quoteName(role)} IN DATABASE ${quoteName(database)}`
    for (const pair of pairs) {
      const [name = '', value = ''] = splitPair(pair)
      const quoted = name.split('.').map(quoteName).join('.')
      try {
        // FROM CURRENT takes the value as it is: lists such as search_path must not be quoted as one word.
        await connection.run(
          `BEGIN; SELECT pg_catalog.set_config(${quoteText(name)}, ${quoteText(value)}, true);
           ALTER ${whose} SET ${quoted} FROM CURRENT; COMMIT`,
          signal,
        )
      } catch (error) {
        if (!isFailure(error) || sqlState(error.cause) === undefined || connection.lost !== undefined) throw error
        await connection.run('ROLLBACK', signal)
        notes.push(`the setting ${name} of ${whose} was not restored: ${error.message}`)
      }
    }
  }
  return notes
}

function splitPair(pair: string): [string, string] {
  const at = pair.indexOf('=')
  return [pair.slice(0, at), pair.slice(at + 1)]
}

/** Makes the new database beside the target, then swaps the names by one transaction, and drops the old one. */
async function replaceBySwitch(context: RestoreContext, signal: AbortSignal): Promise<RestoreReport> {
  const target = context.login.address.database
  const digest = createHash('sha256').update(target).digest('hex').slice(0, 12)
  const names: Names = { target, fresh: `stillpoint_restore_${digest}`, old: `stillpoint_replaced_${digest}` }
  const properties = await propertiesOf(context, signal)
  const side = await connectBeside(context.login, signal)
  try {
    await claim(side, names, context.login, signal)
    for (const leftover of [names.fresh, names.old]) await dropDatabase(side, leftover, signal)
    await createDatabase(side, { ...context, fresh: names.fresh, properties }, signal)
    const login = { ...context.login, address: { ...context.login.address, database: names.fresh } }
    const bytes = await fill(context, login, signal)
    const notes = [...context.plan.notes, ...(await finish(context, login, signal))]
    notes.push(...(await copyGrants(side, names.fresh, properties, signal)))
    await swap(side, names, signal)
    notes.push(...(await dropOld(side, names)))
    return { bytes, notes }
  } catch (error) {
    await dropFresh(context.login, names)
    throw error
  } finally {
    await side.end() // and with it the claim
  }
}

interface Names {
  readonly target: string
  readonly fresh: string
  readonly old: string
}

async function propertiesOf(context: RestoreContext, signal: AbortSignal): Promise<Settings['database']> {
  const connection = await connect(context.login, signal)
  try {
    return (await readSettings(connection, context.major, signal)).database
  } finally {
    await connection.end()
  }
}

/** A session in another database of the same server: a database that somebody is in cannot be renamed. */
async function connectBeside(login: Login, signal: AbortSignal): Promise<Connection> {
  let last: unknown
  for (const database of ['postgres', 'template1'].filter((name) => name !== login.address.database)) {
    try {
      const connection = await connect({ ...login, address: { ...login.address, database } }, signal)
      await connection.run(
        'SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0',
        signal,
      )
      return connection
    } catch (error) {
      signal.throwIfAborted()
      last = error
    }
  }
  throw last
}

/** Two restores into one target would drop each other's work. The claim ends with the session. */
async function claim(side: Connection, names: Names, login: Login, signal: AbortSignal): Promise<void> {
  const [answer] = await side.rows(
    z.object({ claimed: z.boolean() }),
    'SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended($1, 0)) AS claimed',
    signal,
    [names.fresh],
  )
  if (answer?.claimed) return
  throw new Failure({
    code: 'target_busy',
    message: `another restore into ${describeAddress(login.address)} is under way`,
    hint: 'Wait for it to end.',
    retry: 'later',
  })
}

async function createDatabase(
  side: Connection,
  options: { snapshot: Snapshot; major: number; fresh: string; properties: Settings['database'] },
  signal: AbortSignal,
): Promise<void> {
  const { encoding, collate, ctype, provider, locale } = options.snapshot.settings.database
  const words = [
    `CREATE DATABASE ${quoteName(options.fresh)} TEMPLATE template0 OWNER ${quoteName(options.properties.owner)}`,
    `ENCODING ${quoteText(encoding)} LC_COLLATE ${quoteText(collate)} LC_CTYPE ${quoteText(ctype)}`,
  ]
  if (options.major >= 15 && provider === 'i') words.push(`LOCALE_PROVIDER icu ICU_LOCALE ${quoteText(locale ?? '')}`)
  if (options.major >= 15 && provider === 'c') words.push('LOCALE_PROVIDER libc')
  if (options.major >= 17 && provider === 'b')
    words.push(`LOCALE_PROVIDER builtin BUILTIN_LOCALE ${quoteText(locale ?? '')}`)
  words.push(`CONNECTION LIMIT ${options.properties.connectionLimit}`)
  await side.run(words.join(' '), signal)
}

/** Who may connect and create: as it is at the target, which may be another one than where the snapshot was taken. */
async function copyGrants(
  side: Connection,
  database: string,
  properties: Settings['database'],
  signal: AbortSignal,
): Promise<readonly string[]> {
  if (properties.grants === null) return []
  const name = quoteName(database)
  const grants = properties.grants.map(({ grantee, privilege, grantable }) => {
    if (!/^[A-Z ]+$/.test(privilege)) return ''
    const option = grantable ? ' WITH GRANT OPTION' : ''
    return `GRANT ${privilege} ON DATABASE ${name} TO ${grantee === null ? 'PUBLIC' : quoteName(grantee)}${option};`
  })
  try {
    await side.run(`BEGIN; REVOKE ALL ON DATABASE ${name} FROM PUBLIC; ${grants.join(' ')} COMMIT`, signal)
    return []
  } catch (error) {
    if (!isFailure(error) || side.lost !== undefined) throw error
    await side.run('ROLLBACK', signal)
    return [`the grants on the database itself were not made again: ${error.message}`]
  }
}

/** R1. Sessions in the target are ended: a database is renamed only while nobody is in it. */
async function swap(side: Connection, names: Names, signal: AbortSignal): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    await side.run(
      `SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a
       WHERE a.datname IN (${quoteText(names.target)}, ${quoteText(names.fresh)}) AND a.usesysid IS NOT NULL
         AND (pg_catalog.pg_has_role(a.usesysid, 'MEMBER') OR pg_catalog.pg_has_role('pg_signal_backend', 'MEMBER'))`,
      signal,
    )
    try {
      await side.run(
        `BEGIN; ALTER DATABASE ${quoteName(names.target)} RENAME TO ${quoteName(names.old)};
         ALTER DATABASE ${quoteName(names.fresh)} RENAME TO ${quoteName(names.target)}; COMMIT`,
        signal,
      )
      return
    } catch (error) {
      if (!isFailure(error) || sqlState(error.cause) !== '55006') throw error
      await side.run('ROLLBACK', signal)
      if (attempt < switchTries) continue
      throw new Failure({
        code: 'target_busy',
        message: `the database ${JSON.stringify(names.target)} cannot be replaced: ${error.message}`,
        hint: 'End the sessions of other roles in it, or make this role a member of pg_signal_backend.',
        retry: 'later',
        cause: error,
      })
    }
  }
}

/** The restore has succeeded: that the old database could not be dropped is worth a note, not a failure. */
async function dropOld(side: Connection, names: Names): Promise<readonly string[]> {
  try {
    await dropDatabase(side, names.old, AbortSignal.timeout(cleanUpTimeoutMs))
    return []
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    return [`the replaced database is still there as ${names.old}: ${why}`]
  }
}

async function dropFresh(login: Login, names: Names): Promise<void> {
  const signal = AbortSignal.timeout(cleanUpTimeoutMs)
  try {
    // A session of its own: that of the restore may be what has failed.
    const side = await connectBeside(login, signal)
    try {
      await dropDatabase(side, names.fresh, signal)
    } finally {
      await side.end()
    }
  } catch {
    // The failure of the restore is the one to report. The next restore drops what is left, by its name.
  }
}

async function dropDatabase(side: Connection, name: string, signal: AbortSignal): Promise<void> {
  await side.run(`DROP DATABASE IF EXISTS ${quoteName(name)} WITH (FORCE)`, signal)
}
