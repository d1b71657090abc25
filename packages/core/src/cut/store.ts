/**
 * The cut protocol of one store: a pure, synchronous state machine between the coordinator's orders and the source that
 * drives the store. The shell (agent/store-participant.ts) carries out the calls, one at a time, and answers them.
 *
 * Owns: the order of the calls, idempotence, the lease (C5), the statement whether the hold was unbroken, and that
 * nothing is left when the cut is over (C7). Does not own: what a call does; that is the source's.
 */
import { defined, unreachable } from '../kernel/assert.ts'
import type { FailureReport } from '../kernel/failure.ts'
import type { Incarnation, ParticipantName } from '../kernel/ids.ts'
import {
  type CaptureEvidence,
  type CutRef,
  type Fact,
  type HoldEvidence,
  type Order,
  type Role,
  type StoreMark,
  sameCut,
} from './messages.ts'

/** The calls of a source session that change something. */
export type StoreCall =
  | { readonly call: 'prepare' }
  | { readonly call: 'quiesce'; readonly leaseMs: number }
  | { readonly call: 'mark' }
  | { readonly call: 'resume' }
  | { readonly call: 'capture' }
  | { readonly call: 'release' }

export type StoreAnswer =
  | {
      readonly call: 'prepare'
      readonly estimateBytes: number
      readonly version: string
      readonly notes: readonly string[]
    }
  /** `endsAtMs`: when the store ends the hold by itself, on the clock of the inputs. */
  | { readonly call: 'quiesce'; readonly endsAtMs: number }
  | { readonly call: 'mark'; readonly position: StoreMark['position']; readonly caveats: readonly string[] }
  | { readonly call: 'resume'; readonly unbroken: boolean; readonly detail?: string }
  | { readonly call: 'capture'; readonly evidence: CaptureEvidence }
  | { readonly call: 'release' }

export type StoreInput =
  | { readonly type: 'ordered'; readonly order: Order; readonly nowMs: number }
  | { readonly type: 'answered'; readonly ref: CutRef; readonly answer: StoreAnswer; readonly nowMs: number }
  | {
      readonly type: 'callFailed'
      readonly ref: CutRef
      readonly call: StoreCall['call']
      readonly failure: FailureReport
      readonly nowMs: number
    }
  | { readonly type: 'captureProgressed'; readonly ref: CutRef; readonly bytes: number; readonly files: number }
  /** The coordinator cannot be reached: what is held is let go. */
  | { readonly type: 'disconnected'; readonly nowMs: number }
  | { readonly type: 'ticked'; readonly nowMs: number }

export type StoreEffect =
  | { readonly type: 'report'; readonly fact: Fact }
  /** Begin this call. It is answered by `answered` or `callFailed`, once. */
  | { readonly type: 'call'; readonly ref: CutRef; readonly call: StoreCall }
  /** Cancel the call that runs; it still answers. */
  | { readonly type: 'cancel'; readonly ref: CutRef }

interface StoreHold {
  readonly heldAtMs: number
  readonly endsAtMs: number
}

interface StoreWork {
  readonly ref: CutRef
  readonly role: Extract<Role, { kind: 'store' }>
  readonly running: StoreCall['call'] | null
  readonly queue: readonly StoreCall[]
  readonly prepared: Extract<StoreAnswer, { call: 'prepare' }> | null
  readonly hold: StoreHold | null
  readonly mark: StoreMark | null
  /** When the order to resume came; the hold had to last until then. */
  readonly resumeOrderedAtMs: number | null
  readonly holdEvidence: HoldEvidence | null
  readonly captured: CaptureEvidence | null
  /** The cut is over: what runs is cancelled, then everything is undone. */
  readonly ending: { readonly report: boolean } | null
}

export interface StoreState {
  readonly name: ParticipantName
  readonly incarnation: Incarnation
  readonly fencing: number
  readonly work: StoreWork | null
  /** An order to prepare that came while an older cut is still being undone. */
  readonly next: Extract<Order, { type: 'prepare' }> | null
}

interface Step {
  state: StoreState
  readonly effects: StoreEffect[]
}

export function initialStore(name: ParticipantName, incarnation: Incarnation): StoreState {
  return { name, incarnation, fencing: 0, work: null, next: null }
}

export function decideStore(
  state: StoreState,
  input: StoreInput,
): { readonly state: StoreState; readonly effects: readonly StoreEffect[] } {
  const step: Step = { state, effects: [] }
  switch (input.type) {
    case 'ordered':
      handleOrder(step, input.order, input.nowMs)
      break
    case 'answered':
      if (isCurrent(step.state, input.ref)) handleAnswer(step, input.answer, input.nowMs)
      break
    case 'callFailed':
      if (isCurrent(step.state, input.ref)) handleFailure(step, input.call, input.failure)
      break
    case 'captureProgressed':
      if (isCurrent(step.state, input.ref)) step.effects.push({ type: 'report', fact: { ...input } })
      break
    case 'disconnected':
      step.state = { ...step.state, next: null }
      end(step, { report: false })
      break
    case 'ticked':
      expire(step, input.nowMs)
      break
    default:
      unreachable(input)
  }
  startNext(step, input)
  return step
}

function isCurrent(state: StoreState, ref: CutRef): boolean {
  return state.work !== null && sameCut(state.work.ref, ref)
}

function patchWork(step: Step, change: Partial<StoreWork>): void {
  step.state = { ...step.state, work: { ...defined(step.state.work, 'the work of a cut'), ...change } }
}

function report(step: Step, fact: Fact): void {
  step.effects.push({ type: 'report', fact })
}

function enqueue(step: Step, call: StoreCall): void {
  const { work } = step.state
  if (work === null || work.running === call.call || work.queue.some((queued) => queued.call === call.call)) return
  patchWork(step, { queue: [...work.queue, call] })
}

/** One call at a time, in order. */
function startNext(step: Step, input: StoreInput): void {
  const { work } = step.state
  if (work === null || work.running !== null) return
  const [call, ...queue] = work.queue
  if (call !== undefined) {
    patchWork(step, { running: call.call, queue })
    step.effects.push({ type: 'call', ref: work.ref, call })
    return
  }
  if (work.ending === null) return
  // Everything of the cut has been undone.
  if (work.ending.report) report(step, { type: 'released', ref: work.ref })
  const { next } = step.state
  step.state = { ...step.state, work: null, next: null }
  if (next !== null && 'nowMs' in input) {
    handleOrder(step, next, input.nowMs)
    startNext(step, input)
  }
}

function handleOrder(step: Step, order: Order, nowMs: number): void {
  const { ref } = order
  if (ref.fencing < step.state.fencing) return // C8
  if (order.type === 'prepare') return prepare(step, order)
  const { work } = step.state
  if (work === null || !sameCut(work.ref, ref) || (work.ending !== null && order.type !== 'release')) {
    if (order.type === 'release') return forget(step, ref)
    const message = `"${step.state.name}" takes no part in cut ${ref.cut}`
    return report(step, {
      type: 'failed',
      ref,
      during: order.type,
      failure: { code: 'cut_unknown', message, retry: 'never' },
    })
  }
  switch (order.type) {
    case 'quiesce':
      if (work.hold !== null) return reportHeld(step, work)
      return enqueue(step, { call: 'quiesce', leaseMs: order.leaseMs })
    case 'mark':
      return mark(step, work, nowMs)
    case 'resume':
      return resume(step, work, nowMs)
    case 'capture':
      if (work.captured !== null) return report(step, { type: 'captured', ref, evidence: work.captured })
      if (work.mark !== null) enqueue(step, { call: 'capture' })
      return
    case 'release':
      return end(step, { report: true })
    case 'drain':
    case 'ownedMarked':
      return // Orders for processes only.
    default:
      unreachable(order)
  }
}

function prepare(step: Step, order: Extract<Order, { type: 'prepare' }>): void {
  const { ref, role } = order
  const { work } = step.state
  if (role.kind !== 'store') return
  if (work !== null && sameCut(work.ref, ref) && work.ending === null) {
    if (work.prepared !== null) reportReady(step, work, work.prepared)
    return
  }
  const newest = step.state.next?.ref ?? work?.ref
  if (newest !== undefined && !isNewer(ref, newest)) {
    const message = `"${step.state.name}" takes part in cut ${newest.cut} already, which is not older than ${ref.cut}`
    const failure: FailureReport = { code: 'epoch_past', message, retry: 'later' }
    return report(step, { type: 'failed', ref, during: 'prepare', failure })
  }
  step.state = { ...step.state, fencing: Math.max(step.state.fencing, ref.fencing) }
  if (work !== null) {
    // A newer cut is the news that the older one is over: undo that one first.
    end(step, { report: false })
    step.state = { ...step.state, next: order }
    return
  }
  step.state = { ...step.state, work: newWork(ref, role) }
}

/** Of a later coordinator, generation or attempt (C8). An equal one is the same order again. */
function isNewer(ref: CutRef, than: CutRef): boolean {
  if (sameCut(ref, than)) return true
  if (ref.fencing !== than.fencing) return ref.fencing > than.fencing
  return ref.generation !== than.generation ? ref.generation > than.generation : ref.epoch > than.epoch
}

/** A cut that this store has nothing of is released by having nothing, not even its turn (C7). */
function forget(step: Step, ref: CutRef): void {
  const { next } = step.state
  if (next !== null && sameCut(next.ref, ref)) step.state = { ...step.state, next: null }
  report(step, { type: 'released', ref })
}

function newWork(ref: CutRef, role: StoreWork['role']): StoreWork {
  return {
    ref,
    role,
    running: null,
    queue: [{ call: 'prepare' }],
    prepared: null,
    hold: null,
    mark: null,
    resumeOrderedAtMs: null,
    holdEvidence: null,
    captured: null,
    ending: null,
  }
}

function mark(step: Step, work: StoreWork, nowMs: number): void {
  if (work.mark !== null) return report(step, { type: 'marked', ref: work.ref, evidence: work.mark })
  if (work.role.grade === 'quiesced' && (work.hold === null || nowMs >= work.hold.endsAtMs)) {
    // A hold that may have ended is no hold (C5): a mark taken now would be a mark of something else.
    const message = `"${step.state.name}" is not held any more: its lease ended before the mark`
    const failure: FailureReport = { code: 'hold_lost', message, retry: 'later' }
    return report(step, { type: 'failed', ref: work.ref, during: 'mark', failure })
  }
  enqueue(step, { call: 'mark' })
}

function resume(step: Step, work: StoreWork, nowMs: number): void {
  if (work.holdEvidence !== null) {
    return report(step, { type: 'resumed', ref: work.ref, evidence: work.holdEvidence })
  }
  if (work.resumeOrderedAtMs !== null) return
  patchWork(step, { resumeOrderedAtMs: nowMs })
  enqueue(step, { call: 'resume' })
}

function handleAnswer(step: Step, answer: StoreAnswer, nowMs: number): void {
  const { work } = step.state
  if (work === null || work.running !== answer.call) return
  patchWork(step, { running: null })
  // What a cancelled call has done is undone by the calls that `end` queued.
  if (work.ending !== null && answer.call !== 'resume' && answer.call !== 'release') return
  switch (answer.call) {
    case 'prepare':
      patchWork(step, { prepared: answer })
      return reportReady(step, work, answer)
    case 'quiesce':
      patchWork(step, { hold: { heldAtMs: nowMs, endsAtMs: answer.endsAtMs } })
      return reportHeld(step, work)
    case 'mark':
      return marked(step, work, answer, nowMs)
    case 'resume':
      return resumed(step, work, answer, nowMs)
    case 'capture':
      patchWork(step, { captured: answer.evidence })
      return report(step, { type: 'captured', ref: work.ref, evidence: answer.evidence })
    case 'release':
      return
    default:
      unreachable(answer)
  }
}

function marked(step: Step, work: StoreWork, answer: Extract<StoreAnswer, { call: 'mark' }>, nowMs: number): void {
  const { position, caveats } = answer
  const { incarnation } = step.state
  const heldAtMs = work.hold?.heldAtMs ?? null
  const { grade } = work.role
  const evidence: StoreMark = { kind: 'store', incarnation, grade, position, caveats, heldAtMs, markedAtMs: nowMs }
  patchWork(step, { mark: evidence })
  report(step, { type: 'marked', ref: work.ref, evidence })
}

function resumed(step: Step, work: StoreWork, answer: Extract<StoreAnswer, { call: 'resume' }>, nowMs: number): void {
  const orderedAtMs = work.resumeOrderedAtMs
  const { hold } = work
  if (orderedAtMs === null) {
    // Let go at the lease or at the end of the cut, not by order: whatever the store says, it was not held until then.
    const detail = 'let go before the order to resume'
    return patchWork(step, { holdEvidence: { unbroken: false, hold: 1, heldMs: 0, detail } })
  }
  if (hold === null) {
    const holdEvidence = { unbroken: false, hold: 1, heldMs: 0, detail: 'nothing was held' }
    patchWork(step, { holdEvidence })
    return report(step, { type: 'resumed', ref: work.ref, evidence: holdEvidence })
  }
  const spent = orderedAtMs >= hold.endsAtMs
  const unbroken = answer.unbroken && !spent
  const detail = spent ? 'the lease ended before the order to resume' : answer.detail
  const base = { unbroken, hold: 1, heldMs: nowMs - hold.heldAtMs }
  const evidence: HoldEvidence = unbroken || detail === undefined ? base : { ...base, detail }
  patchWork(step, { holdEvidence: evidence })
  report(step, { type: 'resumed', ref: work.ref, evidence })
}

function handleFailure(step: Step, call: StoreCall['call'], failure: FailureReport): void {
  const { work } = step.state
  if (work === null || work.running !== call) return
  patchWork(step, { running: null })
  if (work.ending !== null) return // Undoing goes on with its next call; the agent's log has the failure.
  if (call === 'resume') {
    const evidence: HoldEvidence = { unbroken: false, hold: 1, heldMs: 0, detail: failure.message }
    patchWork(step, { holdEvidence: evidence })
    return report(step, { type: 'resumed', ref: work.ref, evidence })
  }
  report(step, { type: 'failed', ref: work.ref, during: call, failure })
}

/** Ends the cut here: cancels what runs, then lets go and drops the mark. Both calls are safe when there is nothing. */
function end(step: Step, ending: { readonly report: boolean }): void {
  const { work } = step.state
  if (work === null) return
  if (work.ending !== null) return patchWork(step, { ending: { report: work.ending.report || ending.report } })
  if (work.running !== null) step.effects.push({ type: 'cancel', ref: work.ref })
  const isLetGo = work.holdEvidence !== null
  const needsResume = work.role.grade === 'quiesced' && !isLetGo && work.running !== 'resume'
  const queue: StoreCall[] = needsResume ? [{ call: 'resume' }, { call: 'release' }] : [{ call: 'release' }]
  patchWork(step, { ending, queue })
}

/** C5: the store ends its hold by itself; this ends our side of it, and never claims it afterwards. */
function expire(step: Step, nowMs: number): void {
  const { work } = step.state
  if (work === null || work.hold === null || work.ending !== null || work.resumeOrderedAtMs !== null) return
  if (nowMs >= work.hold.endsAtMs && work.holdEvidence === null) enqueue(step, { call: 'resume' })
}

function reportReady(step: Step, { ref }: StoreWork, prepared: NonNullable<StoreWork['prepared']>): void {
  const { estimateBytes, version, notes } = prepared
  report(step, { type: 'ready', ref, incarnation: step.state.incarnation, estimateBytes, version, notes })
}

function reportHeld(step: Step, work: StoreWork): void {
  report(step, { type: 'held', ref: work.ref, stage: 'store', hold: 1 })
}

/** When the next `ticked` is needed, on the clock of the inputs; `null` when none is. */
export function nextStoreDeadlineMs(state: StoreState): number | null {
  const { work } = state
  if (work === null || work.hold === null || work.ending !== null) return null
  // Its end is under way: another tick would change nothing, and be wanted again at once, as long as the store is slow.
  if (work.running === 'resume' || work.queue.some(({ call }) => call === 'resume')) return null
  return work.resumeOrderedAtMs === null && work.holdEvidence === null ? work.hold.endsAtMs : null
}
