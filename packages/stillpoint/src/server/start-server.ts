/**
 * The embedded server (`stillpoint up`): API, sessions, schedule, coordinator and agent in one process.
 *
 * Owns: the order in which it starts and ends. Everything that it opens is closed again when a later step fails.
 *
 * Crash rules: nothing that a killed server leaves stops the next start. Its lock ends with it; `server.json` is an
 * announcement that nobody trusts unasked; holds end at their leases; cuts that it left open are for the coordinator.
 */
import { type Clock, type Entropy, Failure, type Random } from '@stillpoint/core/kernel'
import { processesIn, type SystemConfig } from '../config/system-config.ts'
import { isErrno } from './errno.ts'
import { createHttpApp, type HttpApp } from './http-app.ts'
import { createLiveEvents } from './live-events.ts'
import type { Log, OperationsFactory, ServedSystem } from './ports.ts'
import { createRunningOperations, type RunningOperations } from './running-operations.ts'
import { type RunningSchedule, startSchedule } from './schedules.ts'
import { defaultSessionLimits, type SessionLimits, Sessions } from './sessions.ts'
import { type ClaimedDirectory, claimStateDirectory } from './state-directory.ts'

export interface StartServerOptions {
  readonly config: SystemConfig
  readonly clock: Clock
  readonly random: Random
  readonly entropy: Entropy
  readonly operationsFactory: OperationsFactory
  readonly log: Log
  readonly limits?: Partial<ServerLimits>
}

export interface ServerLimits extends SessionLimits {
  /** How often a stream says that it lives. */
  readonly aliveMs: number
  /** How long cancelled operations have to release what they hold, when the server ends. */
  readonly stopMs: number
  /** How long a schedule waits after the start. */
  readonly settleMs: number
}

export const defaultServerLimits: ServerLimits = {
  ...defaultSessionLimits,
  aliveMs: 5_000,
  stopMs: 30_000,
  settleMs: 10_000,
}

export interface StartedServer {
  readonly url: string
  /** Path of the file that holds the token. */
  readonly tokenFile: string
  /** Cancels what runs, waits for its holds to be released, ends all sessions. Idempotent. */
  close(): Promise<void>
}

interface Parts {
  readonly directory: ClaimedDirectory
  readonly http: HttpApp
  readonly sessions: Sessions
  readonly running: RunningOperations
  readonly system: ServedSystem
}

/**
 * @throws Failure `server_running`, `state_directory_unusable`, `token_file_*`, `port_in_use`, `address_unusable`, and
 *   those of the factory
 */
export async function startServer(options: StartServerOptions): Promise<StartedServer> {
  const { config, clock, entropy, log } = options
  const limits = { ...defaultServerLimits, ...options.limits }
  const directory = await claimStateDirectory(config.stateDir, { clock, entropy })
  try {
    return await serve(options, limits, directory)
  } catch (error) {
    log({ level: 'error', message: 'The server could not be started' })
    await directory.release()
    throw error
  }
}

async function serve(
  options: StartServerOptions,
  limits: ServerLimits,
  directory: ClaimedDirectory,
): Promise<StartedServer> {
  const { config, clock, random, entropy, log } = options
  const events = createLiveEvents(() => clock.wallMs())
  const running = createRunningOperations(events)
  let served: ServedSystem | undefined
  const system = () => {
    // The directory of processes is needed to make the operations, and nobody is let in before they are made.
    if (served === undefined) throw new Error('the system is used before it is made')
    return served
  }
  const catalog = () => system().catalog
  const sessions = new Sessions({ config, catalog, clock, entropy, events, log, limits })
  const { token } = directory
  const { aliveMs, frameBytesMax } = limits
  const listenHost = config.server.host
  const http = createHttpApp({
    listenHost,
    token,
    system,
    sessions,
    running,
    events,
    clock,
    log,
    frameBytesMax,
    aliveMs,
  })
  served = await options.operationsFactory({ config, clock, random, entropy, processes: sessions })
  const parts: Parts = { directory, http, sessions, running, system: served }
  let schedule: RunningSchedule | undefined
  try {
    const url = await listen(http, config)
    if (!isLoopbackHost(listenHost)) {
      log({ level: 'warn', message: `${url} can be reached from other machines, without encryption` })
    }
    const startedAt = new Date(clock.wallMs()).toISOString()
    await directory.announce({ version: 1, url, pid: process.pid, startedAt, system: config.system })
    const { settleMs } = limits
    const quickSettleMs = processesIn(config).length === 0 ? 0 : settleMs
    const { operations } = served
    schedule = await startSchedule({
      config,
      catalog: served.catalog,
      operations,
      running,
      clock,
      events,
      log,
      settleMs: quickSettleMs,
    })
    log({ level: 'info', message: `The server of "${config.system}" listens at ${url}` })
    let closing: Promise<void> | undefined
    const close = () => {
      schedule?.stop()
      closing ??= shutDown(parts, { clock, log, stopMs: limits.stopMs })
      return closing
    }
    return { url, tokenFile: directory.tokenFile, close }
  } catch (error) {
    schedule?.stop()
    await shutDown(parts, { clock, log, stopMs: 0 })
    throw error
  }
}

async function listen({ app }: HttpApp, { server: { host, port }, path }: SystemConfig): Promise<string> {
  try {
    await app.listen({ host, port, exclusive: true, listenTextResolver: () => '' })
  } catch (cause) {
    if (isErrno(cause, 'EADDRINUSE')) {
      throw new Failure({
        code: 'port_in_use',
        message: `Another program listens on ${host}, port ${port}`,
        hint: `Stop it, or set "server.port" in ${path} to another port; 0 takes any free one.`,
        cause,
      })
    }
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new Failure({
      code: 'address_unusable',
      message: `The server cannot listen on ${host}, port ${port}: ${why}`,
      hint: `Set "server.host" in ${path} to an address of this machine; ports below 1024 need a privilege.`,
      cause,
    })
  }
  const address = app.server.address()
  if (address === null || typeof address === 'string') throw new Error('a server that listens has no address')
  // Listening everywhere is no address to call; the loopback is one of everywhere.
  const reached = address.address === '0.0.0.0' ? '127.0.0.1' : address.address === '::' ? '::1' : address.address
  return `http://${address.family === 'IPv6' ? `[${reached}]` : reached}:${address.port}`
}

function isLoopbackHost(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.')
}

/**
 * In this order: nothing new begins; what runs is cancelled, and releases its holds over sessions that are still open;
 * then the sessions; then what they all stood on.
 */
async function shutDown(
  { directory, http, sessions, running, system }: Parts,
  { clock, log, stopMs }: { readonly clock: Clock; readonly log: Log; readonly stopMs: number },
): Promise<void> {
  const failures: unknown[] = []
  const step = async (what: string, work: () => Promise<unknown>) => {
    try {
      await work()
    } catch (error) {
      // The steps after this one must be taken all the same: the lock must end, the files must go.
      log({ level: 'error', message: `${what} failed while the server was being stopped`, error })
      failures.push(error)
    }
  }
  http.stop()
  await step('Cancelling operations', async () => {
    const all = running.stop().then(() => true)
    if (await within(all, stopMs, clock)) return
    log({ level: 'error', message: 'An operation did not end in time; its holds end at their leases' })
  })
  sessions.close()
  await step('Closing the connections', async () => {
    const closed = http.app.close()
    const stop = clock.after(closeMs, () => http.app.server.closeAllConnections())
    await closed
    stop()
  })
  await step('Closing the operations', () => system.operations.close())
  await step('Removing the announcement', () => directory.release())
  if (failures.length > 0) throw failures[0]
}

const closeMs = 1_000

function within(work: Promise<boolean>, waitMs: number, clock: Clock): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const stop = clock.after(waitMs, () => resolve(false))
    work.then(resolve, reject).finally(stop)
  })
}
