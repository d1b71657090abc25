/**
 * The targets of a restore: which participant of the snapshot goes where, and whether each can take it.
 *
 * Owns: the mapping, the sessions on the targets, and the check of all of them before any is changed.
 * Does not own: the changes (restore.ts).
 */
import { join } from 'node:path'
import { describeFailure, Failure, type ParticipantName } from '@stillpoint/core/kernel'
import type { Repository, TreeId } from '@stillpoint/repository'
import type { Agent } from '../agent/agent.ts'
import { directoryAt, participantsDir } from '../agent/snapshot-layout.ts'
import { openStoredParts } from '../agent/stored-parts.ts'
import type { Catalog } from '../catalog/catalog.ts'
import type { StoreConfig, SystemConfig } from '../config/system-config.ts'
import type { Parts, SourceSession } from '../sources/source.ts'
import type { OperationContext, ParticipantSummary } from './operations.ts'
import { readAllData } from './read-data.ts'

/** Another system, for `restore --to`. `close` closes its catalog. */
export type TargetLoader = (path: string) => Promise<{ readonly config: SystemConfig; readonly catalog: Catalog }>

export interface Selection {
  readonly stores: readonly { readonly summary: ParticipantSummary; readonly target: StoreConfig }[]
  readonly processes: readonly { readonly summary: ParticipantSummary; readonly name: ParticipantName }[]
}

/**
 * @param wanted names; empty: all
 * @throws Failure `participant_unknown`, `target_missing`, `target_differs`
 */
export function selectTargets(
  participants: readonly ParticipantSummary[],
  wanted: readonly string[],
  config: SystemConfig,
): Selection {
  const stores: Selection['stores'][number][] = []
  const processes: Selection['processes'][number][] = []
  for (const name of wanted) {
    if (participants.some((participant) => participant.name === name)) continue
    throw new Failure({
      code: 'participant_unknown',
      message: `The snapshot has no participant ${JSON.stringify(name.slice(0, 80))}`,
      hint: `It has: ${participants.map((participant) => participant.name).join(', ')}`,
    })
  }
  for (const summary of participants) {
    if (wanted.length > 0 && !wanted.includes(summary.name)) continue
    const target = config.participants.find(({ name }) => name === summary.name)
    if (target === undefined) throw targetMissing(summary.name, config)
    if (target.kind === 'process' && summary.kind === 'process') processes.push({ summary, name: target.name })
    else if (target.kind === 'store' && summary.source === target.source) stores.push({ summary, target })
    else throw targetDiffers(summary, target.kind === 'store' ? target.source : 'a process', config)
  }
  return { stores, processes }
}

function targetMissing(name: string, config: SystemConfig): Failure {
  return new Failure({
    code: 'target_missing',
    message: `${config.path} has no participant "${name}" to restore into`,
    hint: `Declare it there, or choose others with --participant.`,
  })
}

function targetDiffers(summary: ParticipantSummary, found: string, config: SystemConfig): Failure {
  return new Failure({
    code: 'target_differs',
    message: `"${summary.name}" was captured from ${summary.source}; in ${config.path} it is ${found}`,
    hint: 'Give that participant another name there, and declare one of the same kind.',
  })
}

export interface OpenTarget {
  readonly name: ParticipantName
  readonly session: SourceSession
  readonly parts: Parts
  readonly notes: string[]
}

export interface OpenTargetsOptions {
  readonly repository: Repository
  readonly root: TreeId
  readonly agent: Agent
  readonly restore: string
  readonly context: OperationContext
}

/** Sessions on all targets, or on none. @throws the first failure, naming its target */
export async function openTargets(
  stores: Selection['stores'],
  options: OpenTargetsOptions,
): Promise<readonly OpenTarget[]> {
  const { repository, root, agent, restore, context } = options
  const opened = await Promise.allSettled(
    stores.map(async ({ target }): Promise<OpenTarget> => {
      const notes: string[] = []
      const { subtree } = await directoryAt(repository, root, `${participantsDir}/${target.name}`)
      const parts = await openStoredParts(repository, subtree, (text) => notes.push(text))
      const session = await agent.openSession(target, {
        scratchDir: agent.scratchDir(join('restores', restore), target.name),
        note: (participant, text) => context.onEvent({ type: 'note', participant, text }),
        signal: context.signal,
      })
      return { name: target.name, session, parts, notes }
    }),
  )
  const targets = opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  const failures = stores.flatMap(({ target }, at): [string, unknown][] => {
    const result = opened[at]
    return result?.status === 'rejected' ? [[target.name, result.reason]] : []
  })
  if (failures.length === 0) return targets
  await closeTargets(targets, context)
  throw refused(failures)
}

/** Whether every target can take its part now, and every byte of it can be read. Nothing is changed. */
export async function checkTargets(
  targets: readonly OpenTarget[],
  {
    trees,
    replace,
    repository,
    context,
  }: {
    readonly trees: readonly TreeId[]
    readonly replace: boolean
    readonly repository: Repository
    readonly context: OperationContext
  },
): Promise<void> {
  const failures: [string, unknown][] = []
  for (const { name, session, parts } of targets) {
    try {
      await session.checkTarget(parts, { replace }, context.signal)
    } catch (error) {
      context.signal.throwIfAborted()
      failures.push([name, error])
    }
  }
  if (failures.length > 0) throw refused(failures)
  for (const tree of trees) {
    const { problems } = await readAllData(repository, tree, {
      signal: context.signal,
      onProgress: ({ bytes, files }) =>
        context.onEvent({ type: 'progress', participant: '', bytes, bytesTotal: null, files }),
    })
    if (problems.length === 0) continue
    throw new Failure({
      code: 'snapshot_damaged',
      message: `Nothing was restored, for not all data of the snapshot can be read: ${problems.join('; ')}`,
      hint: 'Choose another snapshot. "stillpoint verify" tells which are whole.',
    })
  }
}

/** All failures in one, with the code of the first. */
function refused(failures: readonly (readonly [string, unknown])[]): unknown {
  const [first] = failures
  const unexpected = failures.find(([, error]) => !(error instanceof Failure))
  if (first === undefined || unexpected !== undefined) return unexpected?.[1]
  const reports = failures.map(([name, error]) => ({ name, ...describeFailure(error) }))
  const text = reports.map(({ name, message }) => (message.includes(name) ? message : `${name}: ${message}`)).join('; ')
  const { code, hint, retry } = describeFailure(first[1])
  return new Failure({
    code,
    message: `Nothing was restored: ${text}`,
    retry,
    cause: first[1],
    ...(hint === undefined ? {} : { hint }),
  })
}

export async function closeTargets(targets: readonly OpenTarget[], context: OperationContext): Promise<void> {
  await Promise.all(
    targets.map(async ({ name, session }) => {
      try {
        await session.close()
      } catch (error) {
        context.onEvent({ type: 'note', participant: name, text: `closing failed: ${describeFailure(error).message}` })
      }
    }),
  )
}
