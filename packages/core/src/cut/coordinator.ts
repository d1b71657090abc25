/**
 * The coordinator of one cut: a pure, synchronous state machine. It gives each order when, and only when, the
 * invariants allow it.
 *
 * - C3 `resume` is ordered in one place (`tryResume`), when every participant has marked.
 * - C4 `mark` is ordered in one place (`tryMark`), when every hold of the plan stands; owned stores when their process
 *   has closed its own gate (`entering`).
 * - C5 one hold that was not unbroken until its `resume` voids the attempt (`tryTaken`).
 * - C6 `seal` is asked for once, with the verdict recomputed from the evidence (`trySeal`); one outcome is recorded.
 * - C7 whatever ends a cut orders `release` to everybody (`end`).
 * - C8 facts of another cut, incarnation or phase change nothing.
 * - C10 every phase has a deadline.
 */
import { assert, unreachable } from '../kernel/assert.ts'
import type { FailureReport } from '../kernel/failure.ts'
import type { ParticipantName } from '../kernel/ids.ts'
import { collect, trySeal } from './collect.ts'
import type { Acceptance, CoordinatorInput, CoordinatorState, Decision, Track } from './coordinator-state.ts'
import {
  certificateOf,
  countAwaited,
  end,
  enter,
  finish,
  isAwaited,
  newState,
  note,
  order,
  pauseMsOf,
  plannedOf,
  type Step,
  setTrack,
  trackOf,
} from './coordinator-step.ts'
import { type CutRef, type Fact, type MarkEvidence, type Role, sameCut } from './messages.ts'
import { type ParticipantPlan, type Plan, processesOf, storesOf } from './plan.ts'
import { mustBeHeld, strangersHeard, verdictOf } from './verdict.ts'

/** How often a capture that failed with `retry: later` is asked for again, from the same mark. */
const captureTriesMax = 3

/** Begins a cut: the plan is recorded, and everybody is asked to prepare. */
export function beginCut(plan: Plan, planDigest: string, nowMs: number): Decision {
  const { cut, epoch, generation, fencing } = plan
  const ref: CutRef = { cut, epoch, generation, fencing }
  const step: Step = {
    state: newState(plan, planDigest, ref, nowMs),
    records: [{ type: 'planned', plan, planDigest }],
    effects: [],
  }
  enter(step, 'prepare', nowMs + plan.deadlines.prepareMs)
  for (const participant of plan.participants) {
    order(step, participant.name, { type: 'prepare', ref, role: roleOf(participant, plan) })
  }
  return { ...step, acceptance: 'accepted' }
}

function roleOf(participant: ParticipantPlan, { deadlines }: Plan): Role {
  const { leaseMs, handlerMs } = deadlines
  if (participant.kind === 'store') return { kind: 'store', grade: participant.grade, leaseMs }
  const { incarnation, gated, owns } = participant
  return { kind: 'process', incarnation, gated, owns, handlerMs, leaseMs }
}

export function decideCoordinator(state: CoordinatorState, input: CoordinatorInput): Decision {
  const step: Step = { state, records: [], effects: [] }
  const acceptance = handle(step, input)
  return { ...step, acceptance }
}

function handle(step: Step, input: CoordinatorInput): Acceptance {
  const { state } = step
  if (state.phase === 'ended') return 'stale'
  switch (input.type) {
    case 'factReceived':
      return handleFact(step, input.from, input.fact, input.nowMs)
    case 'participantLost':
      if (!state.tracks.has(input.name)) return 'unknown'
      return lost(step, input.name, input.reason, input.nowMs)
    case 'cancelled':
      // While the seal is being written nobody knows whether the snapshot exists: its answer decides (C6).
      if (state.phase === 'seal' || state.outcome !== null) return 'stale'
      end(step, { kind: 'aborted', failure: input.failure }, input.nowMs)
      return 'accepted'
    case 'sealed':
      if (state.phase !== 'seal') return 'stale'
      end(step, { kind: 'sealed', verdict: verdictOf(certificateOf(state)).kind }, input.nowMs)
      return 'accepted'
    case 'sealFailed':
      if (state.phase !== 'seal') return 'stale'
      end(step, { kind: 'aborted', failure: input.failure }, input.nowMs)
      return 'accepted'
    case 'ticked':
      if (input.nowMs < state.deadlineAtMs) return 'stale'
      return timeOut(step, input.nowMs)
    default:
      return unreachable(input)
  }
}

function handleFact(step: Step, from: ParticipantName, fact: Fact, nowMs: number): Acceptance {
  const { state } = step
  const track = state.tracks.get(from)
  if (track === undefined) return 'unknown'
  if (!sameCut(fact.ref, state.ref)) return 'stale' // C8
  if (state.phase === 'release') return fact.type === 'released' ? released(step, from) : 'stale'
  const acceptance = take(step, from, track, fact, nowMs)
  if (acceptance === 'accepted') advance(step, nowMs)
  return acceptance
}

function take(step: Step, from: ParticipantName, track: Track, fact: Fact, nowMs: number): Acceptance {
  const { state } = step
  switch (fact.type) {
    case 'ready': {
      if (state.phase !== 'prepare') return 'stale'
      const planned = plannedOf(state, from)
      if (planned.kind === 'process' && planned.incarnation !== fact.incarnation) return 'stale' // C8
      return setTrack(step, from, { incarnation: fact.incarnation })
    }
    case 'held':
      if (state.phase !== 'quiesce') return 'stale'
      if (track.hold === fact.hold) return 'duplicate'
      note(step, { step: 'held', participant: from, stage: fact.stage, hold: fact.hold })
      return setTrack(step, from, { hold: fact.hold })
    case 'reopened':
      return reopened(step, from, track, fact.hold, nowMs)
    case 'entering':
      return entering(step, from)
    case 'marked':
      if (state.phase !== 'mark') return 'stale'
      if (track.mark !== null) return 'duplicate'
      if (fact.evidence.incarnation !== track.incarnation) return 'stale' // C8
      note(step, { step: 'marked', participant: from })
      setTrack(step, from, { mark: fact.evidence })
      tryOwnedMarked(step, plannedOf(state, from))
      return refuseStrangers(step, from, fact.evidence, nowMs)
    case 'resumed':
      if (state.phase !== 'resume') return 'stale'
      if (track.resumed !== null) return 'duplicate'
      note(step, { step: 'resumed', participant: from })
      return setTrack(step, from, { resumed: fact.evidence })
    case 'drained':
      if (state.phase !== 'collect') return 'stale'
      if (track.drained !== null) return 'duplicate'
      step.records.push({ type: 'drained', participant: from, inbound: fact.inbound })
      order(step, from, { type: 'capture', ref: state.ref })
      return setTrack(step, from, { drained: fact.inbound })
    case 'captureProgressed':
      step.effects.push({ type: 'captureProgressed', participant: from, bytes: fact.bytes, files: fact.files })
      return 'accepted'
    case 'captured':
      if (state.phase !== 'collect') return 'stale'
      if (track.captured !== null) return 'duplicate'
      step.records.push({ type: 'captured', participant: from, evidence: fact.evidence })
      return setTrack(step, from, { captured: fact.evidence })
    case 'released':
      return 'stale'
    case 'failed':
      return failed(step, from, track, fact, nowMs)
    default:
      return unreachable(fact)
  }
}

/** The hold that the marks rely on, or would have relied on, is void: wait for the next one, or void the attempt. */
function reopened(step: Step, from: ParticipantName, track: Track, hold: number, nowMs: number): Acceptance {
  const { phase } = step.state
  if (phase !== 'quiesce' && phase !== 'mark' && phase !== 'resume') return 'stale'
  note(step, { step: 'reopened', participant: from, hold })
  if (phase === 'quiesce') {
    // A `held` of a later number may have overtaken this news.
    return track.hold === hold ? setTrack(step, from, { hold: null }) : 'accepted'
  }
  if (track.holdReliedOn !== hold) return 'accepted'
  const message = `"${from}" had to reopen its gate for a request while the marks were being taken`
  end(step, { kind: 'aborted', failure: { code: 'hold_broken', message, retry: 'later' } }, nowMs)
  return 'accepted'
}

/** C4: a sender that takes no part in the cut was held by nobody; a mark that knows of it voids the attempt. */
function refuseStrangers(step: Step, from: ParticipantName, mark: MarkEvidence, nowMs: number): Acceptance {
  const { tracks } = step.state
  const [finding] = mark.kind === 'process' ? strangersHeard(mark, (sender) => tracks.has(sender)) : []
  if (finding === undefined) return 'accepted'
  const message = `"${from}" ${finding}`
  const hint = 'A process that joins while a snapshot is taken is part of the next attempt.'
  end(step, { kind: 'aborted', failure: { code: 'sender_unplanned', message, hint, retry: 'later' } }, nowMs)
  return 'accepted'
}

/** A process has closed its own gate: the stores that it alone writes may be marked now. */
function entering(step: Step, from: ParticipantName): Acceptance {
  const { state } = step
  if (state.phase !== 'mark') return 'stale'
  const planned = plannedOf(state, from)
  if (planned.kind !== 'process') return 'unknown'
  for (const owned of planned.owns) orderMark(step, owned)
  return 'accepted'
}

function failed(
  step: Step,
  from: ParticipantName,
  track: Track,
  fact: Extract<Fact, { type: 'failed' }>,
  nowMs: number,
): Acceptance {
  const { failure, during } = fact
  // What is captured is durable; and while the seal is being written, its answer decides (C6).
  if (step.state.phase === 'seal' || track.captured !== null) return 'stale'
  if (during === 'capture' && failure.retry === 'later' && track.captureTries + 1 < captureTriesMax) {
    setTrack(step, from, { captureTries: track.captureTries + 1 })
    order(step, from, { type: 'capture', ref: step.state.ref })
    return 'accepted'
  }
  const named = failure.message.includes(from) ? failure : { ...failure, message: `${from}: ${failure.message}` }
  end(step, { kind: 'aborted', failure: named }, nowMs)
  return 'accepted'
}

function lost(step: Step, name: ParticipantName, reason: string, nowMs: number): Acceptance {
  const { phase, outcome } = step.state
  if (outcome !== null) return released(step, name)
  const track = trackOf(step.state, name)
  // What is captured is durable: nothing more is needed of that participant.
  if (phase === 'seal' || (phase === 'collect' && track.captured !== null)) return 'accepted'
  const failure: FailureReport = {
    code: 'participant_lost',
    message: `"${name}" was lost during ${phase}: ${reason}`,
    retry: 'later',
  }
  end(step, { kind: 'aborted', failure }, nowMs)
  return 'accepted'
}

/** Every step checks whether it is its turn; at most one of them is. */
function advance(step: Step, nowMs: number): void {
  tryQuiesce(step, nowMs)
  tryHoldStores(step)
  tryMark(step, nowMs)
  tryResume(step, nowMs)
  tryTaken(step, nowMs)
  trySeal(step, nowMs)
}

function tryQuiesce(step: Step, nowMs: number): void {
  const { state } = step
  if (state.phase !== 'prepare' || state.awaited > 0) return
  enter(step, 'quiesce', nowMs + state.plan.deadlines.quiesceMs)
  step.state = { ...step.state, firstHoldAtMs: nowMs }
  const { leaseMs } = state.plan.deadlines
  for (const process of processesOf(state.plan)) {
    order(step, process.name, { type: 'quiesce', ref: state.ref, stage: process.gated ? 'gate' : 'ingress', leaseMs })
  }
}

/** Stores are held only when every gate is closed: a handler that runs could wait for a held store. */
function tryHoldStores(step: Step): void {
  const { state } = step
  if (state.phase !== 'quiesce' || state.storesAsked || state.awaited > 0) return
  step.state = countAwaited({ ...step.state, storesAsked: true })
  const { leaseMs } = state.plan.deadlines
  for (const store of storesOf(state.plan)) {
    if (store.grade === 'quiesced')
      order(step, store.name, { type: 'quiesce', ref: state.ref, stage: 'store', leaseMs })
  }
}

/** C4: every hold of the plan stands, as far as anybody here knows; `resumed` will tell whether it really did. */
function tryMark(step: Step, nowMs: number): void {
  const { state } = step
  if (state.phase !== 'quiesce' || !state.storesAsked || state.awaited > 0) return
  const tracks = state.tracks.map((track) => ({ ...track, holdReliedOn: track.hold ?? 0 }))
  step.state = { ...state, tracks }
  enter(step, 'mark', nowMs + state.plan.deadlines.markMs)
  for (const participant of state.plan.participants) {
    if (participant.kind === 'store' && participant.grade === 'owned') continue // Marked when its process enters.
    orderMark(step, participant.name)
  }
}

function orderMark(step: Step, name: ParticipantName): void {
  if (trackOf(step.state, name).markOrdered) return
  setTrack(step, name, { markOrdered: true })
  note(step, { step: 'markOrdered', participant: name })
  order(step, name, { type: 'mark', ref: step.state.ref })
}

/** A process that enters the epoch waits for the marks of the stores that it owns: this one may have been the last. */
function tryOwnedMarked(step: Step, marked: ParticipantPlan): void {
  if (marked.kind !== 'store' || marked.grade !== 'owned') return
  assert(marked.writers !== 'unknown' && marked.writers.length === 1, `${marked.name} is not owned`)
  for (const owner of marked.writers) {
    const { state } = step
    const process = plannedOf(state, owner)
    assert(process.kind === 'process', `${owner} owns ${marked.name} and is no process`)
    if (process.owns.every((owned) => trackOf(state, owned).mark !== null)) {
      order(step, owner, { type: 'ownedMarked', ref: state.ref })
    }
  }
}

/** C3: all have marked, so all processes have entered the epoch and all held stores have their mark. */
function tryResume(step: Step, nowMs: number): void {
  const { state } = step
  if (state.phase !== 'mark' || state.awaited > 0) return
  enter(step, 'resume', nowMs + state.plan.deadlines.resumeMs)
  step.state = { ...step.state, lastResumeAtMs: nowMs }
  for (const name of mustBeHeld(state.plan)) {
    note(step, { step: 'resumeOrdered', participant: name })
    order(step, name, { type: 'resume', ref: state.ref })
  }
  for (const store of storesOf(state.plan)) {
    // Nothing of it was held by itself: its writers' gates were.
    if (store.grade !== 'quiesced') setTrack(step, store.name, { resumed: { unbroken: null, hold: 0, heldMs: 0 } })
  }
}

/** C5: the attempt stands only if every hold was unbroken until its order to resume arrived. */
function tryTaken(step: Step, nowMs: number): void {
  const { state } = step
  if (state.phase !== 'resume' || state.awaited > 0) return
  for (const name of mustBeHeld(state.plan)) {
    const { resumed, holdReliedOn } = trackOf(state, name)
    if (resumed?.unbroken === true && resumed.hold === holdReliedOn) continue
    const why = resumed?.detail ?? 'it was let go and held again'
    const message = `"${name}" was not held until every mark was taken: ${why}`
    const failure: FailureReport = { code: 'hold_broken', message, retry: 'later' }
    return end(step, { kind: 'aborted', failure }, nowMs)
  }
  enter(step, 'collect', nowMs + state.plan.deadlines.captureMs)
  step.records.push({ type: 'taken', tracks: [...state.tracks], steps: [...state.steps], pauseMs: pauseMsOf(state) })
  collect(step)
}

function timeOut(step: Step, nowMs: number): Acceptance {
  const { state } = step
  if (state.outcome !== null) {
    // Somebody cannot be reached to be released. Its lease, its lost connection or the next cut ends what it holds (C7).
    finish(step, state.outcome)
    return 'accepted'
  }
  const late = state.plan.participants.filter((one) => isAwaited(state, one, trackOf(state, one.name)))
  const message = `${late.map(({ name }) => `"${name}"`).join(', ')} did not answer in time during ${state.phase}`
  const hint = 'See whether it runs and can be reached; deadlines can be changed in stillpoint.yaml.'
  end(step, { kind: 'aborted', failure: { code: 'participant_timed_out', message, hint, retry: 'later' } }, nowMs)
  return 'accepted'
}

function released(step: Step, from: ParticipantName): Acceptance {
  const { state } = step
  if (trackOf(state, from).released) return 'duplicate'
  setTrack(step, from, { released: true })
  if (state.outcome !== null && step.state.awaited === 0) finish(step, state.outcome)
  return 'accepted'
}

/** When the next `ticked` is needed, on the clock of the inputs; `null` when none is. */
export function nextCoordinatorDeadlineMs(state: CoordinatorState): number | null {
  return Number.isFinite(state.deadlineAtMs) ? state.deadlineAtMs : null
}
