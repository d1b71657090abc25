/** A running PostgreSQL server as the conformance suite needs it, and for the tests of what is special here. */
import { createHash, randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock, CutId } from '@stillpoint/core/kernel'
import { findTool, type PostgresServer, startPostgres, temporaryDirectory } from '@stillpoint/testbed'
import { Client } from 'pg'
import type { SourceEnvironment, SourceSession } from '../source.ts'
import type { AcknowledgedWrite, EmptyTarget, Load, Workbench } from '../workbench.ts'
import { postgresOptions, postgresSource } from './postgres.ts'

export const never: AbortSignal = new AbortController().signal

export const realClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, wake) {
    const timer = setTimeout(wake, delayMs)
    return () => clearTimeout(timer)
  },
}

let cuts = 0
export function newCut(): CutId {
  cuts += 1
  return `postgres-test-${cuts}` as CutId
}

export interface Bench {
  readonly server: PostgresServer
  readonly scratchDir: string
  readonly notes: string[]
  /** A session of the source; as the superuser where no user is named. */
  open(database: string, more?: Record<string, unknown>, password?: string): Promise<SourceSession>
  stop(): Promise<void>
}

export async function startBench(options: Parameters<typeof startPostgres>[0] = {}): Promise<Bench> {
  const directory = await temporaryDirectory('postgres-bench')
  const server = await startPostgres({ unsafe: true, ...options })
  const notes: string[] = []
  const env: SourceEnvironment = {
    clock: realClock,
    baseDir: directory.path,
    scratchDir: directory.path,
    note: (text) => notes.push(text),
  }
  return {
    server,
    scratchDir: directory.path,
    notes,
    async open(database, more = {}, password = server.password) {
      const name = `password-${randomBytes(4).toString('hex')}`
      await writeFile(join(directory.path, name), `${password}\n`, { mode: 0o600 })
      const given = {
        host: server.host,
        port: server.port,
        database,
        user: server.superuser,
        passwordFile: name,
        ...more,
      }
      return postgresSource.open(postgresOptions.parse(given), env, never)
    },
    async stop() {
      await server.stop()
      await directory.remove()
    },
  }
}

/** A client that tries again: while the server is held, killed or started, its work waits. */
async function insisting<T>(
  server: PostgresServer,
  database: string,
  work: (client: Client) => Promise<T>,
): Promise<T> {
  const giveUpMs = performance.now() + 20_000
  for (;;) {
    const client = new Client({ connectionString: server.url(database) })
    client.on('error', () => undefined) // the server was killed: the query's own promise says so
    try {
      await client.connect()
      return await work(client)
    } catch (error) {
      if (performance.now() > giveUpMs) throw error
      await new Promise((resolve) => setTimeout(resolve, 20))
    } finally {
      await client.end().catch(() => undefined) // it may never have been connected
    }
  }
}

export const shopTables = `
  CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL DEFAULT 0);
  CREATE TABLE entry (id bigserial PRIMARY KEY, account int REFERENCES account, amount int NOT NULL, note text);
  INSERT INTO account SELECT n, 0 FROM generate_series(1, 100) n;`

const write =
  'WITH e AS (INSERT INTO entry (account, amount, note) VALUES ($1, $2, $3) RETURNING account, amount) UPDATE account a SET balance = balance + e.amount FROM e WHERE a.id = e.account'

async function writeRow(client: Client): Promise<void> {
  const random = randomBytes(4)
  await client.query(write, [1 + ((random[0] ?? 0) % 100), random[1], random.toString('hex')])
}

export async function startWriters(server: PostgresServer, database: string, writers: number): Promise<Load> {
  let running = true
  const acknowledged: AcknowledgedWrite[] = []
  const loops = Array.from({ length: writers }, async () => {
    while (running) {
      await insisting(server, database, async (client) => {
        while (running) {
          const startedMs = performance.now()
          await writeRow(client)
          acknowledged.push({ startedMs, acknowledgedMs: performance.now() })
          await new Promise((resolve) => setTimeout(resolve, 2))
        }
      })
    }
  })
  return {
    acknowledged: () => acknowledged,
    async stop() {
      running = false
      await Promise.all(loops)
      return { acknowledged: acknowledged.length }
    },
  }
}

/** Of all rows of the two tables, and where their sequence stands. */
export async function digestOf(server: PostgresServer, database: string): Promise<string> {
  return insisting(server, database, async (client) => {
    const { rows } = await client.query({
      text: `SELECT to_regclass('public.entry') IS NOT NULL AS there`,
      rowMode: 'array',
    })
    if (rows[0]?.[0] !== true) return 'no tables'
    const found = await client.query(`
      SELECT (SELECT string_agg(e::text, '|' ORDER BY id) FROM entry e) AS entries,
        (SELECT string_agg(a::text, '|' ORDER BY id) FROM account a) AS accounts`)
    return createHash('sha256').update(JSON.stringify(found.rows)).digest('hex')
  })
}

export async function startWorkbench(): Promise<Workbench> {
  const bench = await startBench({ databases: ['shop'] })
  const { server } = bench
  await server.sql('shop', shopTables)
  let targets = 0
  return {
    open: () => bench.open('shop'),
    write: (rows) =>
      insisting(server, 'shop', async (client) => {
        for (let row = 0; row < rows; row++) await writeRow(client)
      }),
    startLoad: () => startWriters(server, 'shop', 3),
    digest: () => digestOf(server, 'shop'),
    wipe: () =>
      insisting(server, 'shop', async (client) => {
        // Not TRUNCATE: that waits for every mark that is still kept.
        await client.query('DELETE FROM entry; UPDATE account SET balance = 0')
      }),
    async openEmptyTarget(): Promise<EmptyTarget> {
      const name = `target_${++targets}`
      await server.sql('postgres', `CREATE DATABASE ${name} TEMPLATE template0`)
      const session = await bench.open(name)
      return {
        session,
        digest: () => digestOf(server, name),
        async close() {
          await session.close()
          await server.sql('postgres', `DROP DATABASE ${name} WITH (FORCE)`)
        },
      }
    },
    kill: () => server.kill(),
    revive: () => server.restart(),
    stop: bench.stop,
    outsideWrite: {
      program: findTool('psql') ?? 'psql',
      parameters: [server.url('shop'), '-X', '-q', '-c', 'UPDATE account SET balance = balance + 1 WHERE id = 1'],
    },
  }
}
