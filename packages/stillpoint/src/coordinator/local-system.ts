/**
 * One system as this process works on it, and the frame around every operation that changes it.
 *
 * Owns: the operation lock's life, and what is found undone when an operation begins: cuts that were never closed, the
 * scratch of a crash, a catalog that is new or was lost. Does not own: any operation.
 *
 * Invariants:
 * - A cut that is found open has one outcome (C6): sealed if its snapshot is in the repository, aborted if not; then
 *   every connected process of it is told to let go (C7).
 * - A catalog that has not seen this repository learns from it which generations, epochs and tokens there were.
 */
import { hostname } from 'node:os'
import type { CutRef } from '@stillpoint/core'
import { type Clock, type Entropy, Failure, type Random } from '@stillpoint/core/kernel'
import type { Repository, Snapshot } from '@stillpoint/repository'
import type { Agent } from '../agent/agent.ts'
import type { Catalog, OpenCut, OperationLease, RestoreRecord } from '../catalog/catalog.ts'
import type { SystemConfig } from '../config/system-config.ts'
import type { OperationContext } from './operations.ts'
import type { ProcessDirectory } from './process-directory.ts'
import { cutTag } from './seal.ts'
import type { SnapshotDocument } from './snapshot-document.ts'
import { readDocumentOf, systemSnapshots } from './snapshot-reader.ts'

export interface LocalSystem {
  readonly config: SystemConfig
  readonly catalog: Catalog
  readonly agent: Agent
  readonly processes: ProcessDirectory
  readonly clock: Clock
  readonly random: Random
  readonly entropy: Entropy
  /** Opened at the first call, and kept. @throws Failure `repository_absent`, `password_wrong`, … */
  readonly repository: () => Promise<Repository>
}

export interface OperationFrame {
  readonly lease: OperationLease
  readonly repository: Repository
  /** Restores that ended in the middle: some targets hold the snapshot's state, others do not. */
  readonly interruptedRestores: readonly RestoreRecord[]
}

/** Runs `body` as the only operation that changes the system. @throws Failure `system_busy`, and what `body` throws */
export async function asOperation<T>(
  system: LocalSystem,
  what: string,
  context: OperationContext,
  body: (frame: OperationFrame) => Promise<T>,
): Promise<T> {
  const { config, catalog, clock } = system
  context.signal.throwIfAborted()
  // First: without it nothing can be done, and its failures have exit codes of their own.
  const repository = await system.repository()
  await rebuildCatalog(system, repository, context)
  const since = new Date(clock.wallMs()).toISOString()
  const lease = await catalog.begin(config.system, { what, pid: process.pid, host: hostname(), since })
  try {
    await system.agent.cleanScratch()
    // Of processes of this machine that were killed, ours among them: others would wait half an hour for them.
    await repository.unlock()
    await closeOpenCuts(system, lease, repository)
    const interruptedRestores = await closeUntouchedRestores(system, lease)
    return await body({ lease, repository, interruptedRestores })
  } finally {
    await lease.end()
  }
}

/** A catalog that is new, or that was lost, learns from the repository what it must not hand out again (K4, K5). */
export async function rebuildCatalog(
  { config, catalog, clock }: LocalSystem,
  repository: Repository,
  context: OperationContext,
): Promise<void> {
  if (await catalog.isRebuilt(config.system, repository.id)) return
  let generation = 1
  let epoch = 0
  let fencing = 0
  for (const snapshot of await systemSnapshots(repository, config.system, context)) {
    const document = await readableDocument(repository, snapshot, context)
    if (document === undefined) continue
    generation = Math.max(generation, document.generation)
    epoch = Math.max(epoch, document.epoch)
    fencing = Math.max(fencing, document.plan.fencing)
  }
  // Attempts that were never sealed have had tokens, too, which processes may remember and the repository does not.
  // The time of day is past them all if the clock was ever right; if it was not, nothing is worse than without it.
  await catalog.raise(
    config.system,
    { generation, epoch, fencing: Math.max(fencing, Math.floor(clock.wallMs())) },
    repository.id,
  )
}

/** One snapshot that is damaged must not keep the others from being followed by another. */
async function readableDocument(
  repository: Repository,
  snapshot: Snapshot,
  context: OperationContext,
): Promise<SnapshotDocument | undefined> {
  try {
    return await readDocumentOf(repository, snapshot)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const text = `snapshot ${snapshot.id.slice(0, 8)} cannot be read: ${error.message}`
    context.onEvent({ type: 'note', participant: null, text })
    return undefined
  }
}

async function closeOpenCuts(system: LocalSystem, lease: OperationLease, repository: Repository): Promise<void> {
  for (const open of await system.catalog.openCuts(lease.system)) {
    const [sealed] = await repository.snapshots({ filter: { tags: [cutTag(open.cut)] } })
    if (sealed !== undefined) await lease.closeCut(open.cut, { outcome: 'sealed', snapshot: sealed.id })
    else await lease.closeCut(open.cut, { outcome: 'aborted', reason: 'its coordinator ended before it' })
    releaseProcesses(system.processes, open, sealed === undefined ? 'aborted' : 'sealed')
  }
}

function releaseProcesses(processes: ProcessDirectory, open: OpenCut, outcome: 'sealed' | 'aborted'): void {
  const { cut, epoch, generation, fencing } = open
  const ref: CutRef = { cut, epoch, generation, fencing }
  for (const process of processes.connected()) {
    // A process that is not connected any more has let go when it lost its connection.
    if (open.processes.includes(process.name)) processes.send(process, { type: 'release', ref, outcome })
  }
}

async function closeUntouchedRestores(
  { catalog }: LocalSystem,
  lease: OperationLease,
): Promise<readonly RestoreRecord[]> {
  const interrupted: RestoreRecord[] = []
  for (const restore of await catalog.openRestores(lease.system)) {
    if (restore.begun.length > 0) interrupted.push(restore)
    else await lease.closeRestore(restore.restore, 'it ended before the first change')
  }
  return interrupted
}

/** @throws Failure `restore_incomplete` */
export function refuseInterrupted(restores: readonly RestoreRecord[]): void {
  const [restore] = restores
  if (restore === undefined) return
  throw new Failure({ code: 'restore_incomplete', message: interruptedText(restore), hint: interruptedHint(restore) })
}

export function interruptedText({ snapshot, stores, begun, replaced }: RestoreRecord): string {
  const unclear = begun.filter((name) => !replaced.includes(name))
  const untouched = stores.filter((name) => !begun.includes(name))
  const parts = [
    replaced.length > 0 ? `replaced: ${replaced.join(', ')}` : '',
    unclear.length > 0 ? `was being replaced: ${unclear.join(', ')}` : '',
    untouched.length > 0 ? `as before: ${untouched.join(', ')}` : '',
  ]
  const state = parts.filter((part) => part !== '').join('; ')
  return `A restore of snapshot ${snapshot.slice(0, 8)} was interrupted in the middle (${state})`
}

function interruptedHint({ snapshot }: RestoreRecord): string {
  return `Restore it again, as a whole: stillpoint restore ${snapshot.slice(0, 8)} --replace`
}

/** Waits, unless the signal says otherwise. */
export function wait(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const onAbort = () => {
      stop()
      reject(signal.reason)
    }
    const stop = clock.after(delayMs, () => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    })
    signal.addEventListener('abort', onAbort, { once: true })
  })
}

/** A new id for a cut or a restore: when, for people who read logs, and 64 random bits. */
export function newId({ clock, entropy }: Pick<LocalSystem, 'clock' | 'entropy'>): string {
  const bytes = new Uint8Array(8)
  entropy.fill(bytes)
  const time = new Date(clock.wallMs()).toISOString().replaceAll(/[-:]|\.\d+/g, '')
  return `${time}-${Buffer.from(bytes).toString('hex')}`
}
