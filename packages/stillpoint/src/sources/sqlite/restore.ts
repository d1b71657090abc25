/**
 * Restoring a SQLite database from its parts, and comparing it with them.
 *
 * Owns: the complete new file, synced and checked, beside the target. Does not own: the swap (child-restore.ts).
 * Invariant: the target is not touched before the new file is complete, equal to its recorded SHA-256, and found whole
 * by SQLite. What a crash leaves is a directory `.stillpoint-restore-…` beside the target, which may be deleted.
 */
import { createHash } from 'node:crypto'
import { mkdtemp, open, realpath, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import type { Parts, RestoreOptions, RestoreReport, VerifyReport } from '../source.ts'
import { databaseFacts, type TargetFile } from './messages.ts'
import { inChild, type SqliteChild } from './sqlite-child.ts'

export const databasePart = 'database.sqlite'
export const manifestPart = 'manifest.json'
const manifestBytesMax = 64 * 1024 * 1024

export const databaseManifest = z.object({
  format: z.literal(1),
  bytes: z.number().int().nonnegative(),
  sha256: z.string(),
  facts: databaseFacts,
})
export type DatabaseManifest = z.infer<typeof databaseManifest>

export async function readManifest(parts: Parts, signal: AbortSignal): Promise<DatabaseManifest> {
  for (const name of [databasePart, manifestPart]) {
    if (parts.names().includes(name)) continue
    throw new Failure({
      code: 'part_missing',
      message: `the snapshot of this SQLite database has no part ${name}`,
      hint: 'It was made by another kind of source, or is damaged: run `stillpoint verify` on the snapshot.',
    })
  }
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of parts.file(manifestPart, signal)) {
    bytes += chunk.length
    if (bytes > manifestBytesMax) throw damagedPart(manifestPart, `it has more than ${manifestBytesMax} bytes`)
    chunks.push(chunk)
  }
  try {
    return databaseManifest.parse(JSON.parse(Buffer.concat(chunks).toString('utf8')))
  } catch (cause) {
    throw damagedPart(manifestPart, 'it is not what this version writes', cause)
  }
}

function damagedPart(name: string, why: string, cause?: unknown): Failure {
  return new Failure({
    code: 'part_damaged',
    message: `the part ${name} cannot be used: ${why}`,
    hint: 'Run `stillpoint verify` on the snapshot; restore another one.',
    cause,
  })
}

/** The file that the path names, so that a symlink stays one; the path itself where there is nothing yet. */
export async function resolveTarget(path: string): Promise<string> {
  try {
    return await realpath(path)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw unwritable(path, error)
  }
  try {
    return join(await realpath(dirname(path)), basename(path))
  } catch (cause) {
    throw unwritable(path, cause)
  }
}

function unwritable(path: string, cause: unknown): Failure {
  return new Failure({
    code: 'target_unwritable',
    message: `nothing can be written at ${path}: ${cause instanceof Error ? cause.message : String(cause)}`,
    hint: 'Make its directory, and let the user who runs stillpoint write to it.',
    cause,
  })
}

/** @throws Failure `target_not_empty` | `target_in_use` | `part_missing` | `part_damaged` | `target_unwritable` */
export async function checkTarget(
  target: TargetFile,
  parts: Parts,
  options: RestoreOptions,
  signal: AbortSignal,
): Promise<void> {
  await readManifest(parts, signal)
  await inChild((child) => inspect(child, { target, options, signal }), signal)
}

interface Inspection {
  readonly target: TargetFile
  readonly options: RestoreOptions
  readonly signal: AbortSignal
}

async function inspect(child: SqliteChild, { target, options, signal }: Inspection): Promise<void> {
  const { state, usedBy } = await child.ask({ op: 'inspect', ...target }, signal)
  if ((state === 'content' || state === 'damaged') && !options.replace) {
    throw new Failure({
      code: 'target_not_empty',
      message: `there is ${state === 'damaged' ? 'a damaged database' : 'a database with content'} at ${target.path}`,
      hint: 'Restore to another path, or say that it is to be replaced (--replace).',
    })
  }
  if (usedBy.length > 0) {
    throw new Failure({
      code: 'target_in_use',
      message: `the database is open in ${usedBy.join(', ')}: ${target.path}`,
      hint: 'Stop what uses it: it would go on with the old file, which has lost its name.',
      retry: 'later',
    })
  }
}

export async function restoreDatabase(
  target: TargetFile,
  parts: Parts,
  options: RestoreOptions,
  signal: AbortSignal,
): Promise<RestoreReport> {
  const manifest = await readManifest(parts, signal)
  return inChild(async (child) => {
    await inspect(child, { target, options, signal })
    let directory: string
    try {
      directory = await mkdtemp(join(dirname(target.path), '.stillpoint-restore-'))
    } catch (cause) {
      throw unwritable(target.path, cause)
    }
    try {
      const file = join(directory, 'database')
      await writeDatabase(file, parts, manifest, signal)
      const { problems } = await child.ask({ op: 'check', path: file }, signal)
      if (problems.length > 0) throw damagedPart(databasePart, problems.join('; '))
      signal.throwIfAborted()
      // Not cancelled half-way: from here it is a matter of milliseconds, and either database is whole at each of them.
      const { replaced } = await child.ask({ op: 'swap', ...target, from: file, replace: options.replace })
      const notes = replaced === 'damaged' ? [`what was at ${target.path} was damaged, and has been replaced`] : []
      return { bytes: manifest.bytes, notes }
    } finally {
      await child.end()
      await rm(directory, { recursive: true, force: true })
    }
  }, signal)
}

async function writeDatabase(
  path: string,
  parts: Parts,
  manifest: DatabaseManifest,
  signal: AbortSignal,
): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  const hash = createHash('sha256')
  let bytes = 0
  try {
    for await (const chunk of parts.file(databasePart, signal)) {
      signal.throwIfAborted()
      hash.update(chunk)
      bytes += chunk.length
      // writeFile on a handle writes all of it, where write may write less.
      await file.writeFile(chunk)
    }
    await file.sync()
  } catch (error) {
    throw error instanceof Error && 'code' in error && error.code === 'ENOSPC'
      ? new Failure({
          code: 'disk_full',
          message: `no space left beside ${dirname(path)} for the restored database (${manifest.bytes} bytes)`,
          hint: 'Free space, or restore to another path.',
          retry: 'later',
          cause: error,
        })
      : error
  } finally {
    await file.close()
  }
  const sha256 = hash.digest('hex')
  if (bytes !== manifest.bytes || sha256 !== manifest.sha256) {
    throw damagedPart(
      databasePart,
      `${bytes} bytes with SHA-256 ${sha256}, recorded ${manifest.bytes} with ${manifest.sha256}`,
    )
  }
}

export async function verifyDatabase(target: TargetFile, parts: Parts, signal: AbortSignal): Promise<VerifyReport> {
  const { facts: expected } = await readManifest(parts, signal)
  const { facts: found, problems } = await inChild((child) => child.ask({ op: 'facts', ...target }, signal), signal)
  const checks = [
    { name: 'integrity', passed: problems.length === 0, detail: problems.length === 0 ? 'ok' : problems.join('; ') },
    compare('schema', expected.schemaSha256, found.schemaSha256),
    compare('journal mode', expected.journal, found.journal),
    compare('user version', expected.userVersion, found.userVersion),
    compare('application id', expected.applicationId, found.applicationId),
    compare('foreign key violations', expected.foreignKeyViolations, found.foreignKeyViolations),
  ]
  const rows = new Map(found.tables.map(({ name, rows }) => [name, rows]))
  for (const table of expected.tables) checks.push(compare(`rows of ${table.name}`, table.rows, rows.get(table.name)))
  return { checks }
}

function compare(name: string, expected: string | number, found: string | number | undefined) {
  const passed = expected === found
  return { name, passed, detail: passed ? String(found) : `expected ${expected}, found ${found ?? 'nothing'}` }
}
