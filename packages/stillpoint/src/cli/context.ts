/**
 * The system that a command is about: its configuration, and who carries out the operations: the running server of its
 * state directory, or this process.
 */
import { resolve } from 'node:path'
import { loadConfig, type OptionSchemas } from '../config/load.ts'
import type { SystemConfig } from '../config/system-config.ts'
import type { OperationContext, Operations } from '../coordinator/operations.ts'
import type { ConfigOptions, ProgressFlags } from './help.ts'
import { showProgress } from './progress.ts'
import type { CommandHost, CommandSession } from './session.ts'

// What only some commands need is imported when it is needed: `stillpoint --help` should not load database drivers.

/** The schemas of all sources' options. */
export async function optionSchemas(): Promise<OptionSchemas> {
  const { sources } = await import('../sources/registry.ts')
  return new Map([...sources].map(([kind, { optionsSchema }]) => [kind, optionsSchema]))
}

/**
 * @param path as the user gave it; relative to the host's working directory
 * @throws Failure `config_…`
 */
export async function readConfig(host: CommandHost, path: string): Promise<SystemConfig> {
  const absolute = resolve(host.cwd, path)
  return loadConfig(absolute, { optionSchemas: await optionSchemas(), shownAs: path })
}

export interface OpenedSystem {
  readonly config: SystemConfig
  readonly operations: Operations
  /** URL of the server that carries out the operations; null where this process does. */
  readonly server: string | null
}

export async function openSystem(host: CommandHost, options: ConfigOptions): Promise<OpenedSystem> {
  const config = await readConfig(host, options.config)
  return { config, ...(await openOperations(host, config)) }
}

export async function openOperations(host: CommandHost, config: SystemConfig): Promise<Omit<OpenedSystem, 'config'>> {
  const { clock, random, entropy } = host
  const { findServer } = await import('../server/find-server.ts')
  const server = await findServer(config.stateDir, host.signal)
  if (server !== null) {
    const { connectOperations } = await import('../server/client.ts')
    return { operations: connectOperations({ url: server.url, token: server.token, clock }), server: server.url }
  }
  const { openLocalOperations } = await import('../coordinator/local-operations.ts')
  return { operations: await openLocalOperations({ config, clock, random, entropy }), server: null }
}

/** Runs one piece of work on a system with its progress shown, and closes everything whatever happens. */
export async function withSystem<T>(
  session: CommandSession,
  options: ConfigOptions & ProgressFlags,
  work: (system: OpenedSystem, context: OperationContext) => Promise<T>,
): Promise<T> {
  const system = await openSystem(session.host, options)
  return withOperations(session, { system, verbose: options.verbose === true }, work)
}

export async function withOperations<T>(
  { host, output }: CommandSession,
  { system, verbose }: { readonly system: OpenedSystem; readonly verbose: boolean },
  work: (system: OpenedSystem, context: OperationContext) => Promise<T>,
): Promise<T> {
  const progress = showProgress({ output, clock: host.clock, verbose })
  try {
    return await work(system, { signal: host.signal, onEvent: progress.onEvent })
  } finally {
    progress.end()
    await system.operations.close()
  }
}

/** Names of the processes that are connected to the running server; null where no server runs. */
export async function connectedProcesses(host: CommandHost, config: SystemConfig): Promise<ReadonlySet<string> | null> {
  const { findServer } = await import('../server/find-server.ts')
  if ((await findServer(config.stateDir, host.signal)) === null) return null
  const { operations } = await openOperations(host, config)
  try {
    const status = await operations.status({ signal: host.signal, onEvent: () => {} })
    return new Set(status.participants.flatMap(({ name, state }) => (state === 'connected' ? [name] : [])))
  } finally {
    await operations.close()
  }
}
