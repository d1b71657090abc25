/** A running Redis server as the conformance suite needs it, and for the tests of what is special here. */
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock, CutId } from '@stillpoint/core/kernel'
import { findTool, type RedisServer, startRedis, temporaryDirectory } from '@stillpoint/testbed'
import { Redis } from 'ioredis'
import type { SourceEnvironment, SourceSession } from '../source.ts'
import type { AcknowledgedWrite, EmptyTarget, Load, Workbench } from '../workbench.ts'
import { redisOptions, redisSource } from './redis.ts'

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
  return `redis-test-${cuts}` as CutId
}

export interface Bench {
  readonly server: RedisServer
  readonly client: Redis
  readonly scratchDir: string
  /** Closed by `stop`, unless somebody has closed it before: it may keep the file of a mark open. */
  open(more?: Record<string, unknown>, password?: string): Promise<SourceSession>
  digest(): Promise<string>
  stop(): Promise<void>
}

export const password = 'a password with "quotes" and spaces'

export async function startBench(args: readonly string[] = []): Promise<Bench> {
  const directory = await temporaryDirectory('redis-bench')
  const server = await startRedis({ password, args: ['--enable-debug-command', 'local', ...args] })
  const client = insistingClient(server)
  // Of its own: on one connection, what reads would wait behind a write that is held.
  const reader = insistingClient(server)
  const env: SourceEnvironment = {
    clock: realClock,
    baseDir: directory.path,
    scratchDir: directory.path,
    note: () => undefined,
  }
  const sessions: SourceSession[] = []
  return {
    server,
    client,
    scratchDir: directory.path,
    async open(more = {}, given = password) {
      const name = `password-${randomBytes(4).toString('hex')}`
      await writeFile(join(directory.path, name), given, { mode: 0o600 })
      const options = { host: server.host, port: server.port, passwordFile: name, ...more }
      const session = await redisSource.open(redisOptions.parse(options), env, never)
      sessions.push(session)
      return session
    },
    digest: async () => String(await reader.call('DEBUG', 'DIGEST')),
    async stop() {
      for (const session of sessions) await session.close()
      client.disconnect()
      reader.disconnect()
      await server.stop()
      await directory.remove()
    },
  }
}

/** A client that comes back and tries again. What it repeats, it repeats with the same value. */
function insistingClient(server: RedisServer): Redis {
  const client = new Redis({
    host: server.host,
    port: server.port,
    password,
    maxRetriesPerRequest: null,
    retryStrategy: () => 20,
    autoResendUnfulfilledCommands: true,
  })
  client.on('error', () => undefined) // the server was killed: it comes back
  return client
}

async function writeRow(client: Redis): Promise<void> {
  const id = randomBytes(8).toString('hex')
  await client.multi().set(`row:${id}`, id).hset('index', id, '1').incr('count').exec()
}

export async function startWriters(server: RedisServer, writers: number): Promise<Load> {
  let running = true
  const acknowledged: AcknowledgedWrite[] = []
  const loops = Array.from({ length: writers }, async () => {
    const client = insistingClient(server)
    while (running) {
      const startedMs = performance.now()
      await writeRow(client)
      acknowledged.push({ startedMs, acknowledgedMs: performance.now() })
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    client.disconnect()
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

export async function startWorkbench(): Promise<Workbench> {
  // What was acknowledged is there again after a kill.
  const bench = await startBench(['--appendonly', 'yes', '--appendfsync', 'always'])
  return {
    open: () => bench.open(),
    async write(rows) {
      for (let row = 0; row < rows; row++) await writeRow(bench.client)
    },
    startLoad: () => startWriters(bench.server, 3),
    digest: bench.digest,
    async wipe() {
      // Not FLUSHALL: that also ends a save that is under way, and with it the mark (redis.test.ts).
      await bench.client.flushdb()
    },
    async openEmptyTarget(): Promise<EmptyTarget> {
      const target = await startBench()
      const session = await target.open()
      return {
        session,
        digest: target.digest,
        async close() {
          await session.close()
          await target.stop()
        },
      }
    },
    kill: () => bench.server.kill(),
    revive: () => bench.server.restart(),
    stop: bench.stop,
    outsideWrite: {
      program: findTool('redis-cli') ?? 'redis-cli',
      parameters: ['-h', bench.server.host, '-p', String(bench.server.port), '-a', password, 'SET', 'outside', '1'],
    },
  }
}
