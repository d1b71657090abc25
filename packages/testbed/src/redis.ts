/** A real Redis (or Valkey) server on a free port of the loopback, with its data in a temporary directory. */
import { readFile, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { type Daemon, type DaemonControl, daemon } from './daemon.ts'
import { temporaryDirectory } from './directory.ts'
import { freePort, onFreePorts } from './port.ts'
import { findTool } from './tools.ts'

export interface RedisOptions {
  /** Further arguments of redis-server: `['--appendonly', 'yes']`. They win over the defaults. */
  readonly args?: readonly string[]
  /** Lines of the configuration file, for what must not be seen in a list of processes. */
  readonly config?: readonly string[]
  readonly password?: string
}

export interface RedisServer extends DaemonControl {
  readonly host: string
  readonly port: number
  readonly password: string | undefined
  /** Where it keeps its RDB and AOF. */
  readonly dataDir: string
  url(database?: number): string
  log(): Promise<string>
  /** Ends it without saving, and removes its directory. Idempotent. */
  stop(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

const host = '127.0.0.1'

/** @throws Failure `tool_missing` | `server_did_not_start` */
export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const program = findTool('redis-server') ?? findTool('valkey-server')
  if (program === undefined) {
    throw new Failure({ code: 'tool_missing', message: 'no redis-server', hint: 'Install the package redis-server.' })
  }
  const directory = await temporaryDirectory('redis')
  try {
    const { server, port } = await startOnFreePort(program, directory.path, options)
    return handle(server, { port, directory: directory.path, password: options.password, remove: directory.remove })
  } catch (error) {
    await directory.remove()
    throw error
  }
}

async function startOnFreePort(
  program: string,
  directory: string,
  options: RedisOptions,
): Promise<{ server: Daemon; port: number }> {
  return onFreePorts(async () => {
    const port = await freePort()
    const lines = [`bind ${host}`, `port ${port}`, `dir ${JSON.stringify(directory)}`, 'save ""', 'daemonize no']
    if (options.password !== undefined) lines.push(`requirepass ${JSON.stringify(options.password)}`)
    const config = join(directory, 'redis.conf')
    await writeFile(config, [...lines, ...(options.config ?? []), ''].join('\n'), { mode: 0o600 })
    const server = daemon({
      name: 'redis-server',
      program,
      args: [config, ...(options.args ?? [])],
      logFile: join(directory, 'server.log'),
      isReady: () => answers(port, options.password),
      stopSignal: 'SIGTERM',
      lastSignal: 'KILL',
    })
    await server.start()
    return { server, port }
  })
}

interface Place {
  readonly port: number
  readonly directory: string
  readonly password: string | undefined
  readonly remove: () => Promise<void>
}

function handle(server: Daemon, place: Place): RedisServer {
  const { port, directory, password } = place
  const stop = async () => {
    await server.kill() // nothing of it is to be kept, and an orderly end may wait for a save
    await place.remove()
  }
  const user = password === undefined ? '' : `:${encodeURIComponent(password)}@`
  return {
    host,
    port,
    password,
    dataDir: directory,
    url: (database = 0) => `redis://${user}${host}:${port}/${database}`,
    log: () => readFile(join(directory, 'server.log'), 'utf8'),
    stop,
    kill: server.kill,
    pause: server.pause,
    unpause: server.unpause,
    restart: server.restart,
    [Symbol.asyncDispose]: stop,
  }
}

/** Whether commands are served. Before it is told the password, a server does not say that it is still loading. */
function answers(port: number, password: string | undefined): Promise<boolean> {
  const login = password === undefined ? '' : command('AUTH', password)
  const wanted = password === undefined ? 1 : 2
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    let said = ''
    socket.setTimeout(1000, () => socket.destroy())
    socket.once('connect', () => socket.write(login + command('PING')))
    socket.on('data', (bytes) => {
      said += bytes.toString('latin1')
      const answers = said.split('\r\n').slice(0, -1)
      if (answers.length < wanted) return
      resolve(answers.every((answer) => !answer.startsWith('-LOADING')))
      socket.destroy()
    })
    socket.once('error', () => resolve(false))
    socket.once('close', () => resolve(false))
  })
}

function command(...words: readonly string[]): string {
  return `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`
}
