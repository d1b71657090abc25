/**
 * Copies a marked database into the sink: the dump, the cluster's roles, settings, and the manifest to verify against.
 *
 * Owns: the parts' names and contents. Does not own: the mark, which lives on when a capture fails, for the next try.
 *
 * Invariants:
 * - P1 `database.dump` and the manifest are read under the mark's snapshot, and under no other.
 * - P2 A part ends only when the program that wrote it has ended well: what was cut short fails, it is never stored as
 *   if it were whole.
 */
import { type Clock, Failure, isFailure } from '@stillpoint/core/kernel'
import type { CaptureReport, CaptureSink } from '../source.ts'
import { collectText } from './collect.ts'
import { type Connection, connect, type Login } from './connection.ts'
import { countContents, listRoles, type Manifest, manifestVersion } from './manifest.ts'
import type { DatabaseMark } from './mark.ts'
import { readSettings } from './settings.ts'
import { quoteText, type TableScope } from './tables.ts'
import { findTool, startTool, type ToolRun } from './tools.ts'

export const partNames = {
  dump: 'database.dump',
  globals: 'globals.sql',
  settings: 'settings.json',
  manifest: 'manifest.json',
} as const

const globalsBytesMax = 64 << 20
/** How long pg_dump waits for its own (weakest) locks before it gives up. */
const dumpLockTimeoutMs = 20_000

export interface CaptureOptions {
  readonly login: Login
  readonly scope: TableScope
  readonly mark: DatabaseMark
  readonly server: string
  readonly toolsDir: string | undefined
  readonly scratchDir: string
  readonly clock: Clock
}

/** @throws Failure `mark_budget_spent` | `mark_lost` | `capture_failed` | `capture_blocked` | `store_lost` … */
export async function captureDatabase(
  options: CaptureOptions,
  sink: CaptureSink,
  signal: AbortSignal,
): Promise<CaptureReport> {
  const { clock, mark } = options
  const budget = new AbortController()
  const leftMs = mark.endsAtMs - clock.monotonicMs()
  if (leftMs <= 0) throw budgetSpent()
  const cancel = clock.after(leftMs, () => budget.abort(budgetSpent()))
  // One fails, all end: nothing is left running on a mark that is given up.
  const both = new AbortController()
  const all = AbortSignal.any([signal, budget.signal, both.signal])
  const counting = count(options, all)
  counting.catch((error: unknown) => both.abort(error))
  try {
    const dump = await dumpDatabase(options, sink, all)
    const { manifest, settingsText } = await counting
    const settings = await sink.file(partNames.settings, textChunks(settingsText))
    const listed = await sink.file(
      partNames.manifest,
      textChunks(`${JSON.stringify({ ...manifest, dumpMajor: dump.major }, null, 1)}\n`),
    )
    const globals = await captureGlobals(options, sink, all)
    const bytes = dump.bytes + settings.bytes + listed.bytes + globals.bytes
    return { bytes, files: 3 + globals.files, torn: [], notes: globals.notes }
  } catch (error) {
    both.abort(error)
    // Let the other half end before we do: it holds a session.
    await counting.catch(() => undefined)
    if (signal.aborted) throw signal.reason
    if (budget.signal.aborted) throw budget.signal.reason
    throw error
  } finally {
    cancel()
  }
}

function budgetSpent(): Failure {
  return new Failure({
    code: 'mark_budget_spent',
    message:
      'the snapshot of the database was kept open for as long as markBudgetMs allows, and was not copied by then',
    hint: 'Raise markBudgetMs, or find out what makes the copy slow: it ends a snapshot that keeps VACUUM from working.',
  })
}

async function dumpDatabase(options: CaptureOptions, sink: CaptureSink, signal: AbortSignal) {
  const { login, scope, mark } = options
  const tool = await findTool('pg_dump', { major: scope.major, toolsDir: options.toolsDir })
  const args = [
    `--snapshot=${mark.snapshot}`,
    '--format=custom',
    '--compress=0',
    '--no-password',
    `--lock-wait-timeout=${dumpLockTimeoutMs}`,
    ...scope.excludeSchemas.map((name) => `--exclude-schema=${quotePattern(name)}`),
    // With schemas chosen, large objects are left out unless they are asked for.
    '--large-objects',
  ]
  const run: ToolRun = {
    tool,
    args: args.map(forVersion(tool.major)),
    login,
    scratchDir: options.scratchDir,
    code: 'capture_failed',
  }
  const { bytes } = await sink.file(partNames.dump, output(run, signal))
  return { bytes, major: tool.major }
}

/** `--large-objects` was called `--blobs` before 16. */
function forVersion(major: number): (argument: string) => string {
  return (argument) => (argument === '--large-objects' && major < 16 ? '--blobs' : argument)
}

/** In double quotes, pg_dump takes a name as it is, and no longer as a pattern. */
function quotePattern(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** What a tool prints. It ends only after the tool has ended well (P2). */
async function* output(run: ToolRun, signal: AbortSignal): AsyncIterable<Uint8Array> {
  const ended = new AbortController()
  const tool = await startTool(run, AbortSignal.any([signal, ended.signal]))
  tool.stdin.end()
  try {
    for await (const chunk of tool.stdout) yield chunk
    await tool.ended
  } catch (error) {
    // A stream that broke tells less than the tool's own words.
    await tool.ended
    throw error
  } finally {
    ended.abort(new Error('its output is no longer wanted'))
    await tool.ended.catch(() => undefined) // thrown above already, or cut short by whoever stopped reading
  }
}

async function* textChunks(text: string): AsyncIterable<Uint8Array> {
  yield Buffer.from(text, 'utf8')
}

/** The manifest and the settings, in a transaction of its own under the mark's snapshot (P1). */
async function count(options: CaptureOptions, signal: AbortSignal) {
  const { scope, mark } = options
  const connection = await connect(options.login, signal)
  try {
    await importSnapshot(connection, mark.snapshot, signal)
    const settings = await readSettings(connection, scope.major, signal)
    const roles = await listRoles(connection, scope.excludeSchemas, signal)
    const contents = await countContents(
      connection,
      { tables: mark.tables, excludeSchemas: scope.excludeSchemas },
      signal,
    )
    const manifest: Omit<Manifest, 'dumpMajor'> = {
      version: manifestVersion,
      source: 'postgres',
      server: options.server,
      serverMajor: scope.major,
      excludeSchemas: [...scope.excludeSchemas],
      ...contents,
      sequences: [...mark.sequences],
      roles,
    }
    return { manifest, settingsText: `${JSON.stringify(settings, null, 1)}\n` }
  } finally {
    await connection.end()
  }
}

/** @throws Failure `mark_lost` when the marking transaction has ended */
async function importSnapshot(connection: Connection, snapshot: string, signal: AbortSignal): Promise<void> {
  try {
    const name = quoteText(snapshot)
    await connection.run(`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT ${name}`, signal)
  } catch (error) {
    if (!isFailure(error, 'store_failed')) throw error
    throw new Failure({
      code: 'mark_lost',
      message: 'the database’s snapshot of this cut is gone',
      hint: 'Take the snapshot again.',
      retry: 'later',
      cause: error,
    })
  }
}

/** Roles of the cluster, without passwords. They have no snapshot: read after the mark, and only to help by hand. */
async function captureGlobals(options: CaptureOptions, sink: CaptureSink, signal: AbortSignal) {
  const { login, scope, scratchDir } = options
  try {
    const tool = await findTool('pg_dumpall', { major: scope.major, toolsDir: options.toolsDir })
    const args = ['--globals-only', '--no-role-passwords', '--no-password']
    const run: ToolRun = { tool, args, login, scratchDir, code: 'globals_failed' }
    const text = await collectText(output(run, signal), globalsBytesMax)
    const { bytes } = await sink.file(partNames.globals, textChunks(text))
    return { bytes, files: 1, notes: [] }
  } catch (error) {
    if (!isFailure(error) || signal.aborted) throw error
    if (!['globals_failed', 'store_privilege_missing', 'tool_missing'].includes(error.code)) throw error
    return { bytes: 0, files: 0, notes: [`the server’s roles were not recorded: ${error.message}`] }
  }
}
