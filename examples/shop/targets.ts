/**
 * Where the shop's four stores are: two databases, Redis and a directory of invoices.
 *
 * Owns: the shape of `shop.json`, its checks, and the connections. Does not own: what is in the stores (schema.ts,
 * state.ts). Like all of the shop itself it knows nothing of Stillpoint: no file that the load runs imports it.
 */
import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { Redis } from 'ioredis'
import pg from 'pg'

export interface DatabaseTarget {
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
  /** A file that holds the password, absolute. Without it, the server is expected to ask for none. */
  readonly passwordFile?: string
}

export interface RedisTarget {
  readonly host: string
  readonly port: number
}

export interface ShopTargets {
  readonly orders: DatabaseTarget
  readonly payments: DatabaseTarget
  readonly counters: RedisTarget
  /** The directory of invoices, absolute. */
  readonly invoices: string
}

export const connectMsMax = 10_000

type Fields = Readonly<Record<string, unknown>>

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function onlyKeys(fields: Fields, known: readonly string[], where: string): void {
  const unknown = Object.keys(fields).filter((key) => !known.includes(key))
  if (unknown.length > 0) throw new Error(`${where}: unknown ${unknown.join(', ')} (known: ${known.join(', ')})`)
}

function fieldsAt(fields: Fields, key: string, where: string): Fields {
  const value = fields[key]
  if (!isFields(value)) throw new Error(`${where}: ${key} must be an object`)
  return value
}

function textAt(fields: Fields, key: string, where: string): string {
  const value = fields[key]
  if (typeof value !== 'string' || value === '') throw new Error(`${where}: ${key} must be a text`)
  return value
}

function portAt(fields: Fields, where: string): number {
  const port = fields['port']
  if (typeof port === 'number' && Number.isInteger(port) && port > 0 && port < 65_536) return port
  throw new Error(`${where}: port must be a whole number from 1 to 65535`)
}

function databaseAt(fields: Fields, baseDir: string, where: string): DatabaseTarget {
  onlyKeys(fields, ['host', 'port', 'database', 'user', 'passwordFile'], where)
  const target = {
    host: textAt(fields, 'host', where),
    port: portAt(fields, where),
    database: textAt(fields, 'database', where),
    user: textAt(fields, 'user', where),
  }
  if (fields['passwordFile'] === undefined) return target
  return { ...target, passwordFile: resolve(baseDir, textAt(fields, 'passwordFile', where)) }
}

/**
 * Checks what `shop.json` says. Relative paths start at `baseDir`.
 * @throws Error that names the field
 */
export function parseTargets(content: unknown, baseDir: string, where: string): ShopTargets {
  if (!isFields(content)) throw new Error(`${where}: must be an object`)
  onlyKeys(content, ['orders', 'payments', 'counters', 'invoices'], where)
  const counters = fieldsAt(content, 'counters', where)
  onlyKeys(counters, ['host', 'port'], `${where}: counters`)
  return {
    orders: databaseAt(fieldsAt(content, 'orders', where), baseDir, `${where}: orders`),
    payments: databaseAt(fieldsAt(content, 'payments', where), baseDir, `${where}: payments`),
    counters: {
      host: textAt(counters, 'host', `${where}: counters`),
      port: portAt(counters, `${where}: counters`),
    },
    invoices: resolve(baseDir, textAt(content, 'invoices', where)),
  }
}

/** @throws Error that names the file and the field */
export async function readTargets(path: string): Promise<ShopTargets> {
  const text = await readFile(path, 'utf8')
  let content: unknown
  try {
    content = JSON.parse(text)
  } catch (cause) {
    throw new Error(`${path}: is not JSON`, { cause })
  }
  return parseTargets(content, dirname(resolve(path)), path)
}

export async function passwordOf(target: DatabaseTarget): Promise<string | undefined> {
  if (target.passwordFile === undefined) return undefined
  return (await readFile(target.passwordFile, 'utf8')).replace(/\r?\n$/, '')
}

/** One connection, which waits for as long as a statement takes: a held store is a slow store. */
export async function connectDatabase(target: DatabaseTarget): Promise<pg.Client> {
  const password = await passwordOf(target)
  const { host, port, database, user } = target
  const client = new pg.Client({
    host,
    port,
    database,
    user,
    connectionTimeoutMillis: connectMsMax,
    application_name: 'shop',
    ...(password === undefined ? {} : { password }),
  })
  // A lost connection fails the statement that waits on it, and every later one. Without a listener it would also
  // end the process, while other workers are in the middle of an order.
  client.on('error', () => {})
  await client.connect()
  return client
}

/** One connection. A command is never sent twice: an INCRBY whose answer was lost may have been done. */
export async function connectRedis(target: RedisTarget): Promise<Redis> {
  let lost = ''
  const redis = new Redis({
    host: target.host,
    port: target.port,
    lazyConnect: true,
    connectTimeout: connectMsMax,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    enableOfflineQueue: false,
  })
  redis.on('error', (error: Error) => {
    lost = error.message
  })
  try {
    await redis.connect()
  } catch (cause) {
    redis.disconnect()
    throw new Error(`Redis at ${target.host}:${target.port}: ${lost || String(cause)}`, { cause })
  }
  return redis
}
