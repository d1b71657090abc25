/**
 * What a database has beside its contents: encoding, collation, owner, settings and grants on the database itself, and
 * the server's settings for people to read. Stored as `settings.json`.
 *
 * No server setting that holds a secret or a command is stored. Settings of the database (ALTER DATABASE … SET) are part
 * of its state, and are stored whatever they hold, like its rows.
 */
import { z } from 'zod'
import type { Connection } from './connection.ts'

const databaseProperties = z.object({
  name: z.string(),
  owner: z.string(),
  encoding: z.string(),
  collate: z.string(),
  ctype: z.string(),
  /** `c` libc, `i` ICU, `b` builtin. */
  provider: z.string(),
  /** Of ICU or the built-in provider. */
  locale: z.string().nullable(),
  connectionLimit: z.int(),
  grants: z
    .array(z.object({ grantee: z.string().nullable(), privilege: z.string(), grantable: z.boolean() }))
    .nullable(),
})

const settingsRow = z.object({ role: z.string().nullable(), settings: z.array(z.string()) })

export const settings = z.object({
  version: z.literal(1),
  database: databaseProperties,
  databaseSettings: z.array(settingsRow),
  extensions: z.array(z.object({ name: z.string(), version: z.string(), schema: z.string() })),
  server: z.record(z.string(), z.string()),
})
export type Settings = z.output<typeof settings>

export async function readSettings(connection: Connection, major: number, signal: AbortSignal): Promise<Settings> {
  const locale = major >= 17 ? 'd.datlocale' : major >= 15 ? 'd.daticulocale' : 'NULL'
  const provider = major >= 15 ? 'd.datlocprovider::text' : `'c'`
  const [database] = await connection.rows(
    databaseProperties,
    `SELECT d.datname AS name, pg_catalog.pg_get_userbyid(d.datdba) AS owner,
       pg_catalog.pg_encoding_to_char(d.encoding) AS encoding, d.datcollate AS collate, d.datctype AS ctype,
       ${provider} AS provider, ${locale} AS locale, d.datconnlimit AS "connectionLimit",
       (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
          'grantee', CASE WHEN a.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(a.grantee) END,
          'privilege', a.privilege_type, 'grantable', a.is_grantable)) FROM pg_catalog.aclexplode(d.datacl) a) AS grants
     FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()`,
    signal,
  )
  const databaseSettings = await connection.rows(
    settingsRow,
    `SELECT r.rolname AS role, s.setconfig AS settings
     FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
     WHERE s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
     ORDER BY 1 NULLS FIRST`,
    signal,
  )
  const extensions = await connection.rows(
    z.object({ name: z.string(), version: z.string(), schema: z.string() }),
    `SELECT e.extname AS name, e.extversion AS version, n.nspname AS schema
     FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY 1`,
    signal,
  )
  const server = await connection.rows(
    z.object({ name: z.string(), value: z.string() }),
    `SELECT name, setting AS value FROM pg_catalog.pg_settings
     WHERE source IN ('configuration file', 'command line', 'environment variable') AND name !~ '(command|conninfo|password|key|secret|_file|directory|[.])'
     ORDER BY name`,
    signal,
  )
  return settings.parse({
    version: 1,
    database,
    databaseSettings,
    extensions,
    server: Object.fromEntries(server.map(({ name, value }) => [name, value])),
  })
}
