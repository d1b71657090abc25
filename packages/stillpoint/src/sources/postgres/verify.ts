/** Compares a database, as it is now, with the manifest of a snapshot. It only reads, under one snapshot of its own. */
import { z } from 'zod'
import type { VerifyReport } from '../source.ts'
import type { Connection } from './connection.ts'
import { type Contents, countContents, type Manifest, type TableCount } from './manifest.ts'
import { listTables, qualified, readSequences, type SequenceState, type TableScope, userSchemas } from './tables.ts'

type Check = VerifyReport['checks'][number]
const shownMax = 5

export async function verifyDatabase(
  connection: Connection,
  stored: Manifest,
  scope: TableScope,
  signal: AbortSignal,
): Promise<VerifyReport> {
  await connection.run('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY', signal)
  const tables = await listTables(connection, scope, signal)
  const digested = new Set(stored.tables.filter((table) => table.digest !== undefined).map(qualified))
  const now = await countContents(
    connection,
    { tables, excludeSchemas: scope.excludeSchemas, digestFor: (table) => digested.has(qualified(table)) },
    signal,
  )
  const sequences = await readSequences(connection, scope, signal)
  const invalid = await invalidIndexes(connection, scope, signal)
  await connection.run('ROLLBACK', signal)
  return {
    checks: [
      rowCounts(stored.tables, now.tables),
      digests(stored.tables, now.tables),
      objects(stored, now),
      sequencesStand(stored.sequences, sequences),
      noneLeft(
        'constraints',
        'not validated',
        now.unvalidated.filter((name) => !stored.unvalidated.includes(name)),
      ),
      noneLeft('indexes', 'invalid', invalid),
      {
        name: 'large objects',
        passed: now.largeObjects === stored.largeObjects,
        detail: `${stored.largeObjects} expected, ${now.largeObjects} found`,
      },
    ],
  }
}

function rowCounts(expected: readonly TableCount[], found: readonly TableCount[]): Check {
  const here = new Map(found.map((table) => [qualified(table), table.rows]))
  const known = new Set(expected.map(qualified))
  const differing = expected.flatMap((table) => {
    const rows = here.get(qualified(table))
    if (rows === table.rows) return []
    return [`${qualified(table)}: ${table.rows} rows expected, ${rows ?? 'no table'} found`]
  })
  const extra = found
    .filter((table) => !known.has(qualified(table)))
    .map((table) => `${qualified(table)}: not expected`)
  const total = expected.reduce((sum, table) => sum + BigInt(table.rows), 0n)
  return summary('rows', [...differing, ...extra], `${total} rows in ${expected.length} tables`)
}

function digests(expected: readonly TableCount[], found: readonly TableCount[]): Check {
  const here = new Map(found.map((table) => [qualified(table), table.digest]))
  const known = expected.filter((table) => table.digest !== undefined)
  const differing = known.filter((table) => here.get(qualified(table)) !== table.digest)
  const words = differing.map((table) => `${qualified(table)}: other content`)
  return summary('contents', words, `${known.length} of ${expected.length} tables compared by digest`)
}

function objects(expected: Contents, found: Contents): Check {
  const kinds = new Set([...Object.keys(expected.objects), ...Object.keys(found.objects)])
  const differing = [...kinds].flatMap((kind) => {
    const [there, here] = [expected.objects[kind] ?? 0, found.objects[kind] ?? 0]
    return there === here ? [] : [`${kind}: ${there} expected, ${here} found`]
  })
  return summary('objects', differing, `${kinds.size} kinds of objects counted`)
}

function sequencesStand(expected: readonly SequenceState[], found: readonly SequenceState[]): Check {
  const here = new Map(found.map((sequence) => [qualified(sequence), sequence]))
  const differing = expected.flatMap((sequence) => {
    const now = here.get(qualified(sequence))
    if (now !== undefined && now.last === sequence.last && now.called === sequence.called) return []
    return [`${qualified(sequence)}: ${sequence.last} expected, ${now?.last ?? 'no sequence'} found`]
  })
  return summary('sequences', differing, `${expected.length} sequences compared`)
}

function noneLeft(name: string, what: string, names: readonly string[]): Check {
  return summary(
    name,
    names.map((each) => `${each}: ${what}`),
    `none ${what}`,
  )
}

function summary(name: string, problems: readonly string[], fine: string): Check {
  if (problems.length === 0) return { name, passed: true, detail: fine }
  const more = problems.length > shownMax ? ` and ${problems.length - shownMax} more` : ''
  return { name, passed: false, detail: `${problems.slice(0, shownMax).join('; ')}${more}` }
}

async function invalidIndexes(connection: Connection, scope: TableScope, signal: AbortSignal): Promise<string[]> {
  const found = await connection.rows(
    z.object({ name: z.string() }),
    `SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
     FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE NOT i.indisvalid AND ${userSchemas} ORDER BY 1`,
    signal,
    [scope.excludeSchemas],
  )
  return found.map((each) => each.name)
}
