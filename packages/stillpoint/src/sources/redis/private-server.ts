/**
 * A Redis server of our own, with a snapshot loaded: for restoring by replication, and for comparing. It listens on one
 * address with a random password, saves nothing, and does not outlive this process: a small shell holds it, and kills it
 * when its own standard input ends, as it does when we die in whatever way.
 */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { accessSync, constants } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { delimiter, join } from 'node:path'
import { type Clock, Failure, isFailure } from '@stillpoint/core/kernel'
import { type Connection, connect, type Login } from './client.ts'
import { sleep } from './hold.ts'
import { readInfo } from './info.ts'

export interface PrivateServer {
  readonly connection: Connection
  readonly login: Login
  readonly password: string
  stop(): Promise<void>
}

export interface PrivateServerOptions {
  readonly scratchDir: string
  readonly clock: Clock
  /** Address to listen on. */
  readonly address: string
  readonly databases: number
}

const programs = ['redis-server', 'valkey-server']
const watch = '"$1" "$2" & server=$!; while read -r _; do :; done; kill -KILL $server; wait $server'

/** @throws Failure `tool_missing` */
export function findServer(): string {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/bin', '/usr/local/bin']
  for (const name of programs) {
    for (const folder of folders.filter((each) => each !== '')) {
      try {
        accessSync(join(folder, name), constants.X_OK)
        return join(folder, name)
      } catch {
        // not in this folder
      }
    }
  }
  throw new Failure({
    code: 'tool_missing',
    message: 'there is no redis-server on this machine: a restore needs one to load the snapshot',
    hint: 'Install the Debian package redis-server; it need not run as a service.',
  })
}

/**
 * Starts it with what `write` puts into the file that it loads.
 * @throws Failure `tool_missing` | `rdb_damaged` | `restore_failed`
 */
export async function startPrivateServer(
  options: PrivateServerOptions,
  write: (path: string) => Promise<void>,
  signal: AbortSignal,
): Promise<PrivateServer> {
  const program = findServer()
  const folder = await mkdtemp(join(options.scratchDir, 'redis-'))
  try {
    await write(join(folder, 'dump.rdb'))
    return await launch(program, folder, options, signal)
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw error
  }
}

async function launch(
  program: string,
  folder: string,
  options: PrivateServerOptions,
  signal: AbortSignal,
): Promise<PrivateServer> {
  const password = randomBytes(24).toString('hex')
  const port = await freePort(options.address)
  const config = join(folder, 'redis.conf')
  const log = join(folder, 'log')
  const lines = [
    `bind ${options.address}`,
    `port ${port}`,
    `dir ${JSON.stringify(folder)}`,
    `logfile ${JSON.stringify(log)}`,
    `requirepass ${password}`,
    `databases ${options.databases}`,
    'save ""',
    'appendonly no',
    'daemonize no',
    'repl-diskless-sync yes',
    'repl-diskless-sync-delay 0',
  ]
  await writeFile(config, `${lines.join('\n')}\n`, { mode: 0o600 })
  const child = spawn('/bin/sh', ['-c', watch, 'watch', program, config], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
    cwd: '/',
  })
  const gone = new AbortController()
  const ended = new Promise<void>((resolve) => {
    child.once('close', () => resolve())
    child.once('error', () => resolve())
  })
  void ended.then(() => gone.abort(new Error('it ended')))
  child.stdin.on('error', () => undefined) // it has ended: `ended` says so
  const login: Login = {
    address: { host: options.address, port, user: undefined, tls: false, tlsCaFile: undefined },
    password,
  }
  const kill = async () => {
    child.stdin.end()
    await ended
    await rm(folder, { recursive: true, force: true })
  }
  try {
    const connection = await untilLoaded({ login, log, clock: options.clock, gone: gone.signal }, signal)
    const stop = async () => {
      connection.destroy()
      await kill()
    }
    return { connection, login, password, stop }
  } catch (error) {
    await kill()
    throw error
  }
}

const fatalWords =
  /Fatal error|FATAL|Short read|Unexpected EOF|Can't handle RDB|Wrong signature|Bad file format|Could not create server/

interface Starting {
  readonly login: Login
  readonly log: string
  readonly clock: Clock
  readonly gone: AbortSignal
}

async function untilLoaded(starting: Starting, signal: AbortSignal): Promise<Connection> {
  const { login, clock } = starting
  for (;;) {
    signal.throwIfAborted()
    // A server that cannot load its file says so in its log, and ends; the shell that holds it does not.
    const said = await readLog(starting.log)
    const fatal = said.split('\n').find((line) => fatalWords.test(line))
    if (fatal !== undefined || starting.gone.aborted) throw notLoaded(fatal ?? said.slice(-500))
    try {
      const connection = await connect(login, signal)
      await readInfo(connection, signal)
      const size = await connection.call(signal, 'DBSIZE') // refused while it loads
      if (typeof size === 'number') return connection
      connection.destroy()
    } catch (error) {
      if (!isFailure(error) || signal.aborted) throw error
      if (error.code !== 'store_unreachable' && error.code !== 'store_lost') throw error
    }
    await sleep(clock, 20, signal)
  }
}

function notLoaded(said: string): Failure {
  if (said.includes('Could not create server')) {
    const hint = 'Try again: another program has just taken its port.'
    return new Failure({
      code: 'restore_failed',
      message: `no server of our own: ${said.trim()}`,
      hint,
      retry: 'later',
    })
  }
  return new Failure({
    code: 'rdb_damaged',
    message: `the snapshot’s dump.rdb could not be loaded: ${said.trim()}`,
    hint: 'If the words say “RDB format version”, install a redis-server as new as the one the snapshot was taken of; else check the repository.',
  })
}

async function readLog(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch {
    return '' // not begun yet
  }
}

async function freePort(address: string): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, address, resolve)
  })
  const bound = server.address()
  await new Promise<void>((resolve) => server.close(() => resolve()))
  if (bound === null || typeof bound === 'string') throw new Error('a TCP server has no port')
  return bound.port
}
