/**
 * The source for PostgreSQL, logical: tables held by locks, an exported snapshot as the mark, pg_dump as the copy.
 *
 * Owns: the session of one database, and which cuts it has. Does not own: the steps (cut.ts, capture.ts, restore.ts).
 *
 * Invariant: no connection is open between the calls, except those of cuts that are not over.
 */
import type { CutId } from '@stillpoint/core/kernel'
import { Failure } from '@stillpoint/core/kernel'
import { readSecret } from '../../config/secret.ts'
import type { HoldReport, Source, SourceEnvironment, SourceSession } from '../source.ts'
import { captureDatabase } from './capture.ts'
import { type Connection, connect, type Login } from './connection.ts'
import { type DatabaseCut, databaseCut } from './cut.ts'
import { addressOf, type PostgresOptions } from './options.ts'
import { restoreDatabase } from './restore.ts'
import { checkServer, notesOn, readStatistics, type Server } from './server.ts'
import { checkPrivileges, listTables, type TableScope } from './tables.ts'
import { planRestore, readSnapshot } from './target.ts'
import { findTool } from './tools.ts'
import { verifyDatabase } from './verify.ts'

export { type PostgresOptions, postgresOptions } from './options.ts'

/** How many cuts' answers are kept after they are over. */
const reportsMax = 64

export const postgresSource: Source<PostgresOptions> = {
  kind: 'postgres',
  async open(options, env, signal) {
    const address = addressOf(options, env.baseDir)
    const password = await readSecret(options, env.baseDir, signal, env.note)
    const login: Login = { address, password }
    const connection = await connect(login, signal)
    try {
      const server = await checkServer(connection, address, signal)
      const scope: TableScope = { major: server.major, excludeSchemas: options.excludeSchemas }
      const needs = { major: server.major, toolsDir: options.toolsDir }
      await findTool('pg_dump', needs)
      await findTool('pg_restore', needs)
      checkPrivileges(await listTables(connection, scope, signal), address.user)
      return session({ options, env, login, server, scope })
    } finally {
      await connection.end()
    }
  },
}

interface SessionContext {
  readonly options: PostgresOptions
  readonly env: SourceEnvironment
  readonly login: Login
  readonly server: Server
  readonly scope: TableScope
}

function session(context: SessionContext): SourceSession {
  const { options, env, login, server, scope } = context
  const cuts = new Map<CutId, DatabaseCut>()
  const reports = new Map<CutId, HoldReport>()
  let closed = false

  const cutOf = (cut: CutId): DatabaseCut => {
    if (closed) throw new Failure({ code: 'session_closed', message: 'the source is closed', hint: 'Open it again.' })
    const known = cuts.get(cut)
    if (known !== undefined) return known
    const { lockTimeoutMs, markBudgetMs } = options
    const made = databaseCut({ cut, login, clock: env.clock, server, scope, lockTimeoutMs, markBudgetMs })
    cuts.set(cut, made)
    return made
  }
  const resume = async (cut: CutId): Promise<HoldReport> => {
    const known = reports.get(cut)
    if (known !== undefined) return known
    const report = (await cuts.get(cut)?.resume()) ?? { unbroken: false, detail: 'the database was not held' }
    if (cuts.has(cut)) reports.set(cut, report)
    for (const old of reports.keys()) if (reports.size > reportsMax) reports.delete(old)
    return report
  }
  const release = async (cut: CutId): Promise<void> => {
    const known = cuts.get(cut)
    await known?.release()
    if (reports.has(cut)) cuts.delete(cut)
  }
  return {
    traits: { hold: 'writes', mark: 'exact' },
    async prepare(cut, signal) {
      signal.throwIfAborted()
      const connection = await cutOf(cut).connect(signal)
      checkPrivileges(await listTables(connection, scope, signal), login.address.user)
      const found = await readStatistics(connection, signal)
      return { estimateBytes: found.bytes, version: server.product, notes: notesOn(found, server) }
    },
    quiesce: async (cut, leaseMs, signal) => cutOf(cut).quiesce(leaseMs, signal),
    mark: async (cut, signal) => (await cutOf(cut).mark(signal)).mark,
    resume,
    async capture(cut, sink, signal) {
      signal.throwIfAborted()
      const mark = cutOf(cut).taken()
      const { scratchDir, clock } = env
      const { toolsDir } = options
      return captureDatabase({ login, scope, mark, server: server.product, toolsDir, scratchDir, clock }, sink, signal)
    },
    release,
    async checkTarget(parts, { replace }, signal) {
      const snapshot = await readSnapshot(parts, signal)
      await findTool('pg_restore', { major: snapshot.manifest.dumpMajor, toolsDir: options.toolsDir })
      await withConnection(login, signal, (connection) =>
        planRestore(connection, snapshot, { address: login.address, major: server.major, replace }, signal),
      )
    },
    async restore(parts, { replace }, signal) {
      signal.throwIfAborted()
      const snapshot = await readSnapshot(parts, signal)
      const target = { address: login.address, major: server.major, replace }
      const plan = await withConnection(login, signal, (connection) =>
        planRestore(connection, snapshot, target, signal),
      )
      const { scratchDir } = env
      const { toolsDir } = options
      return restoreDatabase({ login, major: server.major, toolsDir, scratchDir, snapshot, plan, parts }, signal)
    },
    async verify(parts, signal) {
      const { manifest } = await readSnapshot(parts, signal)
      const compared: TableScope = { major: server.major, excludeSchemas: manifest.excludeSchemas }
      return withConnection(login, signal, (connection) => verifyDatabase(connection, manifest, compared, signal))
    },
    async close() {
      closed = true
      for (const cut of [...cuts.keys()]) {
        await resume(cut)
        await release(cut)
      }
      cuts.clear()
    },
  }
}

async function withConnection<T>(
  login: Login,
  signal: AbortSignal,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  const connection = await connect(login, signal)
  try {
    return await work(connection)
  } finally {
    await connection.end()
  }
}
