/**
 * What the server's tests share: a server on a free port over a real catalog and real sockets, with operations and an
 * agent that do as the test says.
 */
import { once } from 'node:events'
import type { Certificate, ProcessFrame, RestoreOffer, ServerFrame } from '@stillpoint/core'
import { type Clock, type Incarnation, type ParticipantName, participantName } from '@stillpoint/core/kernel'
import { type TemporaryDirectory, temporaryDirectory } from '@stillpoint/testbed'
import { WebSocket } from 'ws'
import { openSqliteCatalog, type SqliteCatalog } from '../catalog/sqlite-catalog.ts'
import type { ParticipantConfig, SystemConfig } from '../config/system-config.ts'
import type { Operations, SnapshotDetail, SnapshotSummary } from '../coordinator/operations.ts'
import type { ProcessDirectory, ProcessEvent } from '../coordinator/process-directory.ts'
import { systemClock, systemEntropy, systemRandom } from '../system-env.ts'
import type { LogEntry, ProcessCaptures, ProcessRestores } from './ports.ts'
import { type ServerLimits, type StartedServer, startServer } from './start-server.ts'
import { readToken } from './token.ts'

export function testConfig(stateDir: string, changes: Partial<SystemConfig> = {}): SystemConfig {
  const process = (name: string): ParticipantConfig => ({ kind: 'process', name: participantName(name) })
  return {
    path: `${stateDir}/stillpoint.yaml`,
    baseDir: stateDir,
    system: 'shop',
    repository: { path: `${stateDir}/repository`, passwordFile: 'password' },
    stateDir,
    server: { host: '127.0.0.1', port: 0 },
    deadlines: {},
    retries: { attempts: 1, backoffMs: 1 },
    schedule: null,
    participants: [process('orders'), process('payments')],
    ...changes,
  }
}

export const summary: SnapshotSummary = {
  id: 'ab'.repeat(32),
  system: 'shop',
  cut: 'cut-1',
  epoch: 1,
  generation: 0,
  time: '2026-01-02T03:04:05.000Z',
  verdict: 'consistent',
  participants: 0,
  bytes: 10,
  inFlight: 0,
  pauseMs: 1.5,
}

const certificate: Certificate = {
  version: 1,
  plan: {
    version: 1,
    system: 'shop',
    cut: 'cut-1' as Certificate['plan']['cut'],
    epoch: 1,
    generation: 0,
    fencing: 1,
    participants: [],
    deadlines: {
      prepareMs: 1,
      quiesceMs: 1,
      markMs: 1,
      resumeMs: 1,
      drainMs: 1,
      captureMs: 1,
      leaseMs: 1,
      handlerMs: 1,
    },
    allowInconsistent: false,
  },
  planDigest: 'cd'.repeat(32),
  processes: {},
  stores: {},
  steps: [],
  trees: {},
  channelTrees: {},
  pauseMs: 1.5,
}

export const detail: SnapshotDetail = {
  ...summary,
  verdictReasons: [],
  participantDetails: [],
  channels: [],
  certificate,
}

/** Operations of which a test says what it needs; the others are not to be called. */
export function scriptedOperations(script: Partial<Operations>): Operations {
  const unexpected = async () => {
    throw new Error('the test did not expect this operation')
  }
  return {
    status: unexpected,
    take: unexpected,
    list: async () => [],
    show: unexpected,
    verify: unexpected,
    diff: unexpected,
    restore: unexpected,
    remove: unexpected,
    close: async () => {},
    ...script,
  }
}

export interface TestServer extends StartedServer, AsyncDisposable {
  readonly directory: TemporaryDirectory
  readonly config: SystemConfig
  readonly token: string
  readonly catalog: SqliteCatalog
  readonly processes: ProcessDirectory
  readonly events: ProcessEvent[]
  readonly log: LogEntry[]
  fetch(path: string, init?: RequestInit): Promise<Response>
}

export interface TestServerOptions {
  readonly operations?: Partial<Operations>
  readonly captures?: Partial<ProcessCaptures>
  readonly restores?: Partial<ProcessRestores>
  readonly limits?: Partial<ServerLimits>
  readonly config?: Partial<SystemConfig>
  readonly directory?: TemporaryDirectory
  readonly clock?: Clock
}

export async function startTestServer(options: TestServerOptions = {}): Promise<TestServer> {
  const directory = options.directory ?? (await temporaryDirectory('server'))
  const config = testConfig(directory.path, options.config)
  const log: LogEntry[] = []
  const events: ProcessEvent[] = []
  const catalog = openSqliteCatalog({ directory: directory.path, note: () => {} })
  const refused = async () => {
    throw new Error('the test did not expect this transfer')
  }
  let processes: ProcessDirectory | undefined
  const server = await startServer({
    config,
    clock: options.clock ?? systemClock,
    random: systemRandom,
    entropy: systemEntropy,
    log: (entry) => log.push(entry),
    limits: { settleMs: 0, aliveMs: 100, ...options.limits },
    operationsFactory: async (context) => {
      processes = context.processes
      context.processes.subscribe((event) => events.push(event))
      return {
        operations: scriptedOperations({ close: () => catalog.close(), ...options.operations }),
        catalog,
        captures: { putState: refused, putChannel: refused, finish: refused, ...options.captures },
        restores: { contents: refused, readState: refused, readChannel: refused, ...options.restores },
      }
    },
  })
  const token = (await readToken(server.tokenFile)) ?? ''
  if (processes === undefined) throw new Error('the factory was not called')
  return {
    ...server,
    directory,
    config,
    token,
    catalog,
    processes,
    events,
    log,
    fetch: (path, init = {}) =>
      fetch(new URL(path, server.url), { ...init, headers: { authorization: `Bearer ${token}`, ...init.headers } }),
    async [Symbol.asyncDispose]() {
      await server.close()
      if (options.directory === undefined) await directory.remove()
    },
  }
}

/** A process as it is on the wire: a WebSocket that says what the test says. */
export interface TestProcess {
  readonly socket: WebSocket
  readonly frames: ServerFrame[]
  send(frame: ProcessFrame): void
  /** The next frame of this type that was not asked for yet. */
  next<T extends ServerFrame['type']>(type: T): Promise<Extract<ServerFrame, { type: T }>>
  closed(): Promise<{ readonly code: number; readonly reason: string }>
}

export async function openProcess(
  server: Pick<TestServer, 'url' | 'token'>,
  options: { readonly autoPong?: boolean } = {},
): Promise<TestProcess> {
  const headers = { authorization: `Bearer ${server.token}` }
  const socket = new WebSocket(`${server.url.replace('http', 'ws')}/v1/session`, { headers, ...options })
  const frames: ServerFrame[] = []
  let taken = 0
  let wake = () => {}
  let end: { code: number; reason: string } | undefined
  socket.on('message', (data) => {
    frames.push(JSON.parse(String(data)))
    wake()
  })
  socket.on('close', (code, reason) => {
    end = { code, reason: String(reason) }
    wake()
  })
  socket.on('error', () => wake())
  await once(socket, 'open')
  const change = () =>
    new Promise<void>((resolve) => {
      wake = resolve
    })
  return {
    socket,
    frames,
    send: (frame) => socket.send(JSON.stringify(frame)),
    async next<T extends ServerFrame['type']>(type: T) {
      for (;;) {
        const frame = frames[taken]
        if (frame !== undefined) {
          taken += 1
          if (isOfType(frame, type)) return frame
          throw new Error(`expected ${type}, but there is ${JSON.stringify(frame)}`)
        }
        if (end !== undefined) throw new Error(`closed before ${type}: ${end.code} ${end.reason}`)
        await change()
      }
    },
    async closed() {
      while (end === undefined) await change()
      return end
    },
  }
}

function isOfType<T extends ServerFrame['type']>(
  frame: ServerFrame,
  type: T,
): frame is Extract<ServerFrame, { type: T }> {
  return frame.type === type
}

export function hello(
  participant: string,
  life = 'life-1',
  changes: Partial<Extract<ProcessFrame, { type: 'hello' }>> = {},
) {
  return {
    type: 'hello',
    version: 1,
    participant: participant as ParticipantName,
    incarnation: life as Incarnation,
    generation: null,
    epoch: 0,
    sdkVersion: '0.1.0',
    ...changes,
  } as const
}

/** A process that has been welcomed. */
export async function joinedProcess(server: TestServer, name: string, life = 'life-1') {
  const process = await openProcess(server)
  process.send(hello(name, life))
  const welcome = await process.next('welcome')
  return { ...process, welcome }
}

export async function until(condition: () => boolean, what: string): Promise<void> {
  const endMs = systemClock.monotonicMs() + 5_000
  while (!condition()) {
    if (systemClock.monotonicMs() > endMs) throw new Error(`waited in vain until ${what}`)
    await new Promise<void>((wake) => systemClock.after(5, wake))
  }
}

/** Makes a restore pending for these processes, as a coordinator would. */
export async function switchGeneration(catalog: SqliteCatalog, names: readonly string[]): Promise<RestoreOffer> {
  const lease = await catalog.begin('shop', { what: 'restore', pid: process.pid, host: 'here', since: 'now' })
  try {
    await lease.beginRestore({ restore: 'restore-1', snapshot: summary.id, ownTargets: true, stores: [] })
    return await lease.switchRestore('restore-1', names.map(participantName))
  } finally {
    await lease.end()
  }
}
