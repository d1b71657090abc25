/**
 * A real PostgreSQL server on a free port of the loopback, with its data in a temporary directory. Passwords are
 * checked (scram-sha-256) for every connection, as in the field.
 *
 * Started as root, the server runs as the user `postgres`, for PostgreSQL refuses to run as root.
 */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chown, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Failure, isFailure } from '@stillpoint/core/kernel'
import { type Daemon, type DaemonControl, daemon } from './daemon.ts'
import { temporaryDirectory } from './directory.ts'
import { freePort, onFreePorts } from './port.ts'
import { postgresFolder } from './tools.ts'

export interface PostgresOptions {
  /** Databases to make, besides `postgres`. Any name PostgreSQL takes. */
  readonly databases?: readonly string[]
  /** Server settings, as in postgresql.conf. */
  readonly settings?: Readonly<Record<string, string | number | boolean>>
  /** No fsync: quicker, and data may be lost when the machine (not the server) crashes. Default false. */
  readonly unsafe?: boolean
}

export interface PostgresServer extends DaemonControl {
  readonly host: string
  readonly port: number
  readonly superuser: string
  readonly password: string
  readonly dataDir: string
  /** Private to this server, and readable for it: tablespaces, password files. */
  readonly directory: string
  /** With user and password, for clients that take a URL. */
  url(database: string): string
  /** Runs SQL as the superuser with psql; answers unaligned rows without header. @throws Failure `sql_failed` */
  sql(database: string, text: string): Promise<string>
  /** What the server has logged since its last start. */
  log(): Promise<string>
  /** Ends it and removes its directory. Idempotent. */
  stop(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

const run = promisify(execFile)
const host = '127.0.0.1'
const superuser = 'postgres'

/** @throws Failure `tool_missing` | `server_did_not_start` */
export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  const bin = postgresFolder()
  if (bin === undefined) {
    throw new Failure({
      code: 'tool_missing',
      message: 'no PostgreSQL server programs',
      hint: 'Install the package postgresql.',
    })
  }
  const user = await serverUser()
  const directory = await temporaryDirectory('postgres')
  try {
    if (user !== undefined) await chown(directory.path, user.uid, user.gid)
    const password = randomBytes(12).toString('hex')
    const dataDir = join(directory.path, 'data')
    await initialize({ bin, dataDir, directory: directory.path, password, user })
    const { server, port } = await startOnFreePort({ bin, dataDir, directory: directory.path, user, options })
    const made = handle({ bin, server, port, password, dataDir, directory: directory.path, remove: directory.remove })
    for (const database of options.databases ?? []) {
      await made.sql('postgres', `CREATE DATABASE "${database.replaceAll('"', '""')}"`)
    }
    return made
  } catch (error) {
    await directory.remove()
    throw error
  }
}

type User = { readonly uid: number; readonly gid: number }

async function serverUser(): Promise<User | undefined> {
  if (process.getuid?.() !== 0) return undefined
  const entry = (await readFile('/etc/passwd', 'utf8')).split('\n').find((line) => line.startsWith('postgres:'))
  const [, , uid, gid] = entry?.split(':') ?? []
  if (uid === undefined || gid === undefined) {
    throw new Failure({ code: 'tool_missing', message: 'no user postgres', hint: 'Install the package postgresql.' })
  }
  return { uid: Number(uid), gid: Number(gid) }
}

interface Place {
  readonly bin: string
  readonly dataDir: string
  readonly directory: string
  readonly user: User | undefined
}

async function initialize(place: Place & { readonly password: string }): Promise<void> {
  const passwordFile = join(place.directory, 'superuser-password')
  await writeFile(passwordFile, place.password, { mode: 0o600 })
  if (place.user !== undefined) await chown(passwordFile, place.user.uid, place.user.gid)
  const args = ['--no-sync', '-D', place.dataDir, '-U', superuser, `--pwfile=${passwordFile}`]
  args.push('--auth=scram-sha-256', '--encoding=UTF8', '--locale=C')
  await run(join(place.bin, 'initdb'), args, { ...place.user, cwd: '/', env: { LC_ALL: 'C', PATH: place.bin } })
}

async function startOnFreePort(
  place: Place & { readonly options: PostgresOptions },
): Promise<{ server: Daemon; port: number }> {
  const unsafe = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' }
  const sockets = join(place.directory, 'sockets')
  await mkdir(sockets)
  if (place.user !== undefined) await chown(sockets, place.user.uid, place.user.gid)
  return onFreePorts(async () => {
    const port = await freePort()
    const settings = {
      listen_addresses: host,
      port,
      unix_socket_directories: sockets,
      max_connections: 60,
      shared_buffers: '32MB',
      dynamic_shared_memory_type: 'mmap',
      logging_collector: 'off',
      ...(place.options.unsafe ? unsafe : {}),
      ...place.options.settings,
    }
    const server = daemon({
      name: 'postgres',
      program: join(place.bin, 'postgres'),
      args: ['-D', place.dataDir, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
      ...(place.user === undefined ? {} : { user: place.user }),
      logFile: join(place.directory, 'server.log'),
      isReady: async (log) => log.includes('ready to accept connections'),
      stopSignal: 'SIGINT', // fast shutdown: ends sessions, writes a checkpoint
      lastSignal: 'QUIT',
    })
    await server.start()
    return { server, port }
  })
}

interface Parts {
  readonly bin: string
  readonly server: Daemon
  readonly port: number
  readonly password: string
  readonly dataDir: string
  readonly directory: string
  readonly remove: () => Promise<void>
}

function handle(parts: Parts): PostgresServer {
  const { bin, server, port, password, dataDir, directory } = parts
  const stop = async () => {
    await server.stop()
    await parts.remove()
  }
  return {
    host,
    port,
    superuser,
    password,
    dataDir,
    directory,
    url: (database) => `postgres://${superuser}:${password}@${host}:${port}/${encodeURIComponent(database)}`,
    sql: (database, text) => runSql(join(bin, 'psql'), { text, database, port, password }),
    log: () => readFile(join(directory, 'server.log'), 'utf8'),
    stop,
    kill: server.kill,
    pause: server.pause,
    unpause: server.unpause,
    async restart() {
      await server.stop()
      await startAfterCrash(server)
    },
    [Symbol.asyncDispose]: stop,
  }
}

/** The kernel may still hold the shared memory of processes that were killed a moment ago: the server then says so. */
async function startAfterCrash(server: Daemon): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await server.start()
    } catch (error) {
      const lingering = isFailure(error, 'server_did_not_start') && error.message.includes('shared memory block')
      if (!lingering || attempt === 20) throw error
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
}

interface SqlOptions {
  readonly text: string
  readonly database: string
  readonly port: number
  readonly password: string
}

async function runSql(psql: string, options: SqlOptions): Promise<string> {
  const env = {
    LC_ALL: 'C',
    PATH: process.env['PATH'] ?? '',
    PGHOST: host,
    PGPORT: String(options.port),
    PGUSER: superuser,
    PGPASSWORD: options.password,
    PGDATABASE: options.database,
  }
  const args = ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-f', '-']
  const pending = run(psql, args, { env, cwd: '/', maxBuffer: 64 << 20 })
  pending.child.stdin?.end(options.text)
  try {
    return (await pending).stdout.trimEnd()
  } catch (cause) {
    const detail = cause instanceof Error && 'stderr' in cause ? String(cause.stderr).trim() : String(cause)
    throw new Failure({ code: 'sql_failed', message: `psql: ${detail}`, cause })
  }
}
