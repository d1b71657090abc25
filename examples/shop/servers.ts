/**
 * Real servers for the shop: two PostgreSQL clusters and a Redis, with the files that the shop and Stillpoint need.
 *
 *   node examples/shop/servers.ts --dir ./shop
 *
 * starts them, writes `shop.json` and `stillpoint.yaml` with the actual ports into the directory, and runs until Ctrl-C.
 *
 * Owns: servers, roles, databases, scratch targets to restore into, and these files. Does not own: what is in the
 * databases (schema.ts). The servers' data is temporary; what is under `snapshots` stays.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import {
  type PostgresServer,
  type RedisServer,
  startPostgres,
  startRedis,
  temporaryDirectory,
} from '@stillpoint/testbed'
import { connectRedis, type DatabaseTarget, type ShopTargets } from './targets.ts'

const role = 'shop'

/** A set of targets with the files that describe it to the shop and to Stillpoint. */
export interface ShopPlace {
  readonly targets: ShopTargets
  /** For load.ts and invariants.ts. */
  readonly shopFile: string
  /** For the command `stillpoint`. */
  readonly stillpointFile: string
}

export interface ScratchShop extends ShopPlace {
  /** Drops what is in it, and makes it anew and empty. The targets stay the same. */
  empty(): Promise<void>
}

export interface ShopServers extends ShopPlace {
  readonly directory: string
  /**
   * Empty targets to restore into: fresh databases on the same clusters, a Redis of its own, a directory.
   * `redisDir` is a directory with a `dump.rdb` to begin with.
   */
  scratch(name: string, options?: { readonly redisDir?: string }): Promise<ScratchShop>
  stop(): Promise<void>
}

interface Databases {
  readonly orders: PostgresServer
  readonly payments: PostgresServer
}

async function createDatabase(server: PostgresServer, database: string): Promise<void> {
  await server.sql('postgres', `CREATE DATABASE "${database}" OWNER ${role}`)
}

async function dropDatabase(server: PostgresServer, database: string): Promise<void> {
  await server.sql('postgres', `DROP DATABASE IF EXISTS "${database}" WITH (FORCE)`)
}

/** The shop's own role: it owns its databases, and is no superuser. Its password is in a file of mode 0600. */
async function createRole(server: PostgresServer, passwordFile: string): Promise<void> {
  const password = randomBytes(16).toString('hex')
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 })
  await server.sql('postgres', `CREATE ROLE ${role} LOGIN PASSWORD '${password}'`)
}

/** Written once: a repository whose password is lost is lost. */
async function writeOnce(path: string, content: string): Promise<void> {
  try {
    await writeFile(path, content, { mode: 0o600, flag: 'wx' })
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
}

/** Text as YAML: every JSON string is one. */
const quoted = (text: string) => JSON.stringify(text)

function stillpointYaml(repositoryDirectory: string, targets: ShopTargets): string {
  const database = ({ host, port, database, user, passwordFile }: DatabaseTarget) =>
    `{ source: postgres, host: ${host}, port: ${port}, database: ${quoted(database)}, user: ${user}` +
    `${passwordFile === undefined ? '' : `, passwordFile: ${quoted(passwordFile)}`} }`
  return `# Written by examples/shop/servers.ts, with the ports that were free. The shop knows nothing of it.
version: 1
system: shop
repository:
  path: ${quoted(join(repositoryDirectory, 'snapshots'))}
  passwordFile: ${quoted(join(repositoryDirectory, 'repository-password'))}
participants:
  orders-db:   ${database(targets.orders)}
  payments-db: ${database(targets.payments)}
  counters:    { source: redis, host: ${targets.counters.host}, port: ${targets.counters.port} }
  invoices:    { source: files, path: ${quoted(targets.invoices)} }
`
}

interface PlaceOptions {
  readonly targets: ShopTargets
  /** Where `shop.json` and `stillpoint.yaml` are written. */
  readonly directory: string
  /** Where the repository and its password are. */
  readonly repositoryDirectory: string
}

async function writePlace({ targets, directory, repositoryDirectory }: PlaceOptions): Promise<ShopPlace> {
  const shopFile = join(directory, 'shop.json')
  const stillpointFile = join(directory, 'stillpoint.yaml')
  await writeFile(shopFile, `${JSON.stringify(targets, null, 2)}\n`)
  await writeFile(stillpointFile, stillpointYaml(repositoryDirectory, targets))
  return { targets, shopFile, stillpointFile }
}

interface ScratchParts {
  readonly name: string
  readonly directory: string
  readonly databases: Databases
  readonly targets: ShopTargets
  readonly redis: RedisServer
}

async function makeScratch({ name, directory, databases, targets, redis }: ScratchParts): Promise<ScratchShop> {
  // A directory of its own: what Stillpoint keeps beside its configuration is not that of the shop.
  const home = join(directory, name)
  const scratch: ShopTargets = {
    orders: { ...targets.orders, database: `orders_${name}` },
    payments: { ...targets.payments, database: `payments_${name}` },
    counters: { host: redis.host, port: redis.port },
    invoices: join(home, 'invoices'),
  }
  const create = async () => {
    await createDatabase(databases.orders, scratch.orders.database)
    await createDatabase(databases.payments, scratch.payments.database)
    await mkdir(scratch.invoices, { recursive: true })
    return writePlace({ targets: scratch, directory: home, repositoryDirectory: directory })
  }
  return {
    ...(await create()),
    async empty() {
      await dropDatabase(databases.orders, scratch.orders.database)
      await dropDatabase(databases.payments, scratch.payments.database)
      const client = await connectRedis(scratch.counters)
      try {
        await client.flushall()
      } finally {
        client.disconnect()
      }
      await rm(home, { recursive: true })
      await create()
    },
  }
}

async function refuseOldInvoices(path: string): Promise<void> {
  await mkdir(path, { recursive: true })
  if ((await readdir(path)).length === 0) return
  throw new Error(
    `${path} holds invoices of an earlier shop, whose databases are gone: remove it, or choose another --dir`,
  )
}

/**
 * Starts everything. `unsafe` databases do without fsync: right for a test that crashes no machine.
 * @throws Failure `tool_missing` | `server_did_not_start`, or Error when the directory is another shop's
 */
export async function startShop(options: {
  readonly directory: string
  readonly unsafe?: boolean
}): Promise<ShopServers> {
  const directory = resolve(options.directory)
  const invoices = join(directory, 'invoices')
  await refuseOldInvoices(invoices)
  const ends: (() => Promise<void>)[] = [() => rm(invoices, { recursive: true, force: true })]
  const stop = async () => {
    for (let end = ends.pop(); end !== undefined; end = ends.pop()) await end()
  }
  const startOne = async (name: 'orders' | 'payments') => {
    const server = await startPostgres({ unsafe: options.unsafe ?? false })
    ends.push(() => server.stop())
    const passwordFile = join(directory, `${name}-password`)
    await createRole(server, passwordFile)
    await createDatabase(server, name)
    return { server, target: { host: server.host, port: server.port, database: name, user: role, passwordFile } }
  }
  try {
    const orders = await startOne('orders')
    const payments = await startOne('payments')
    const redis = await startRedis()
    ends.push(() => redis.stop())
    const counters = { host: redis.host, port: redis.port }
    const targets = { orders: orders.target, payments: payments.target, counters, invoices }
    const databases = { orders: orders.server, payments: payments.server }
    await writeOnce(join(directory, 'repository-password'), `${randomBytes(24).toString('base64url')}\n`)
    const place = await writePlace({ targets, directory, repositoryDirectory: directory })
    return {
      ...place,
      directory,
      async scratch(name, { redisDir } = {}) {
        const server = await startRedis(redisDir === undefined ? {} : { args: ['--dir', redisDir] })
        ends.push(() => server.stop())
        return makeScratch({ name, directory, databases, targets, redis: server })
      },
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

/** A shop in a directory of its own that is gone at the end, for tests and proofs. */
export async function startTemporaryShop(): Promise<ShopServers> {
  const directory = await temporaryDirectory('shop')
  try {
    const servers = await startShop({ directory: directory.path, unsafe: true })
    return {
      ...servers,
      async stop() {
        await servers.stop()
        await directory.remove()
      },
    }
  } catch (error) {
    await directory.remove()
    throw error
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { dir: { type: 'string', default: './shop' } } })
  const servers = await startShop({ directory: values.dir })
  const { directory, shopFile, stillpointFile, targets } = servers
  process.stdout.write(`${JSON.stringify({ directory, shopFile, stillpointFile, targets }, null, 2)}\n`)
  process.stderr.write(`The shop's servers run. Ctrl-C ends them; ${join(directory, 'snapshots')} stays.\n`)
  // Signals alone keep no process alive.
  const alive = setInterval(() => {}, 2 ** 30)
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
  clearInterval(alive)
  await servers.stop()
}

if (import.meta.main) {
  main().catch((error: unknown) => {
    process.stderr.write(`servers: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 1
  })
}
