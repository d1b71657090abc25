/**
 * What a captured database holds, counted under the snapshot of its dump: the reference for `verify`. Stored as
 * `manifest.json` (docs/format has its fields).
 *
 * Owns: the shape, and counting a database into it. Does not own: comparing (verify.ts).
 *
 * Content digests do not depend on the order of rows: each row's text, MD5, 60 bits of it, summed up. They show damage,
 * not malice: the repository's own hashes do that.
 */
import { z } from 'zod'
import type { Connection } from './connection.ts'
import { qualified, sequenceState, type Table, userSchemas } from './tables.ts'

export const manifestVersion = 1
/** Tables up to this size, in bytes, get a digest of their content as well. */
export const digestBytesMax = 16 << 20

const tableCount = z.object({
  schema: z.string(),
  name: z.string(),
  rows: z.string().regex(/^\d+$/),
  digest: z.string().optional(),
})
export type TableCount = z.output<typeof tableCount>

const contents = z.object({
  /** Every table that has rows of its own: partitioned ones are counted in their partitions. */
  tables: z.array(tableCount),
  /** How many there are of each kind of object: `index`, `view`, `function`, `trigger`, `constraint` … */
  objects: z.record(z.string(), z.int()),
  /** Constraints that have not been checked against all rows (NOT VALID). A restore may not add to them. */
  unvalidated: z.array(z.string()),
  largeObjects: z.int(),
})
export type Contents = z.output<typeof contents>

export const manifest = contents.extend({
  version: z.literal(manifestVersion),
  source: z.literal('postgres'),
  server: z.string(),
  serverMajor: z.int(),
  /** Major version of the pg_dump that wrote `database.dump`. */
  dumpMajor: z.int(),
  excludeSchemas: z.array(z.string()),
  sequences: z.array(sequenceState),
  /** Roles that own or may use something in the database. */
  roles: z.object({ owners: z.array(z.string()), grantees: z.array(z.string()) }),
})
export type Manifest = z.output<typeof manifest>

export interface CountOptions {
  readonly tables: readonly Pick<Table, 'schema' | 'name' | 'kind'>[]
  readonly excludeSchemas: readonly string[]
  /** Tables whose digest is wanted whatever their size: those that have one in what this is compared with. */
  readonly digestFor?: (table: { schema: string; name: string }) => boolean
}

/** Texts of values must not depend on the session's settings. */
const exactTexts = `SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL TimeZone = 'UTC'; SET LOCAL IntervalStyle = 'postgres';
  SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL lc_monetary = 'C';
  SET LOCAL xmloption = 'content'; SET LOCAL search_path = ''; SET LOCAL row_security = off;
  SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '20s'; SET LOCAL idle_in_transaction_session_timeout = 0`

/** Counts what the connection's open transaction sees. */
export async function countContents(
  connection: Connection,
  options: CountOptions,
  signal: AbortSignal,
): Promise<Contents> {
  await connection.run(exactTexts, signal)
  const tables: TableCount[] = []
  for (const table of options.tables) {
    if (table.kind === 'p') continue
    tables.push(await countTable(connection, table, options, signal))
  }
  const objects = z.object({ kind: z.string(), count: z.int() })
  const names = z.object({ name: z.string() })
  const scope = [options.excludeSchemas]
  const counted = await connection.rows(objects, objectsQuery, signal, scope)
  const unvalidated = await connection.rows(names, unvalidatedQuery, signal, scope)
  const [large] = await connection.rows(
    z.object({ count: z.coerce.number() }),
    'SELECT count(*) AS count FROM pg_catalog.pg_largeobject_metadata',
    signal,
  )
  return {
    tables,
    objects: Object.fromEntries(counted.map(({ kind, count }) => [kind, count])),
    unvalidated: unvalidated.map((each) => each.name),
    largeObjects: large?.count ?? 0,
  }
}

async function countTable(
  connection: Connection,
  table: { readonly schema: string; readonly name: string },
  options: CountOptions,
  signal: AbortSignal,
): Promise<TableCount> {
  const { schema, name } = table
  const from = qualified(table)
  const wanted = options.digestFor?.(table) ?? (await sizeOf(connection, from, signal)) <= digestBytesMax
  const row = z.object({ rows: z.string(), digest: z.string().nullable() })
  const digest = wanted
    ? `coalesce(sum(('x' || substr(md5(t::text), 1, 15))::bit(60)::bigint::numeric), 0)::text`
    : 'NULL'
  const text = `SELECT count(*)::text AS rows, ${digest} AS digest FROM ONLY ${from} AS t`
  const [found] = await connection.rows(row, text, signal)
  const rows = found?.rows ?? '0'
  return found?.digest ? { schema, name, rows, digest: found.digest } : { schema, name, rows }
}

async function sizeOf(connection: Connection, from: string, signal: AbortSignal): Promise<number> {
  const [found] = await connection.rows(
    z.object({ bytes: z.coerce.number() }),
    'SELECT pg_catalog.pg_table_size($1::pg_catalog.regclass)::text AS bytes',
    signal,
    [from],
  )
  return found?.bytes ?? 0
}

const notOfExtension = (catalog: string, alias: string) => `NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
  WHERE d.classid = 'pg_catalog.${catalog}'::pg_catalog.regclass AND d.objid = ${alias}.oid AND d.deptype = 'e')`

/** Only what pg_dump copies: invalid indexes, for one, it leaves out. */
const objectsQuery = `
  SELECT kind, count(*)::int AS count FROM (
    SELECT CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
      WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' END AS kind
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't' AND ${userSchemas} AND ${notOfExtension('pg_class', 'c')}
    UNION ALL
    SELECT 'index' FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE i.indisvalid AND c.relpersistence <> 't' AND ${userSchemas} AND ${notOfExtension('pg_class', 'c')}
    UNION ALL
    SELECT 'constraint' FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND c.relpersistence <> 't' AND ${userSchemas} AND ${notOfExtension('pg_class', 'c')}
    UNION ALL
    SELECT 'trigger' FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT t.tgisinternal AND c.relpersistence <> 't' AND ${userSchemas} AND ${notOfExtension('pg_class', 'c')}
    UNION ALL
    SELECT 'function' FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE ${userSchemas} AND ${notOfExtension('pg_proc', 'p')}
    UNION ALL
    SELECT 'type' FROM pg_catalog.pg_type y JOIN pg_catalog.pg_namespace n ON n.oid = y.typnamespace
    WHERE y.typtype IN ('d', 'e', 'r') AND ${userSchemas} AND ${notOfExtension('pg_type', 'y')}
    UNION ALL
    SELECT 'policy' FROM pg_catalog.pg_policy o JOIN pg_catalog.pg_class c ON c.oid = o.polrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE ${userSchemas} AND ${notOfExtension('pg_class', 'c')}
  ) counted GROUP BY kind ORDER BY kind`

const unvalidatedQuery = `
  SELECT pg_catalog.format('%I.%I.%I', n.nspname, c.relname, k.conname) AS name
  FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE NOT k.convalidated AND ${userSchemas} ORDER BY 1`

/** Who owns or may use something: a restore needs these roles, or leaves owners and grants out. */
export async function listRoles(
  connection: Connection,
  excludeSchemas: readonly string[],
  signal: AbortSignal,
): Promise<Manifest['roles']> {
  const found = await connection.rows(z.object({ name: z.string(), owner: z.boolean() }), rolesQuery, signal, [
    excludeSchemas,
  ])
  const named = (owner: boolean) => found.filter((role) => role.owner === owner).map((role) => role.name)
  return { owners: named(true), grantees: named(false) }
}

const rolesQuery = `
  WITH things (owner, acl) AS (
    SELECT c.relowner, c.relacl FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE ${userSchemas} AND ${notOfExtension('pg_class', 'c')}
    UNION ALL
    SELECT p.proowner, p.proacl FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
      WHERE ${userSchemas} AND ${notOfExtension('pg_proc', 'p')}
    UNION ALL
    SELECT y.typowner, y.typacl FROM pg_catalog.pg_type y JOIN pg_catalog.pg_namespace n ON n.oid = y.typnamespace
      WHERE ${userSchemas} AND ${notOfExtension('pg_type', 'y')}
    UNION ALL
    SELECT n.nspowner, n.nspacl FROM pg_catalog.pg_namespace n WHERE ${userSchemas}
    UNION ALL
    SELECT l.lomowner, l.lomacl FROM pg_catalog.pg_largeobject_metadata l
    UNION ALL
    SELECT f.defaclrole, f.defaclacl FROM pg_catalog.pg_default_acl f
  ), named (id, owner) AS (
    SELECT owner, true FROM things
    UNION SELECT (pg_catalog.aclexplode(acl)).grantee, false FROM things WHERE acl IS NOT NULL
  )
  SELECT r.rolname AS name, named.owner FROM named JOIN pg_catalog.pg_roles r ON r.oid = named.id
  WHERE r.rolname !~ '^pg_' ORDER BY 2, 1`
