/**
 * Looks for stores on this machine, for `stillpoint init`: what listens on the usual ports and sockets, and what lies
 * in the directory.
 *
 * Owns: the search. Does not own: what is made of it (config-template.ts). Nothing is changed; each place is asked in
 * its own protocol, so that something else on the same port is not taken for it.
 */
import type { Dirent, Stats } from 'node:fs'
import { type FileHandle, open, readdir, stat } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { userInfo } from 'node:os'
import { basename, join, relative } from 'node:path'
import { Client } from 'pg'

const answerMsMax = 1_500
const entriesMax = 2_000

export type FoundStore =
  | {
      readonly kind: 'postgres'
      /** Host name, or the directory of the socket. */
      readonly host: string
      readonly port: number
      readonly user: string
      /** Databases that the user can log in to without a password; null where the server lets nobody look. */
      readonly databases: readonly string[] | null
      /** Why not, where `databases` is null. */
      readonly refusal: string | null
    }
  | {
      readonly kind: 'redis'
      readonly place: { readonly host: string; readonly port: number } | { readonly socket: string }
      readonly needsPassword: boolean
    }
  | { readonly kind: 'sqlite'; readonly path: string }
  | { readonly kind: 'files'; readonly path: string }

export interface Surroundings {
  readonly directory: string
  /** Directories where PostgreSQL puts its sockets. */
  readonly postgresSocketDirs: readonly string[]
  readonly postgresPorts: readonly number[]
  readonly redisSockets: readonly string[]
  readonly redisPorts: readonly number[]
}

export function usualSurroundings(directory: string): Surroundings {
  return {
    directory,
    postgresSocketDirs: ['/var/run/postgresql', '/tmp'],
    postgresPorts: [5432],
    redisSockets: ['/run/redis/redis-server.sock', '/run/redis/redis.sock', '/run/valkey/valkey.sock'],
    redisPorts: [6379],
  }
}

export async function discoverStores(surroundings: Surroundings, signal: AbortSignal): Promise<readonly FoundStore[]> {
  const [postgres, redis, files] = await Promise.all([
    findPostgres(surroundings, signal),
    findRedis(surroundings, signal),
    findFiles(surroundings.directory),
  ])
  signal.throwIfAborted()
  return [...postgres, ...redis, ...files]
}

async function findPostgres(surroundings: Surroundings, signal: AbortSignal): Promise<readonly FoundStore[]> {
  const { postgresSocketDirs, postgresPorts } = surroundings
  const places: { host: string; port: number }[] = []
  for (const directory of postgresSocketDirs) {
    for (const name of await namesIn(directory)) {
      const port = /^\.s\.PGSQL\.(\d+)$/.exec(name)?.[1]
      if (port !== undefined) places.push({ host: directory, port: Number(port) })
    }
  }
  // A server that has a socket is met there: the operating system then says who we are, and no password is needed.
  const withSocket = new Set(places.map(({ port }) => port))
  for (const port of postgresPorts) {
    if (!withSocket.has(port) && (await isPostgres('127.0.0.1', port, signal))) places.push({ host: 'localhost', port })
  }
  return Promise.all(places.map(({ host, port }) => listDatabases(host, port, signal)))
}

async function isPostgres(host: string, port: number, signal: AbortSignal): Promise<boolean> {
  // SSLRequest: every PostgreSQL answers it with one byte, before any login.
  const sslRequest = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])
  const answer = await exchange({ host, port }, sslRequest, signal)
  return answer === 'S' || answer === 'N'
}

async function listDatabases(host: string, port: number, signal: AbortSignal): Promise<FoundStore> {
  const user = userInfo().username
  const found = { kind: 'postgres', host, port, user } as const
  const client = new Client({
    host,
    port,
    user,
    database: 'postgres',
    // Nobody has given us one: without this the library would look for one in the environment and in ~/.pgpass.
    password: () => '',
    connectionTimeoutMillis: answerMsMax,
    query_timeout: answerMsMax,
  })
  // After a failure the connection may report another one; the first is the one that is shown.
  client.on('error', () => {})
  try {
    signal.throwIfAborted()
    await client.connect()
    const { rows } = await client.query<{ datname: string }>(
      "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate AND datname <> 'postgres' ORDER BY datname",
    )
    return { ...found, databases: rows.map(({ datname }) => datname), refusal: null }
  } catch (error) {
    signal.throwIfAborted()
    return { ...found, databases: null, refusal: error instanceof Error ? error.message : String(error) }
  } finally {
    // It may never have connected: then there is nothing to end, and that is no news.
    await client.end().catch(() => undefined)
  }
}

async function findRedis(surroundings: Surroundings, signal: AbortSignal): Promise<readonly FoundStore[]> {
  const { redisSockets, redisPorts } = surroundings
  const places = [
    ...redisSockets.map((socket) => ({ socket })),
    ...redisPorts.map((port) => ({ host: 'localhost', port })),
  ]
  const found: FoundStore[] = []
  for (const place of places) {
    const address = 'socket' in place ? { path: place.socket } : { host: '127.0.0.1', port: place.port }
    const answer = await exchange(address, Buffer.from('PING\r\n'), signal)
    const needsPassword = answer?.startsWith('-NOAUTH') === true
    // A server that has a socket usually listens on its port as well: one participant, not two.
    if (answer?.startsWith('+PONG') === true || needsPassword)
      return [...found, { kind: 'redis', place, needsPassword }]
  }
  return found
}

/** Sends, and answers the first bytes that come back as Latin-1 text; null where nothing comes. */
function exchange(
  address: { readonly path: string } | { readonly host: string; readonly port: number },
  bytes: Uint8Array,
  signal: AbortSignal,
): Promise<string | null> {
  return new Promise((resolve) => {
    const socket: Socket = connect(address)
    const finish = (answer: string | null) => {
      socket.destroy()
      signal.removeEventListener('abort', onAbort)
      resolve(answer)
    }
    const onAbort = () => finish(null)
    signal.addEventListener('abort', onAbort, { once: true })
    socket.setTimeout(answerMsMax, () => finish(null))
    // Refused, or no such socket: nothing is there, which is an answer.
    socket.once('error', () => finish(null))
    socket.once('end', () => finish(null))
    socket.once('connect', () => socket.write(bytes))
    socket.once('data', (data: Buffer) => finish(data.toString('latin1')))
  })
}

const databaseName = /\.(sqlite3?|db3?)$/i
const uploadName = /^(uploads?|attachments|media|user-?files|invoices|documents)$/i
const ignoredName = /^(node_modules|\..*|dist|build|vendor|snapshots)$/i

async function findFiles(directory: string): Promise<readonly FoundStore[]> {
  const found: FoundStore[] = []
  let entriesSeen = 0
  const visit = async (path: string, depth: number): Promise<void> => {
    for (const entry of await entriesIn(path)) {
      entriesSeen += 1
      if (entriesSeen > entriesMax) return
      const inner = join(path, entry.name)
      const shown = `./${relative(directory, inner)}`
      if (entry.isFile() && databaseName.test(entry.name) && (await isSqlite(inner))) {
        found.push({ kind: 'sqlite', path: shown })
      }
      if (!entry.isDirectory() || ignoredName.test(entry.name)) continue
      if (uploadName.test(entry.name)) found.push({ kind: 'files', path: shown })
      else if (depth < 2) await visit(inner, depth + 1)
    }
  }
  await visit(directory, 0)
  return found.toSorted((a, b) => compare(pathOf(a), pathOf(b)))
}

function pathOf(store: FoundStore): string {
  return store.kind === 'sqlite' || store.kind === 'files' ? store.path : ''
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

async function isSqlite(path: string): Promise<boolean> {
  const magic = 'SQLite format 3\0'
  let file: FileHandle
  try {
    const status: Stats = await stat(path)
    // A new database has no header yet.
    if (status.size === 0) return false
    file = await open(path, 'r')
  } catch {
    // Gone meanwhile, or not ours to read: nothing that could be snapshot.
    return false
  }
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(magic.length), 0, magic.length, 0)
    return buffer.toString('latin1', 0, bytesRead) === magic
  } finally {
    await file.close()
  }
}

async function namesIn(directory: string): Promise<readonly string[]> {
  return (await entriesIn(directory)).map(({ name }) => name)
}

async function entriesIn(directory: string): Promise<readonly Dirent[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true })
    return entries.toSorted((a, b) => compare(a.name, b.name))
  } catch {
    // Not there, or not ours to read: nothing is found in it.
    return []
  }
}

/** How a found store is called in messages. */
export function foundText(store: FoundStore): string {
  switch (store.kind) {
    case 'postgres': {
      const where = `PostgreSQL at ${store.host}, port ${store.port}`
      if (store.databases === null) return `${where}; its databases cannot be listed: ${store.refusal ?? ''}`
      return store.databases.length === 0 ? `${where}, without databases` : `${where}: ${store.databases.join(', ')}`
    }
    case 'redis': {
      const where = 'socket' in store.place ? store.place.socket : `${store.place.host}:${store.place.port}`
      return `Redis at ${where}${store.needsPassword ? ', with a password' : ''}`
    }
    case 'sqlite':
      return `SQLite database ${store.path}`
    case 'files':
      return `directory ${basename(store.path)} (${store.path})`
  }
}
