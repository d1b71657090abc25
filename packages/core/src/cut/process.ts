/**
 * The cut protocol of one SDK process: a pure, synchronous state machine.
 *
 * `decideProcess(state, input)` answers the next state and the effects, in the order in which the shell carries them
 * out. The shell owns sockets, payloads, timers and the application's hooks (sdk/participant.ts).
 *
 * Holds and gates end by themselves: at their lease (C5), when the coordinator's connection is lost, and when the cut
 * is over (C7). What is stale changes nothing (C8).
 */
import { defined, unreachable } from '../kernel/assert.ts'
import type { FailureReport } from '../kernel/failure.ts'
import { channelEnds } from '../kernel/ids.ts'
import { beginDrain, tryDrained } from './drain.ts'
import { adoptEpoch, beginEntering, noteOverrun, record, tryEnter, tryMarking } from './entry.ts'
import { admit, admitMarker, finish, isQuiet, openGate, pump, requestSend } from './gate.ts'
import { type CutRef, type Fact, type HoldEvidence, type Order, type Stamp, sameCut } from './messages.ts'
import {
  type CutWork,
  type Gate,
  type Origin,
  type Outbound,
  type ProcessEffect,
  type ProcessInput,
  type ProcessState,
  patch,
  patchWork,
  report,
  type Step,
} from './process-state.ts'

export function decideProcess(
  state: ProcessState,
  input: ProcessInput,
): { readonly state: ProcessState; readonly effects: readonly ProcessEffect[] } {
  const step: Step = { state, effects: [] }
  handle(step, input)
  return step
}

/** How long a mark outlives the connection to the coordinator (C7). */
const orphanMsMax = 30_000

function handle(step: Step, input: ProcessInput): void {
  switch (input.type) {
    case 'ordered':
      handleOrder(step, input.order, input.nowMs)
      return advance(step, input.nowMs)
    case 'arrived':
      handleArrival(step, input.item, input.origin, input.nowMs)
      return advance(step, input.nowMs)
    case 'markerArrived':
      if (input.stamp.generation !== step.state.generation) return
      admitMarker(step, { stamp: input.stamp, traits: input.traits }, input.stamp.epoch)
      noticeEpoch(step, input.stamp, 'marker', input.nowMs)
      return advance(step, input.nowMs)
    case 'finished':
      noteOverrun(step, input.item)
      finish(step, input.item)
      return advance(step, input.nowMs)
    case 'sessionOpened':
      return openSession(step, input)
    case 'sendRequested':
      return requestSend(step, input.request)
    case 'sendUncertain': {
      const outbound = step.state.outbound.get(input.channel)
      if (outbound === undefined || outbound.session !== input.session) return
      const uncertain = [...outbound.uncertain, input.seq].sort((a, b) => a - b)
      return patch(step, { outbound: new Map(step.state.outbound).set(input.channel, { ...outbound, uncertain }) })
    }
    case 'stateMarked':
      if (!isCurrent(step, input.ref) || step.state.work?.entering == null) return
      patchWork(step, { entering: { ...step.state.work.entering, stateMarked: true } })
      return advance(step, input.nowMs)
    case 'stateMarkFailed':
      if (!isCurrent(step, input.ref)) return
      fail(step, 'mark', input.failure)
      return advance(step, input.nowMs)
    case 'captured':
      if (!isCurrent(step, input.ref)) return
      patchWork(step, { captured: input.evidence })
      return report(step, { type: 'captured', ref: input.ref, evidence: input.evidence })
    case 'captureFailed':
      if (!isCurrent(step, input.ref)) return
      patchWork(step, { capturing: false })
      return report(step, { type: 'failed', ref: input.ref, during: 'capture', failure: input.failure })
    case 'captureProgressed':
      if (isCurrent(step, input.ref)) report(step, { ...input })
      return
    case 'disconnected':
      // Until everybody has marked, a cut without its coordinator is void: the process goes on serving. After that the
      // mark is kept for a while: the next coordinator may ask for it.
      if (step.state.work?.resumed != null) patchWork(step, { orphanedAtMs: input.nowMs })
      else abandon(step)
      return advance(step, input.nowMs)
    case 'generationEntered':
      enterGeneration(step, input.generation, input.epoch)
      return advance(step, input.nowMs)
    case 'ticked':
      expire(step, input.nowMs)
      return advance(step, input.nowMs)
    default:
      return unreachable(input)
  }
}

/** In place of the channel's earlier session, if there was one. */
function openSession(step: Step, { channel, session, traits }: Pick<Outbound, 'channel' | 'session' | 'traits'>): void {
  const { outbound, gate, work } = step.state
  const before = outbound.get(channel)
  // C2: the mark of the state has what was sent in that session, and perhaps not that it has ended: so it is counted.
  if (gate.kind === 'marking' && before !== undefined && before.sent > 0) {
    const entering = defined(defined(work, 'the work of a mark').entering, 'what a mark is taken for')
    patchWork(step, { entering: { ...entering, replaced: [...entering.replaced, before] } })
  }
  const opened = { channel, session, traits, sent: 0, uncertain: [] }
  patch(step, { outbound: new Map(outbound).set(channel, opened) })
}

/** All that follows by itself from a changed state. Every step is idempotent, so the order is the only rule here. */
function advance(step: Step, nowMs: number): void {
  pump(step)
  const pumped = step.state
  tryClose(step, nowMs)
  tryMarking(step, nowMs)
  tryEnter(step, nowMs)
  if (step.state !== pumped) pump(step)
  tryDrained(step, nowMs)
}

function isCurrent(step: Step, ref: CutRef): boolean {
  return step.state.work !== null && sameCut(step.state.work.ref, ref)
}

function handleArrival(step: Step, item: number, origin: Origin, nowMs: number): void {
  const before = step.effects.length
  admit(step, { item, origin })
  if (step.effects.length > before) return // refused
  if (origin.kind !== 'message' && origin.kind !== 'reply') return
  noticeEpoch(step, origin.stamp, 'message', nowMs)
  record(step, { item, origin })
}

/**
 * Any message of epoch k is the order to enter epoch k: first the epoch, then the message (C1). Whether its sender was
 * entitled to that epoch only the plan can tell: the mark says who it was (C4).
 */
function noticeEpoch(
  step: Step,
  { epoch, channel }: Pick<Stamp, 'epoch' | 'channel'>,
  by: 'message' | 'marker',
  nowMs: number,
): void {
  if (epoch <= step.state.epoch) return
  const { work } = step.state
  if (work !== null && work.mark === null && work.ref.epoch === epoch) {
    return beginEntering(step, { by, from: channelEnds(channel).from }, nowMs)
  }
  // The system is past the cut that this process knows of: that attempt is over, whatever became of it.
  if (work !== null && work.mark === null && epoch > work.ref.epoch) abandon(step)
  adoptEpoch(step, epoch)
}

function handleOrder(step: Step, order: Order, nowMs: number): void {
  const { ref } = order
  if (ref.fencing < step.state.fencing) return // C8
  if (order.type === 'prepare') return prepare(step, order, nowMs)
  const { work } = step.state
  if (work === null || !sameCut(work.ref, ref)) {
    // The coordinator must learn that this process has nothing of that cut; `release` is answered by having nothing.
    if (order.type === 'release') return report(step, { type: 'released', ref })
    return report(step, { type: 'failed', ref, during: order.type, failure: unknownCut(step.state, ref) })
  }
  patchWork(step, { orphanedAtMs: null })
  switch (order.type) {
    case 'quiesce':
      return quiesce(step, work, order, nowMs)
    case 'mark':
      if (work.mark !== null) return report(step, { type: 'marked', ref, evidence: work.mark })
      if (work.hold === null || work.hold.broken !== null) {
        return fail(step, 'mark', holdLost(step.state, work.hold?.broken ?? 'nothing was held'))
      }
      return beginEntering(step, { by: 'order', from: null }, nowMs)
    case 'ownedMarked':
      if (work.entering !== null) patchWork(step, { entering: { ...work.entering, ownedMarked: true } })
      return
    case 'resume':
      return resume(step, work, nowMs)
    case 'drain':
      if (work.drained !== null) return report(step, { type: 'drained', ref, inbound: work.drained })
      return beginDrain(step, order.inbound, nowMs + order.deadlineMs)
    case 'capture':
      return capture(step, work)
    case 'release':
      abandon(step)
      return report(step, { type: 'released', ref })
    default:
      return unreachable(order)
  }
}

function prepare(step: Step, order: Extract<Order, { type: 'prepare' }>, nowMs: number): void {
  const { ref, role } = order
  const { state } = step
  if (role.kind !== 'process') return
  const refuse = (failure: FailureReport): void => report(step, { type: 'failed', ref, during: 'prepare', failure })
  if (ref.generation !== state.generation) {
    const message = `"${state.name}" is in generation ${state.generation}, the cut is of generation ${ref.generation}`
    return refuse({ code: 'generation_mismatch', message, retry: 'later' })
  }
  if (role.incarnation !== state.incarnation) {
    return refuse({ code: 'incarnation_mismatch', message: `"${state.name}" has been restarted`, retry: 'later' })
  }
  if (state.work !== null && !sameCut(state.work.ref, ref)) {
    if (ref.epoch <= state.work.ref.epoch && ref.fencing <= state.work.ref.fencing) return refuse(epochPast(state, ref))
    abandon(step) // A newer cut is the news that the older one is over.
  }
  // The order to prepare the same cut may come again, also after this process has entered its epoch.
  if (step.state.work === null && ref.epoch <= step.state.epoch) return refuse(epochPast(step.state, ref))
  patch(step, { fencing: Math.max(state.fencing, ref.fencing) })
  if (step.state.work === null) patch(step, { work: newWork(ref, role) })
  const { incarnation } = state
  report(step, { type: 'ready', ref, incarnation, estimateBytes: 0, version: 'sdk', notes: [] })
  expire(step, nowMs)
}

function newWork(ref: CutRef, role: CutWork['role']): CutWork {
  return {
    ref,
    role,
    hold: null,
    uncolouredHandled: 0,
    heardWhileHeld: new Set(),
    overrunning: new Set(),
    overran: [],
    entering: null,
    mark: null,
    resumed: null,
    recordings: [],
    draining: null,
    drained: null,
    capturing: false,
    captured: null,
    orphanedAtMs: null,
  }
}

function quiesce(step: Step, work: CutWork, order: Extract<Order, { type: 'quiesce' }>, nowMs: number): void {
  if (work.mark !== null || work.entering !== null) return
  const isNew = work.hold === null || work.hold.broken !== null
  if (isNew) {
    const number = step.state.holdCount + 1
    patch(step, { holdCount: number })
    patchWork(step, { hold: { number, sinceMs: nowMs, endsAtMs: nowMs + order.leaseMs, broken: null } })
  }
  const hold = step.state.work?.hold
  if (order.stage === 'ingress' && hold != null) {
    return report(step, { type: 'held', ref: work.ref, stage: 'ingress', hold: hold.number })
  }
  if (order.stage !== 'gate' || hold == null) return
  if (step.state.gate.kind === 'closed') {
    return report(step, { type: 'held', ref: work.ref, stage: 'gate', hold: hold.number })
  }
  if (step.state.gate.kind === 'open') {
    const deadlineMs = nowMs + work.role.handlerMs
    patch(step, { gate: { kind: 'closing', local: false, sinceMs: nowMs, deadlineMs } })
  }
}

/** A gate that closes for the plan is closed when nothing runs, or at its deadline. */
function tryClose(step: Step, nowMs: number): void {
  const { gate, work } = step.state
  if (gate.kind !== 'closing' || gate.local || work === null || work.hold === null) return
  if (!isQuiet(step.state) && nowMs < gate.deadlineMs) return
  if (nowMs >= work.hold.endsAtMs) return // `expire` opens it: a lease that is over is no hold.
  // After a reopening this is another hold, with a number of its own: the coordinator must not rely on the old one.
  const isAgain = work.hold.broken !== null
  const number = isAgain ? step.state.holdCount + 1 : work.hold.number
  const hold = { ...work.hold, number, sinceMs: isAgain ? nowMs : work.hold.sinceMs, broken: null }
  patch(step, { holdCount: Math.max(step.state.holdCount, number), gate: { kind: 'closed', sinceMs: gate.sinceMs } })
  patchWork(step, { hold, overrunning: new Set(step.state.running.keys()) })
  report(step, { type: 'held', ref: work.ref, stage: 'gate', hold: number })
}

function resume(step: Step, work: CutWork, nowMs: number): void {
  if (work.resumed !== null) return report(step, { type: 'resumed', ref: work.ref, evidence: work.resumed })
  const hold = work.hold
  const broken =
    hold === null ? 'nothing was held' : (hold.broken ?? (nowMs >= hold.endsAtMs ? 'the lease ended' : null))
  const heldMs = hold === null ? 0 : nowMs - hold.sinceMs
  const base = { unbroken: broken === null, hold: hold?.number ?? 0, heldMs }
  const evidence: HoldEvidence = broken === null ? base : { ...base, detail: broken }
  patchWork(step, { resumed: evidence })
  report(step, { type: 'resumed', ref: work.ref, evidence })
  if (step.state.gate.kind !== 'open') openGate(step)
}

function capture(step: Step, work: CutWork): void {
  if (work.captured !== null) return report(step, { type: 'captured', ref: work.ref, evidence: work.captured })
  if (work.capturing || work.mark === null) return
  patchWork(step, { capturing: true })
  step.effects.push({ type: 'capture', ref: work.ref })
}

/** What time alone ends. */
function expire(step: Step, nowMs: number): void {
  const { work, gate } = step.state
  if (work === null) return
  if (gate.kind === 'marking' && nowMs >= gate.deadlineMs) {
    const message = `"${step.state.name}" could not take its mark in time`
    return fail(step, 'mark', { code: 'mark_timed_out', message, retry: 'later' })
  }
  if (work.orphanedAtMs !== null && nowMs >= work.orphanedAtMs + orphanMsMax) return abandon(step)
  const endsAtMs = holdEndMs(step.state)
  if (endsAtMs === null || nowMs < endsAtMs) return
  // C5: no hold outlives its lease, whoever crashed.
  if (work.hold?.broken === null) patchWork(step, { hold: { ...work.hold, broken: 'the lease ended' } })
  if (isHeldGate(gate)) openGate(step)
}

/** When the lease ends what is held here; `null` when nothing is left that it could end. */
function holdEndMs({ gate, work }: ProcessState): number | null {
  if (work === null || work.hold === null || work.resumed !== null) return null
  // A process that gates nothing has let its ingress go when it entered: there is nothing left to break.
  if (work.mark !== null && !work.role.gated) return null
  return work.hold.broken === null || isHeldGate(gate) ? work.hold.endsAtMs : null
}

function isHeldGate(gate: Gate): boolean {
  return gate.kind === 'closed' || (gate.kind === 'closing' && !gate.local)
}

/** This process cannot go on with the cut: it says so, and is free. */
function fail(step: Step, during: Order['type'], failure: FailureReport): void {
  const { ref } = defined(step.state.work, 'the work of a cut')
  const fact: Fact = { type: 'failed', ref, during, failure }
  abandon(step)
  report(step, fact)
}

/** Ends what the cut holds here: gate, ingress, mark, recordings (C7). The epoch, once it was begun, stays used. */
function abandon(step: Step): void {
  const { work, gate } = step.state
  if (work === null) return
  if (work.entering !== null || work.mark !== null) adoptEpoch(step, work.ref.epoch)
  patch(step, { work: null, open: new Set() })
  if (work.entering !== null || work.mark !== null) step.effects.push({ type: 'dropMark', ref: work.ref })
  if (gate.kind !== 'open') openGate(step)
}

/** A restore ends everything of the old generation: sessions, counts, and what has not been handed over (C9). */
function enterGeneration(step: Step, generation: number, epoch: number): void {
  const { state } = step
  if (generation < state.generation || (generation === state.generation && epoch <= state.epoch)) return
  if (generation === state.generation) return adoptEpoch(step, epoch)
  // Before the gate opens: they are stamped for a generation that nobody accepts any more.
  for (const { send } of state.heldSends) step.effects.push({ type: 'sendRefused', send })
  patch(step, { heldSends: [] })
  abandon(step)
  for (const { item, origin } of step.state.waiting) {
    const isColoured = origin.kind === 'message' || origin.kind === 'reply'
    if (isColoured) step.effects.push({ type: 'refuse', item, reason: 'older-generation' })
  }
  const waiting = step.state.waiting.filter(({ origin }) => origin.kind === 'outsider' || origin.kind === 'process')
  patch(step, { generation, epoch, waiting, inbound: new Map(), outbound: new Map() })
}

function unknownCut(state: ProcessState, ref: CutRef): FailureReport {
  return { code: 'cut_unknown', message: `"${state.name}" takes no part in cut ${ref.cut}`, retry: 'never' }
}

function epochPast(state: ProcessState, ref: CutRef): FailureReport {
  const epoch = Math.max(state.epoch, state.work?.ref.epoch ?? 0)
  const message = `"${state.name}" is in epoch ${epoch} already, the cut is of epoch ${ref.epoch}`
  return { code: 'epoch_past', message, retry: 'later' }
}

function holdLost(state: ProcessState, why: string): FailureReport {
  return { code: 'hold_lost', message: `"${state.name}" is not held any more: ${why}`, retry: 'later' }
}

/** When the next `ticked` is needed, on the clock of the inputs; `null` when none is. */
export function nextProcessDeadlineMs(state: ProcessState): number | null {
  const { gate, work } = state
  const deadlines: number[] = []
  if (gate.kind === 'closing' || gate.kind === 'marking') deadlines.push(gate.deadlineMs)
  const endsAtMs = holdEndMs(state)
  if (endsAtMs !== null) deadlines.push(endsAtMs)
  if (work !== null && work.orphanedAtMs !== null) deadlines.push(work.orphanedAtMs + orphanMsMax)
  if (work !== null && work.draining !== null && work.drained === null) deadlines.push(work.draining.deadlineAtMs)
  return deadlines.length === 0 ? null : Math.min(...deadlines)
}
