/**
 * Takes a snapshot: attempts at a cut until one is sealed.
 *
 * Owns: planning an attempt, and when another one follows. Does not own: the attempt (cut-run.ts), the seal (seal.ts).
 *
 * Invariants: each attempt is a cut of its own, with a new id and a new epoch, in the catalog before anybody is asked
 * anything; only failures that say `retry: later` are followed by another attempt.
 */
import { createHash } from 'node:crypto'
import { canonicalPlan, makePlan, type Plan } from '@stillpoint/core'
import { type CutId, describeFailure, Failure, type FailureReport, failureFrom } from '@stillpoint/core/kernel'
import { processesIn, storesIn } from '../config/system-config.ts'
import { type CutResult, runCut } from './cut-run.ts'
import { asOperation, type LocalSystem, newId, type OperationFrame, refuseInterrupted, wait } from './local-system.ts'
import type { OperationContext, SnapshotDetail, TakeRequest } from './operations.ts'
import { noProcesses } from './process-directory.ts'
import { sealCut } from './seal.ts'
import { summaryOfDetail } from './snapshot-document.ts'
import { findSystemSnapshot, snapshotDetail } from './snapshot-reader.ts'

const tagPattern = /^[^\s,=\p{Cc}]{1,64}$/u

export async function takeSnapshot(
  system: LocalSystem,
  request: TakeRequest,
  context: OperationContext,
): Promise<SnapshotDetail> {
  for (const tag of request.tags) checkTag(tag)
  return asOperation(system, 'take', context, async (frame) => {
    if (!request.allowInconsistent) refuseInterrupted(frame.interruptedRestores)
    const id = await takeWithRetries(system, frame, request, context)
    const { repository } = frame
    const detail = await snapshotDetail(repository, await findSystemSnapshot(repository, system.config.system, id))
    await system.catalog.cacheSnapshot(system.config.system, id, JSON.stringify(summaryOfDetail(detail)))
    return detail
  })
}

function checkTag(tag: string): void {
  if (tagPattern.test(tag)) return
  throw new Failure({
    code: 'tag_invalid',
    message: `${JSON.stringify(tag.slice(0, 80))} is not a valid tag`,
    hint: 'Use 1 to 64 characters without spaces, commas and "=".',
  })
}

async function takeWithRetries(
  system: LocalSystem,
  frame: OperationFrame,
  request: TakeRequest,
  context: OperationContext,
): Promise<string> {
  const { attempts, backoffMs } = system.config.retries
  for (let attempt = 1; ; attempt += 1) {
    const failure = await attemptFailure(() => attemptCut(system, frame, { request, attempt, context }))
    if (typeof failure === 'string') return failure
    if (failure.retry === 'never' || attempt >= attempts || context.signal.aborted) throw failureFrom(failure)
    // Half to one and a half of the doubling delay: two systems that disturbed each other do not meet again.
    const delayMs = Math.round(backoffMs * 2 ** (attempt - 1) * (0.5 + system.random.uint32() / 2 ** 32))
    context.onEvent({ type: 'retry', attempt, delayMs, failure })
    await wait(system.clock, delayMs, context.signal).catch(() => {
      throw interruptedBetween(context.signal, failure)
    })
  }
}

/** The snapshot's id, or why there is none. Only failures of the world are answers. */
async function attemptFailure(attempt: () => Promise<CutResult>): Promise<string | FailureReport> {
  try {
    const result = await attempt()
    return result.kind === 'sealed' ? result.snapshot : result.failure
  } catch (error) {
    if (error instanceof Failure) return describeFailure(error)
    throw error
  }
}

function interruptedBetween(signal: AbortSignal, last: FailureReport): Failure {
  const reason: unknown = signal.reason
  if (reason instanceof Failure) return reason
  return new Failure({
    code: 'interrupted',
    message: `The snapshot was interrupted between two attempts; nothing was stored. The last one failed: ${last.message}`,
  })
}

interface Attempt {
  readonly request: TakeRequest
  readonly attempt: number
  readonly context: OperationContext
}

async function attemptCut(system: LocalSystem, frame: OperationFrame, options: Attempt): Promise<CutResult> {
  const { config, agent, clock, processes } = system
  const { lease, repository } = frame
  const { request, attempt, context } = options
  context.onEvent({ type: 'phase', phase: 'plan', attempt })
  const plan = await planAttempt(system, frame, request)
  await lease.openCut(plan)
  // When this throws, whether it was sealed is not known: the cut stays open, and the next operation finds out.
  const result = await runCut({
    plan,
    planDigest: createHash('sha256').update(canonicalPlan(plan)).digest('hex'),
    attempt,
    lease,
    clock,
    processes,
    openStores: (onFact, note) => agent.openCut({ plan, stores: storesIn(config), repository, onFact, note }),
    seal: (sealing, { save, uploads }) => sealCut({ ...sealing, repository, save, uploads, tags: request.tags }),
    signal: context.signal,
    onEvent: context.onEvent,
  })
  if (result.kind === 'sealed') await lease.closeCut(plan.cut, { outcome: 'sealed', snapshot: result.snapshot })
  else await lease.closeCut(plan.cut, { outcome: 'aborted', reason: result.failure.message })
  return result
}

async function planAttempt(system: LocalSystem, { lease }: OperationFrame, request: TakeRequest): Promise<Plan> {
  const { config, catalog, processes } = system
  const declared = processesIn(config)
  const connected = processes.connected().filter(({ name }) => declared.some((process) => process.name === name))
  const absent = declared.filter(({ name }) => !connected.some((process) => process.name === name))
  if (absent.length > 0)
    throw participantAbsent(
      absent.map(({ name }) => name),
      processes === noProcesses,
    )
  const waiting = (await catalog.pendingRestores(config.system)).filter(({ participant }) =>
    declared.some(({ name }) => name === participant),
  )
  if (waiting.length > 0) throw restorePending(waiting.map(({ participant }) => participant))
  const { epoch, generation } = await lease.nextEpoch()
  return makePlan({
    system: config.system,
    cut: newId(system) as CutId,
    epoch,
    generation,
    fencing: lease.fencing,
    stores: storesIn(config),
    processes: connected,
    deadlines: config.deadlines,
    allowInconsistent: request.allowInconsistent,
  })
}

function participantAbsent(names: readonly string[], isOneShot: boolean): Failure {
  const quoted = names.map((name) => `"${name}"`).join(', ')
  if (isOneShot) {
    return new Failure({
      code: 'participant_absent',
      message: `${quoted} can take part only through a running server`,
      hint: 'Start one with "stillpoint up"; the processes connect to it, and "stillpoint take" finds it.',
    })
  }
  return new Failure({
    code: 'participant_absent',
    message: `${quoted} ${names.length === 1 ? 'is' : 'are'} not connected`,
    hint: 'Start what is missing, or take it out of the participants: a snapshot without it would not be of the system.',
    retry: 'later',
  })
}

function restorePending(names: readonly string[]): Failure {
  return new Failure({
    code: 'restore_pending',
    message: `${names.map((name) => `"${name}"`).join(', ')} ${names.length === 1 ? 'has' : 'have'} not been through the last restore yet`,
    hint: 'Start what is not connected: it is restored when it joins. Then take the snapshot again.',
    retry: 'later',
  })
}
