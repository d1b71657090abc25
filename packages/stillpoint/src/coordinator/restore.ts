/**
 * Restores a snapshot: a cut backwards. All targets are checked, all are replaced, each is verified, then the system is
 * switched to a new generation (C9).
 *
 * Owns: the order of these steps, the record of them in the catalog of the target's system, and what is said when they
 * end in the middle. Does not own: how one store is replaced (its source).
 *
 * Invariants:
 * - Nothing is changed before every target was checked and every byte to be restored was read.
 * - A target is in the catalog as begun before its first change and as replaced after its last one, so that a crash in
 *   the middle is known at the next start.
 * - The generation changes in one step with the offers to the processes, after everything was verified, and only in the
 *   system of the targets. It stays where only stores are restored of a system that has processes: those go on in the
 *   generation that they are in, and `damage` says what that breaks.
 * - Targets are replaced one after the other: when one fails, those behind it are as they were.
 */
import { rm } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { RestoreOffer } from '@stillpoint/core'
import { describeFailure, Failure, type ParticipantName } from '@stillpoint/core/kernel'
import type { Repository, Snapshot, TreeId } from '@stillpoint/repository'
import { Agent } from '../agent/agent.ts'
import { channelsDir, channelsTo, directoryAt, participantsDir } from '../agent/snapshot-layout.ts'
import type { OperationLease, RestoreRecord } from '../catalog/catalog.ts'
import { processesIn, repositoryAddress } from '../config/system-config.ts'
import { damageOf } from './damage.ts'
import { asOperation, interruptedText, type LocalSystem, newId } from './local-system.ts'
import type { OperationContext, RestoreRequest, RestoreResult } from './operations.ts'
import { noProcesses } from './process-directory.ts'
import { waitForProcesses } from './restore-processes.ts'
import {
  checkTargets,
  closeTargets,
  type OpenTarget,
  openTargets,
  type Selection,
  selectTargets,
  type TargetLoader,
} from './restore-target.ts'
import { findSystemSnapshot, readCertificateOf, readDocumentOf } from './snapshot-reader.ts'

type RestoredParticipant = RestoreResult['participants'][number]

export interface RestoreEnvironment {
  readonly system: LocalSystem
  readonly loadTarget: TargetLoader
}

export async function restoreSnapshot(
  { system, loadTarget }: RestoreEnvironment,
  request: RestoreRequest,
  context: OperationContext,
): Promise<RestoreResult> {
  if (request.toConfig === null || request.toConfig === system.config.path) {
    return asOperation(system, 'restore', context, async ({ lease, repository, interruptedRestores }) => {
      for (const restore of interruptedRestores) {
        context.onEvent({ type: 'note', participant: null, text: interruptedText(restore) })
      }
      return restoreInto({ source: system, target: system, lease, repository, interruptedRestores }, request, context)
    })
  }
  const repository = await system.repository()
  const { config, catalog } = await loadTarget(request.toConfig)
  try {
    const target = otherSystem(system, config, catalog)
    const since = new Date(system.clock.wallMs()).toISOString()
    const lease = await catalog.begin(config.system, { what: 'restore', pid: process.pid, host: hostname(), since })
    try {
      const interruptedRestores = await catalog.openRestores(config.system)
      return await restoreInto({ source: system, target, lease, repository, interruptedRestores }, request, context)
    } finally {
      await lease.end()
    }
  } finally {
    await catalog.close()
  }
}

/** The system of another configuration. Its processes are connected to its own server, not to this one. */
function otherSystem(system: LocalSystem, config: LocalSystem['config'], catalog: LocalSystem['catalog']): LocalSystem {
  const { clock, entropy } = system
  const scratchRoot = join(config.stateDir, 'scratch', config.system)
  const agent = new Agent({ clock, entropy, baseDir: config.baseDir, scratchRoot, openSource: system.agent.openSource })
  return { ...system, config, catalog, agent, processes: noProcesses }
}

interface Restore {
  readonly source: LocalSystem
  readonly target: LocalSystem
  readonly lease: OperationLease
  readonly repository: Repository
  readonly interruptedRestores: readonly RestoreRecord[]
}

async function restoreInto(
  restore: Restore,
  request: RestoreRequest,
  context: OperationContext,
): Promise<RestoreResult> {
  const { source, target, repository } = restore
  const id = newId(source)
  const phase = (name: 'check' | 'restore' | 'verify' | 'switch') =>
    context.onEvent({ type: 'phase', phase: name, attempt: 1 })
  phase('check')
  const snapshot = await findSystemSnapshot(repository, source.config.system, request.snapshot)
  const document = await readDocumentOf(repository, snapshot)
  const { certificate } = await readCertificateOf(repository, snapshot)
  const selection = selectTargets(document.participants, request.participants, target.config)
  refuseForeignProcesses(restore, selection)
  noteRunningWriters(target, selection, context)
  const options = { repository, root: snapshot.tree, agent: target.agent, restore: id, context }
  const targets = await openTargets(selection.stores, options)
  try {
    const trees = await treesToRead(repository, snapshot.tree, selection)
    await checkTargets(targets, { trees, replace: request.replace, repository, context })
    const run: Run = { ...restore, id, snapshot, selection, targets, replace: request.replace }
    await beginRecord(run)
    phase('restore')
    const replaced = await replaceAll(run, context)
    phase('verify')
    const stores = await verifyAll(run, replaced, context)
    phase('switch')
    const switched = await switchOver(run, context)
    const restored = new Set<string>([...stores, ...switched.processes].map(({ name }) => name))
    const damage = [...damageOf(certificate, restored), ...switched.damage]
    const { generation } = switched
    return { id: snapshot.id, restore: id, generation, participants: [...stores, ...switched.processes], damage }
  } finally {
    await closeTargets(targets, context)
    await rm(target.agent.scratchDir('restores', id), { recursive: true, force: true })
  }
}

interface Run extends Restore {
  readonly id: string
  readonly snapshot: Snapshot
  readonly selection: Selection
  readonly targets: readonly OpenTarget[]
  readonly replace: boolean
}

/** A process is restored by its own system's server, from that system's repository. */
function refuseForeignProcesses({ source, target }: Restore, { processes }: Selection): void {
  const [process] = processes
  if (
    process === undefined ||
    repositoryAddress(source.config.repository) === repositoryAddress(target.config.repository)
  )
    return
  throw new Failure({
    code: 'target_repository_differs',
    message: `"${process.name}" cannot be restored into ${target.config.path}: its repository is another one`,
    hint: 'Let both configurations name the same repository, or choose only stores with --participant.',
  })
}

/** A writer that runs may write into what is being replaced. Nothing holds it: that is for the user to know. */
function noteRunningWriters(target: LocalSystem, { stores }: Selection, { onEvent }: OperationContext): void {
  const connected = new Set<string>(target.processes.connected().map(({ name }) => name))
  for (const { target: store } of stores) {
    if (store.writers === 'unknown') continue
    for (const writer of store.writers.filter((name) => connected.has(name))) {
      const text = `"${writer}" is running, and writes to this store while it is replaced`
      onEvent({ type: 'note', participant: store.name, text })
    }
  }
}

async function treesToRead(
  repository: Repository,
  root: TreeId,
  { stores, processes }: Selection,
): Promise<readonly TreeId[]> {
  const paths = [...stores, ...processes].map(({ summary }) => `${participantsDir}/${summary.name}`)
  for (const { name } of processes) {
    for (const channel of await channelsTo(repository, root, name)) paths.push(`${channelsDir}/${channel}`)
  }
  return Promise.all(paths.map(async (path) => (await directoryAt(repository, root, path)).subtree))
}

function beginRecord({ lease, id, snapshot, targets, source, target }: Run): Promise<void> {
  const stores = targets.map(({ name }) => name)
  return lease.beginRestore({ restore: id, snapshot: snapshot.id, ownTargets: source === target, stores })
}

async function replaceAll(run: Run, context: OperationContext): Promise<readonly RestoredParticipant[]> {
  const { lease, id, targets, replace } = run
  const done: RestoredParticipant[] = []
  for (const { name, session, parts, notes } of targets) {
    try {
      context.signal.throwIfAborted()
      await lease.markTarget(id, name, 'begun')
      const report = await session.restore(parts, { replace }, context.signal)
      await lease.markTarget(id, name, 'replaced')
      context.onEvent({ type: 'progress', participant: name, bytes: report.bytes, bytesTotal: report.bytes, files: 0 })
      done.push({ name, outcome: 'restored', bytes: report.bytes, checks: [], notes: [...report.notes, ...notes] })
    } catch (error) {
      if (done.length === 0) await lease.closeRestore(id, `it failed at ${name} before anything was replaced`)
      throw failedAt(name, { error, done: done.map((each) => each.name), run, context })
    }
  }
  return done
}

function failedAt(
  name: ParticipantName,
  {
    error,
    done,
    run,
    context,
  }: {
    readonly error: unknown
    readonly done: readonly string[]
    readonly run: Run
    readonly context: OperationContext
  },
): unknown {
  const report = describeFailure(error)
  const code = context.signal.aborted ? 'interrupted' : report.code
  const untouched = run.targets.map((target) => target.name).filter((each) => each !== name && !done.includes(each))
  const rest = untouched.length === 0 ? '' : `; as before: ${untouched.join(', ')}`
  const own = `"${name}" keeps its old state, where its store allows that`
  if (done.length === 0) {
    return new Failure({
      code,
      message: `The restore failed at "${name}" before anything was replaced: ${report.message}. ${own}${rest}`,
      ...(report.hint === undefined ? {} : { hint: report.hint }),
      cause: error,
    })
  }
  const short = run.snapshot.id.slice(0, 8)
  return new Failure({
    code: code === 'interrupted' ? code : 'restore_incomplete',
    message: `The restore failed at "${name}": ${report.message}. Replaced already, and now as in snapshot ${short}: ${done.join(', ')}. ${own}${rest}`,
    hint: `Remove the cause${report.hint === undefined ? '' : ` (${report.hint})`} and restore all of it again with --replace: of snapshot ${short}, or of another one to go back to. Until then no snapshot is taken.`,
    cause: error,
  })
}

async function verifyAll(
  { targets, snapshot }: Run,
  replaced: readonly RestoredParticipant[],
  context: OperationContext,
): Promise<readonly RestoredParticipant[]> {
  const verified: RestoredParticipant[] = []
  const broken: string[] = []
  for (const { name, session, parts } of targets) {
    const { checks } = await session.verify(parts, context.signal)
    for (const check of checks) if (!check.passed) broken.push(`${name}: ${check.name}: ${check.detail}`)
    const done = replaced.find((each) => each.name === name)
    if (done !== undefined) verified.push({ ...done, checks })
  }
  if (broken.length === 0) return verified
  throw new Failure({
    code: 'verification_failed',
    message: `All targets were replaced, and are not what snapshot ${snapshot.id.slice(0, 8)} holds: ${broken.join('; ')}`,
    hint: 'Somebody may be writing to them: stop what does, and restore again with --replace. The generation was not changed.',
  })
}

interface Switched {
  readonly generation: number
  readonly processes: readonly RestoredParticipant[]
  readonly damage: readonly string[]
}

async function switchOver(run: Run, context: OperationContext): Promise<Switched> {
  const { lease, id, selection, target } = run
  const declared = processesIn(target.config)
  const names = selection.processes.map(({ name }) => name)
  if (declared.length > 0 && names.length === 0) {
    await lease.closeRestore(id, 'only stores were restored: the generation stays')
    await closeSuperseded(run)
    const { generation } = await target.catalog.counters(target.config.system)
    return { generation, processes: [], damage: [] }
  }
  const offer = await lease.switchRestore(id, names)
  await closeSuperseded(run)
  const left = declared.filter(({ name }) => !names.includes(name))
  const damage = left.map(
    ({ name }) =>
      `broken link: ${name} is still of the generation before; start it again, so that it joins generation ${offer.generation}`,
  )
  return { generation: offer.generation, processes: await offerAll(run, offer, context), damage }
}

/** A restore that was interrupted is made good by one that has replaced all that it had begun. */
async function closeSuperseded({ lease, interruptedRestores, targets, id }: Run): Promise<void> {
  for (const { restore, begun } of interruptedRestores) {
    if (begun.every((name) => targets.some((target) => target.name === name))) {
      await lease.closeRestore(restore, `made good by ${id}`)
    }
  }
}

async function offerAll(
  { target, selection }: Run,
  offer: RestoreOffer,
  context: OperationContext,
): Promise<readonly RestoredParticipant[]> {
  const names = selection.processes.map(({ name }) => name)
  const outcomes = await waitForProcesses({ target, offer, names, signal: context.signal })
  return selection.processes.map(({ name, summary }): RestoredParticipant => {
    const { outcome, notes } = outcomes.get(name) ?? { outcome: 'waiting', notes: [] }
    return { name, outcome, bytes: summary.bytes, checks: [], notes }
  })
}
