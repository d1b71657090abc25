/**
 * The database that a restore goes into: what is in it, what this role may do there, and how the restore is to be done.
 * It only reads.
 */
import { Failure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import type { Parts } from '../source.ts'
import { partNames } from './capture.ts'
import { collectText } from './collect.ts'
import type { Connection } from './connection.ts'
import { type Manifest, manifest } from './manifest.ts'
import type { Address } from './options.ts'
import { describeAddress } from './options.ts'
import { type Settings, settings } from './settings.ts'

const textBytesMax = 256 << 20

export interface Snapshot {
  readonly manifest: Manifest
  readonly settings: Settings
}

/** @throws Failure `part_missing` | `part_damaged` */
export async function readSnapshot(parts: Parts, signal: AbortSignal): Promise<Snapshot> {
  const read = async <T>(name: string, schema: z.ZodType<T>): Promise<T> => {
    const text = await collectText(parts.file(name, signal), textBytesMax)
    let data: unknown
    try {
      data = JSON.parse(text)
    } catch (cause) {
      throw damaged(name, 'it is not JSON', cause)
    }
    const parsed = schema.safeParse(data)
    if (!parsed.success) throw damaged(name, z.prettifyError(parsed.error), parsed.error)
    return parsed.data
  }
  return { manifest: await read(partNames.manifest, manifest), settings: await read(partNames.settings, settings) }
}

function damaged(name: string, why: string, cause: unknown): Failure {
  return new Failure({
    code: 'part_damaged',
    message: `${name} of this snapshot cannot be used: ${why}`,
    hint: 'Was it stored by a newer version of stillpoint? Else check the repository.',
    cause,
  })
}

export type RestorePlan = {
  /**
   * `fill`: the target is empty, and is filled in one transaction. `switch`: a new database is made beside the target
   * and takes its name at the end. `clean`: the target's objects are dropped and made again in one transaction.
   */
  readonly way: 'fill' | 'switch' | 'clean'
  readonly withOwners: boolean
  readonly withGrants: boolean
  readonly superuser: boolean
  readonly notes: readonly string[]
}

export interface TargetOptions {
  readonly address: Address
  readonly major: number
  readonly replace: boolean
}

/**
 * @throws Failure `target_not_empty` | `store_version_unsupported` | `store_privilege_missing` | `extension_missing`
 */
export async function planRestore(
  connection: Connection,
  snapshot: Snapshot,
  options: TargetOptions,
  signal: AbortSignal,
): Promise<RestorePlan> {
  const { manifest: stored } = snapshot
  const target = describeAddress(options.address)
  if (options.major < stored.serverMajor) {
    throw new Failure({
      code: 'store_version_unsupported',
      message: `${target} is PostgreSQL ${options.major}, older than the ${stored.serverMajor} that the snapshot was taken of`,
      hint: `Restore into PostgreSQL ${stored.serverMajor} or newer.`,
    })
  }
  await checkExtensions(connection, snapshot, signal)
  const rights = await rightsOf(connection, stored, signal)
  const content = await contentOf(connection, signal)
  const roles = roleNotes(rights, options.address.user)
  if (content.length === 0) {
    if (!rights.mayCreate) throw lacksCreate(target, options.address.user)
    return { ...roles, way: 'fill', superuser: rights.superuser }
  }
  if (!options.replace) {
    throw new Failure({
      code: 'target_not_empty',
      message: `${target} is not empty: it has ${content.join(', ')}`,
      hint: 'Restore into an empty database, or say that it is to be replaced (--replace).',
    })
  }
  if (rights.superuser || (rights.createDatabase && rights.owner)) {
    return { ...roles, way: 'switch', superuser: rights.superuser }
  }
  await checkCleanable(connection, stored, { target, user: options.address.user }, signal)
  const note = `the role ${options.address.user} may not create databases: ${target} was replaced object by object, in one transaction`
  return { ...roles, way: 'clean', superuser: false, notes: [...roles.notes, note] }
}

function lacksCreate(target: string, user: string): Failure {
  return new Failure({
    code: 'store_privilege_missing',
    message: `the role ${JSON.stringify(user)} may create nothing in ${target}`,
    hint: 'Make it the owner of the database, or GRANT CREATE ON DATABASE … TO it.',
  })
}

async function checkExtensions(connection: Connection, snapshot: Snapshot, signal: AbortSignal): Promise<void> {
  const names = snapshot.settings.extensions.map((extension) => extension.name)
  const missing = await connection.rows(
    z.object({ name: z.string() }),
    `SELECT name FROM pg_catalog.unnest($1::text[]) name
     WHERE name NOT IN (SELECT a.name FROM pg_catalog.pg_available_extensions a)`,
    signal,
    [names],
  )
  if (missing.length === 0) return
  const list = missing.map((each) => each.name).join(', ')
  throw new Failure({
    code: 'extension_missing',
    message: `the snapshot uses extensions that the target’s server does not have: ${list}`,
    hint: 'Install the packages of these extensions on the target’s server.',
  })
}

const rightsRow = z.object({
  superuser: z.boolean(),
  createDatabase: z.boolean(),
  owner: z.boolean(),
  mayCreate: z.boolean(),
  absent: z.array(z.string()),
  foreign: z.array(z.string()),
})
type Rights = z.output<typeof rightsRow>

async function rightsOf(connection: Connection, stored: Manifest, signal: AbortSignal): Promise<Rights> {
  const [found] = await connection.rows(
    rightsRow,
    `SELECT me.rolsuper AS superuser, me.rolcreatedb AS "createDatabase",
       pg_catalog.pg_has_role(d.datdba, 'MEMBER') AS owner,
       pg_catalog.has_database_privilege(d.oid, 'CREATE') AS "mayCreate",
       ARRAY(SELECT name FROM pg_catalog.unnest($1::text[] || $2::text[]) name
             WHERE name NOT IN (SELECT rolname FROM pg_catalog.pg_roles) GROUP BY name ORDER BY name) AS absent,
       ARRAY(SELECT r.rolname::text FROM pg_catalog.pg_roles r
             WHERE r.rolname = ANY ($1::text[]) AND NOT pg_catalog.pg_has_role(r.oid, 'MEMBER') ORDER BY 1) AS foreign
     FROM pg_catalog.pg_roles me, pg_catalog.pg_database d
     WHERE me.rolname = current_user AND d.datname = pg_catalog.current_database()`,
    signal,
    [stored.roles.owners, stored.roles.grantees],
  )
  return rightsRow.parse(found)
}

function roleNotes(rights: Rights, user: string): Pick<RestorePlan, 'withOwners' | 'withGrants' | 'notes'> {
  const notes: string[] = []
  const withOwners = rights.absent.length === 0 && (rights.superuser || rights.foreign.length === 0)
  if (rights.absent.length > 0) {
    notes.push(
      `roles that are not at the target: ${rights.absent.join(', ')} (globals.sql has them). Everything belongs to ${user}, and no grants were made`,
    )
  } else if (!withOwners) {
    notes.push(`${user} is no member of ${rights.foreign.join(', ')}: everything belongs to ${user}`)
  }
  return { withOwners, withGrants: rights.absent.length === 0, notes }
}

/** What the user has in a database, in words; empty when it is as it was created. */
async function contentOf(connection: Connection, signal: AbortSignal): Promise<readonly string[]> {
  const own = (catalog: string, alias: string, namespace: string) => `
    ${alias}.${namespace} IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.deptype = 'e' AND d.objid = ${alias}.oid
      AND d.classid = 'pg_catalog.${catalog}'::pg_catalog.regclass)`
  const found = await connection.rows(
    z.object({ what: z.string(), count: z.coerce.number() }),
    `SELECT what, count FROM (VALUES
       ('tables and views', (SELECT count(*) FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND ${own('pg_class', 'c', 'relnamespace')})),
       ('sequences', (SELECT count(*) FROM pg_catalog.pg_class c WHERE c.relkind = 'S' AND ${own('pg_class', 'c', 'relnamespace')})),
       ('functions', (SELECT count(*) FROM pg_catalog.pg_proc p WHERE ${own('pg_proc', 'p', 'pronamespace')})),
       ('types', (SELECT count(*) FROM pg_catalog.pg_type t WHERE t.typtype IN ('d', 'e', 'r') AND ${own('pg_type', 't', 'typnamespace')})),
       ('schemas', (SELECT count(*) FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public')
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.deptype = 'e' AND d.objid = n.oid AND d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass))),
       ('large objects', (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata))
     ) counted (what, count) WHERE count > 0`,
    signal,
  )
  return found.map(({ what, count }) => `${count} ${what}`)
}

/** What the dump does not know, its own clean-up would leave in place. */
async function checkCleanable(
  connection: Connection,
  stored: Manifest,
  names: { readonly target: string; readonly user: string },
  signal: AbortSignal,
): Promise<void> {
  const known = stored.tables.map(({ schema, name }) => JSON.stringify([schema, name]))
  const present = await connection.rows(
    z.object({ schema: z.string(), name: z.string() }),
    `SELECT n.nspname AS schema, c.relname AS name
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`,
    signal,
  )
  const stray = present.filter(({ schema, name }) => !known.includes(JSON.stringify([schema, name])))
  if (stray.length === 0) return
  const list = stray.slice(0, 5).map(({ schema, name }) => `${schema}.${name}`)
  throw new Failure({
    code: 'target_not_empty',
    message: `${names.target} has tables that the snapshot does not know, and they would stay: ${list.join(', ')}`,
    hint: `Run: ALTER ROLE ${JSON.stringify(names.user)} CREATEDB, so that the database can be replaced as a whole; or drop these tables.`,
  })
}
