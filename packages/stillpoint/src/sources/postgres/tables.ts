/**
 * What of a database is the user's: tables to hold, sequences to record, and the privileges that both need.
 *
 * Owns: the catalog queries and the quoting of names. Does not own: locks (hold.ts), contents (manifest.ts).
 * Not the user's: system schemas, temporary tables, excluded schemas; and what an extension owns, except the tables that
 * it has marked as configuration, which pg_dump copies (extension tables that this role may not lock are left unheld:
 * nobody but a superuser writes to them either).
 */
import { Failure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import type { Connection } from './connection.ts'

const tableRow = z.object({
  oid: z.string(),
  schema: z.string(),
  name: z.string(),
  kind: z.enum(['r', 'p']),
  /** Locked by itself: partitions are locked through their parent, for which the parent's privileges suffice. */
  lockable: z.boolean(),
  extension: z.boolean(),
  mayLock: z.boolean(),
  maySelect: z.boolean(),
  rowSecurity: z.boolean(),
  unlogged: z.boolean(),
})
export type Table = z.output<typeof tableRow>

/** The condition on `pg_namespace n` for the user's schemas; `$1` is the list of excluded ones. */
export const userSchemas = `n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND n.nspname <> ALL ($1::text[])`

const ownedByExtension = `EXISTS (SELECT FROM pg_catalog.pg_depend d
  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')`

/** @param major of the server: MAINTAIN came with 17. */
function tablesQuery(major: number): string {
  const lockPrivileges = `'UPDATE, DELETE, TRUNCATE${major >= 17 ? ', MAINTAIN' : ''}'`
  const root = 'pg_catalog.pg_partition_root(c.oid)'
  return `
    SELECT c.oid::text AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
      (NOT c.relispartition OR EXISTS (
        SELECT FROM pg_catalog.pg_class p JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
        WHERE p.oid = ${root} AND pn.nspname = ANY ($1::text[]))) AS lockable,
      ${ownedByExtension} AS extension,
      pg_catalog.has_table_privilege(c.oid, ${lockPrivileges}) AS "mayLock",
      pg_catalog.has_table_privilege(c.oid, 'SELECT') AS "maySelect",
      pg_catalog.row_security_active(c.oid) AS "rowSecurity",
      c.relpersistence = 'u' AS unlogged
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND ${userSchemas}
      AND (NOT ${ownedByExtension}
        OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig)))
    ORDER BY c.oid`
}

export interface TableScope {
  readonly major: number
  readonly excludeSchemas: readonly string[]
}

export async function listTables(
  connection: Connection,
  scope: TableScope,
  signal: AbortSignal,
): Promise<readonly Table[]> {
  return connection.rows(tableRow, tablesQuery(scope.major), signal, [scope.excludeSchemas])
}

/** Two listings name the same tables: none came, went, or got another name between them. */
export function sameTables(before: readonly Table[], after: readonly Table[]): boolean {
  const key = (tables: readonly Table[]) => tables.map((table) => `${table.oid} ${qualified(table)}`).join('\n')
  return key(before) === key(after)
}

/** Tables of `now` that `held` does not cover, by name. */
export function uncovered(held: readonly Table[], now: readonly Table[]): readonly string[] {
  const known = new Set(held.map((table) => table.oid))
  return now.filter((table) => !known.has(table.oid)).map(qualified)
}

/** The tables that one LOCK statement names, so that all of `tables` are locked. */
export function lockNames(tables: readonly Table[]): readonly string[] {
  return tables.filter((table) => table.lockable && (table.mayLock || !table.extension)).map(qualified)
}

/** As `lockNames`, for a lock that SELECT suffices for. */
export function readLockNames(tables: readonly Table[]): readonly string[] {
  return tables.filter((table) => table.lockable && (table.maySelect || !table.extension)).map(qualified)
}

/** @throws Failure `store_privilege_missing` that names tables and the GRANT to run */
export function checkPrivileges(tables: readonly Table[], user: string): void {
  const own = tables.filter((table) => !table.extension)
  const problem = (what: string, lacking: readonly Table[], hint: string) => {
    const named = lacking.slice(0, 5).map(qualified).join(', ')
    const more = lacking.length > 5 ? ` and ${lacking.length - 5} more` : ''
    const message = `the role ${JSON.stringify(user)} ${what} ${named}${more}`
    return new Failure({ code: 'store_privilege_missing', message, hint })
  }
  const grant = (privileges: string, lacking: readonly Table[]) => {
    const schemas = [...new Set(lacking.map((table) => quoteName(table.schema)))].join(', ')
    return `Run: GRANT ${privileges} ON ALL TABLES IN SCHEMA ${schemas} TO ${quoteName(user)}; and ALTER DEFAULT PRIVILEGES for tables to come (docs/sources/postgres.md).`
  }
  const unreadable = own.filter((table) => !table.maySelect)
  if (unreadable.length > 0) throw problem('may not read', unreadable, grant('SELECT', unreadable))
  const unlockable = own.filter((table) => table.lockable && !table.mayLock)
  if (unlockable.length > 0) {
    const hint = `To hold writers it needs UPDATE, DELETE, TRUNCATE or (from version 17) MAINTAIN. ${grant('UPDATE', unlockable)}`
    throw problem('may not lock', unlockable, hint)
  }
  const filtered = own.filter((table) => table.rowSecurity)
  if (filtered.length > 0) {
    const hint = `Run as a superuser: ALTER ROLE ${quoteName(user)} BYPASSRLS;`
    throw problem('sees only some rows, by row-level security, of', filtered, hint)
  }
}

export const sequenceState = z.object({
  schema: z.string(),
  name: z.string(),
  /** int8: as text. */
  last: z.string().regex(/^-?\d+$/),
  called: z.boolean(),
})
export type SequenceState = z.output<typeof sequenceState>

const sequenceRow = z.object({ schema: z.string(), name: z.string(), maySelect: z.boolean() })

/**
 * Where each sequence stands now. Sequences are not transactional: no snapshot has their state, so they are read at the
 * mark, after the snapshot was taken: then they are at or behind no value that a row of the snapshot holds.
 * @throws Failure `store_privilege_missing`
 */
export async function readSequences(
  connection: Connection,
  scope: TableScope,
  signal: AbortSignal,
): Promise<readonly SequenceState[]> {
  const found = await connection.rows(
    sequenceRow,
    `SELECT n.nspname AS schema, c.relname AS name, pg_catalog.has_sequence_privilege(c.oid, 'SELECT') AS "maySelect"
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND ${userSchemas} AND NOT ${ownedByExtension}
     ORDER BY n.nspname, c.relname`,
    signal,
    [scope.excludeSchemas],
  )
  const closed = found.filter((sequence) => !sequence.maySelect)
  if (closed.length > 0) {
    throw new Failure({
      code: 'store_privilege_missing',
      message: `the sequence ${qualified(closed[0] ?? { schema: '', name: '' })} cannot be read (and ${closed.length - 1} more)`,
      hint: 'Run: GRANT SELECT ON ALL SEQUENCES IN SCHEMA … TO this role (docs/sources/postgres.md).',
    })
  }
  const states: SequenceState[] = []
  // In slices: one UNION over thousands of sequences would take the planner longer than reading them.
  for (let at = 0; at < found.length; at += 200) {
    const selects = found.slice(at, at + 200).map(({ schema, name }) => {
      const from = qualified({ schema, name })
      return `SELECT ${quoteText(schema)} AS schema, ${quoteText(name)} AS name, last_value::text AS last, is_called AS called FROM ${from}`
    })
    states.push(...(await connection.rows(sequenceState, selects.join(' UNION ALL '), signal)))
  }
  return states
}

export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** A string constant, whatever standard_conforming_strings says. */
export function quoteText(text: string): string {
  return text.includes('\\')
    ? ` E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
    : `'${text.replaceAll("'", "''")}'`
}

export function qualified(thing: { readonly schema: string; readonly name: string }): string {
  return `${quoteName(thing.schema)}.${quoteName(thing.name)}`
}
