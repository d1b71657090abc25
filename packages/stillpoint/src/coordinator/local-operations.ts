/**
 * The operations on a system, carried out in this process.
 *
 * Owns: what they share (the opened repository, the agent, the catalog) and its end. Does not own: the operations
 * themselves, one file each.
 *
 * Invariant: after `close`, nothing of this process holds a store, a lock or a file of the system.
 */
import { join } from 'node:path'
import { type Clock, type Entropy, Failure, type Random } from '@stillpoint/core/kernel'
import type { Repository } from '@stillpoint/repository'
import { Agent, type OpenSource } from '../agent/agent.ts'
import type { ProcessCaptures } from '../agent/process-captures.ts'
import { ProcessRestores } from '../agent/process-restores.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { openSqliteCatalog } from '../catalog/sqlite-catalog.ts'
import { loadConfig } from '../config/load.ts'
import { processesIn, type SystemConfig } from '../config/system-config.ts'
import { openSource, sources } from '../sources/registry.ts'
import { diffSnapshots } from './diff.ts'
import { asOperation, type LocalSystem } from './local-system.ts'
import { openConfiguredRepository } from './open-repository.ts'
import type { OperationContext, Operations, SystemStatus } from './operations.ts'
import { noProcesses, type ProcessDirectory } from './process-directory.ts'
import { restoreSnapshot } from './restore.ts'
import type { TargetLoader } from './restore-target.ts'
import { findSystemSnapshot, listSystemSnapshots, snapshotDetail } from './snapshot-reader.ts'
import { takeSnapshot } from './take.ts'
import { verifySnapshot } from './verify.ts'

export interface LocalOperationsOptions {
  readonly config: SystemConfig
  /** Closed by `close`. */
  readonly catalog: Catalog
  readonly processes: ProcessDirectory
  readonly openRepository: (signal: AbortSignal) => Promise<Repository>
  readonly openSource: OpenSource
  /** For `restore --to`: the other system's configuration and catalog. */
  readonly loadTarget: TargetLoader
  readonly clock: Clock
  readonly random: Random
  readonly entropy: Entropy
  /** What was to be said before any operation ran: told to the first one. */
  readonly notes?: string[]
}

export interface LocalOperations extends Operations {
  /** Where the server brings what processes upload, and reads what they are restored from. */
  readonly captures: ProcessCaptures
  readonly restores: ProcessRestores
}

export interface SystemEnvironment {
  readonly config: SystemConfig
  readonly clock: Clock
  readonly random: Random
  readonly entropy: Entropy
}

/** One shot: for systems of stores, without a server. @throws Failure `catalog_unusable`, `catalog_version_unsupported` */
export async function openLocalOperations(env: SystemEnvironment): Promise<Operations> {
  return (await openServedSystem({ ...env, processes: noProcesses })).operations
}

/** What the server serves (server/ports.ts). `operations.close` closes the catalog. @throws as above */
export async function openServedSystem(env: SystemEnvironment & { readonly processes: ProcessDirectory }) {
  const { config, clock, random, entropy } = env
  const notes: string[] = []
  const note = (text: string) => notes.push(text)
  const catalog = openSqliteCatalog({ directory: config.stateDir, note })
  const operations = localOperations({
    ...env,
    catalog,
    notes,
    openRepository: (signal) => openConfiguredRepository(config, { clock, random, entropy, signal, note }),
    openSource: ({ source, options }, sourceEnv, signal) => openSource(source, options, sourceEnv, signal),
    loadTarget: async (path) => {
      const optionSchemas = new Map([...sources].map(([kind, { optionsSchema }]) => [kind, optionsSchema]))
      const target = await loadConfig(path, { optionSchemas })
      return { config: target, catalog: openSqliteCatalog({ directory: target.stateDir, note }) }
    },
  })
  return { operations, catalog, captures: operations.captures, restores: operations.restores }
}

export function localOperations(options: LocalOperationsOptions): LocalOperations {
  const { config, catalog, processes, clock, random, entropy, openSource } = options
  const closing = new AbortController()
  const repository = keptRepository(() => options.openRepository(closing.signal))
  const running = new Set<Promise<unknown>>()
  const scratchRoot = join(config.stateDir, 'scratch', config.system)
  const agent = new Agent({ clock, entropy, baseDir: config.baseDir, scratchRoot, openSource })
  const system: LocalSystem = { config, catalog, agent, processes, clock, random, entropy, repository }

  /** What runs when the operations are closed is cancelled, and waited for. */
  function run<T>(context: OperationContext, operation: (context: OperationContext) => Promise<T>): Promise<T> {
    if (closing.signal.aborted) return Promise.reject(closing.signal.reason)
    const signal = AbortSignal.any([context.signal, closing.signal])
    for (const text of options.notes?.splice(0) ?? []) context.onEvent({ type: 'note', participant: null, text })
    const result = operation({ ...context, signal })
    running.add(result)
    const done = () => running.delete(result)
    result.then(done, done)
    return result
  }

  async function find(id: string) {
    const opened = await repository()
    return { repository: opened, snapshot: await findSystemSnapshot(opened, config.system, id) }
  }

  return {
    captures: agent.captures,
    restores: new ProcessRestores({ system: config.system, catalog, repository }),
    status: () => systemStatus(system),
    take: (request, context) => run(context, (inner) => takeSnapshot(system, request, inner)),
    list: (context) =>
      run(context, async (inner) =>
        listSystemSnapshots({ repository: await repository(), catalog, system: config.system }, inner),
      ),
    show: (id, context) =>
      run(context, async () => {
        const found = await find(id)
        return snapshotDetail(found.repository, found.snapshot)
      }),
    verify: (id, context) =>
      run(context, async (inner) => {
        const found = await find(id)
        return verifySnapshot(found.repository, found.snapshot, inner)
      }),
    diff: (from, to, context) =>
      run(context, async (inner) => {
        const [before, after] = [await find(from), await find(to)]
        return diffSnapshots(before.repository, { from: before.snapshot, to: after.snapshot }, inner)
      }),
    restore: (request, context) =>
      run(context, (inner) => restoreSnapshot({ system, loadTarget: options.loadTarget }, request, inner)),
    remove: (id, context) =>
      run(context, (inner) =>
        asOperation(system, 'delete', inner, async () => {
          const { repository: opened, snapshot } = await find(id)
          await opened.deleteSnapshot(snapshot.id)
          await catalog.dropCachedSnapshots(config.system, [snapshot.id])
          return { id: snapshot.id }
        }),
      ),
    async close() {
      closing.abort(new Failure({ code: 'interrupted', message: 'The operation was ended: the program is closing' }))
      await Promise.allSettled(running)
      await catalog.close()
    },
  }
}

/** Opened once; an opening that failed is tried again at the next call. */
function keptRepository(open: () => Promise<Repository>): () => Promise<Repository> {
  let kept: Promise<Repository> | undefined
  return () => {
    if (kept === undefined) {
      const opening = open()
      kept = opening
      opening.catch(() => {
        if (kept === opening) kept = undefined
      })
    }
    return kept
  }
}

async function systemStatus({ config, catalog, processes }: LocalSystem): Promise<SystemStatus> {
  const { generation, epoch } = await catalog.counters(config.system)
  const connected = new Set<string>(processes.connected().map(({ name }) => name))
  const restoring = new Set<string>(
    (await catalog.pendingRestores(config.system)).map(({ participant }) => participant),
  )
  const stateOf = (name: string) => {
    if (!connected.has(name)) return 'absent'
    return restoring.has(name) ? 'restoring' : 'connected'
  }
  const names = new Set<string>(processesIn(config).map(({ name }) => name))
  return {
    system: config.system,
    generation,
    epoch,
    participants: config.participants.map((participant) => ({
      name: participant.name,
      kind: participant.kind,
      source: participant.kind === 'store' ? participant.source : 'sdk',
      state: names.has(participant.name) ? stateOf(participant.name) : 'configured',
    })),
  }
}
