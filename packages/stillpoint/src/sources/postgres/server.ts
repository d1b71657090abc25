/** What is checked before anything is begun: version, role of the server, tools, privileges. */
import { defined, Failure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import type { Connection } from './connection.ts'
import { type Address, describeAddress } from './options.ts'

export const majorMin = 13

const serverRow = z.object({
  version: z.coerce.number(),
  versionText: z.string(),
  standby: z.boolean(),
  mayLockLargeObjects: z.boolean(),
})

export interface Server {
  readonly major: number
  /** `PostgreSQL 15.18` */
  readonly product: string
  readonly mayLockLargeObjects: boolean
}

/** @throws Failure `store_version_unsupported` | `store_read_only` */
export async function checkServer(connection: Connection, address: Address, signal: AbortSignal): Promise<Server> {
  const [row] = await connection.rows(
    serverRow,
    `SELECT current_setting('server_version_num') AS version, current_setting('server_version') AS "versionText",
       pg_catalog.pg_is_in_recovery() AS standby,
       pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'UPDATE')
         AND pg_catalog.has_table_privilege('pg_catalog.pg_largeobject_metadata', 'UPDATE') AS "mayLockLargeObjects"`,
    signal,
  )
  const found = defined(row, 'the answer of a SELECT without FROM')
  const major = Math.floor(found.version / 10_000)
  const product = `PostgreSQL ${found.versionText.split(' ')[0]}`
  if (major < majorMin) {
    throw new Failure({
      code: 'store_version_unsupported',
      message: `${describeAddress(address)} is ${product}; ${majorMin} or newer is needed`,
      hint: 'Upgrade the server, or use a source of kind command with its own pg_dump.',
    })
  }
  if (found.standby) {
    throw new Failure({
      code: 'store_read_only',
      message: `${describeAddress(address)} is a standby: writers can be held, and snapshots exported, only on its primary`,
      hint: 'Name the primary in host or url.',
    })
  }
  return { major, product, mayLockLargeObjects: found.mayLockLargeObjects }
}

const statisticsRow = z.object({
  bytes: z.coerce.number(),
  foreign: z.coerce.number(),
  materialized: z.coerce.number(),
  largeObjects: z.coerce.number(),
  subscriptions: z.coerce.number(),
  oldest: z.coerce.number().nullable(),
})

export async function readStatistics(connection: Connection, signal: AbortSignal) {
  const [row] = await connection.rows(
    statisticsRow,
    `SELECT pg_catalog.pg_database_size(pg_catalog.current_database())::text AS bytes,
       (SELECT count(*) FROM pg_catalog.pg_class WHERE relkind = 'f') AS foreign,
       (SELECT count(*) FROM pg_catalog.pg_class WHERE relkind = 'm') AS materialized,
       (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata) AS "largeObjects",
       (SELECT count(*) FROM pg_catalog.pg_stat_subscription) AS subscriptions,
       (SELECT extract(epoch FROM max(now() - xact_start)) FROM pg_catalog.pg_stat_activity
        WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid()) AS oldest`,
    signal,
  )
  return defined(row, 'the answer of a SELECT without FROM')
}

/** What a user should know before a cut. */
export function notesOn(found: z.output<typeof statisticsRow>, server: Server): readonly string[] {
  const notes: string[] = []
  if (found.foreign > 0) notes.push(`${found.foreign} foreign tables: their rows are elsewhere, and are not captured`)
  if (found.materialized > 0) notes.push(`${found.materialized} materialized views: a restore computes them anew`)
  if (found.subscriptions > 0) notes.push('subscriptions are restored switched off')
  if (found.largeObjects > 0 && !server.mayLockLargeObjects) {
    notes.push('large objects are captured, but only a superuser can hold their writers')
  }
  if (found.oldest !== null && found.oldest > 60) {
    notes.push(
      `a transaction has been open for ${Math.round(found.oldest)} s: where it has written, the hold waits for it`,
    )
  }
  return notes
}
