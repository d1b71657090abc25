/**
 * One call of the coordinator in the making, and the moves that every part of it uses: orders, phases, notes, the one
 * place where an outcome is recorded, and the certificate. The rules when to move are in coordinator.ts.
 */
import { assert, defined } from '../kernel/assert.ts'
import { ChunkedList, ChunkedMap } from '../kernel/chunked.ts'
import type { ParticipantName } from '../kernel/ids.ts'
import type { Certificate, CoordinatorStep, ProcessEvidence, StoreEvidence } from './certificate.ts'
import {
  type Acceptance,
  type CoordinatorEffect,
  type CoordinatorState,
  type CutOutcome,
  type CutPhase,
  type CutRecord,
  newTrack,
  type Track,
} from './coordinator-state.ts'
import type { CutRef, Order } from './messages.ts'
import type { ParticipantPlan, Plan } from './plan.ts'

export interface Step {
  state: CoordinatorState
  readonly records: CutRecord[]
  readonly effects: CoordinatorEffect[]
}

export function newState(plan: Plan, planDigest: string, ref: CutRef, nowMs: number): CoordinatorState {
  return {
    plan,
    planDigest,
    ref,
    phase: 'prepare',
    deadlineAtMs: nowMs + plan.deadlines.prepareMs,
    tracks: ChunkedMap.of(plan.participants.map(({ name }) => [name, newTrack])),
    awaited: plan.participants.length,
    steps: ChunkedList.of([]),
    storesAsked: false,
    firstHoldAtMs: null,
    lastResumeAtMs: null,
    outcome: null,
  }
}

/** The certificate of a cut that everybody has marked, resumed and captured: who has not is a bug of ours (C6). */
export function certificateOf(state: CoordinatorState): Certificate {
  const processes: Record<string, ProcessEvidence> = {}
  const stores: Record<string, StoreEvidence> = {}
  const trees: Record<string, Certificate['trees'][string]> = {}
  const channelTrees: Record<string, Certificate['trees'][string]> = {}
  for (const [name, track] of state.tracks) {
    const { holdReliedOn, drained } = track
    const captured = defined(track.captured, `what was captured of ${name}`)
    const mark = defined(track.mark, `the mark of ${name}`)
    trees[name] = captured.tree
    Object.assign(channelTrees, captured.channels)
    const base = { hold: defined(track.resumed, `the resume of ${name}`), holdReliedOn }
    // Captured and never drained: nothing is recorded, and the counts show what that leaves out (C2).
    if (mark.kind === 'process') processes[name] = { ...base, mark, drained: drained ?? [] }
    else stores[name] = { ...base, mark, torn: captured.torn }
  }
  const { plan, planDigest, steps } = state
  return {
    version: 1,
    plan,
    planDigest,
    processes,
    stores,
    steps: [...steps],
    trees,
    channelTrees,
    pauseMs: pauseMsOf(state),
  }
}

export function pauseMsOf({ firstHoldAtMs, lastResumeAtMs }: CoordinatorState): number {
  return defined(lastResumeAtMs, 'the last resume') - defined(firstHoldAtMs, 'the first hold')
}

/** The one place where an outcome is recorded (C6); everybody is released (C7). */
export function end(step: Step, outcome: CutOutcome, nowMs: number): void {
  const { state } = step
  assert(state.outcome === null, `cut ${state.ref.cut} ends twice (C6)`)
  step.records.push({ type: 'ended', outcome })
  step.state = { ...step.state, outcome }
  enter(step, 'release', nowMs + state.plan.deadlines.resumeMs)
  for (const { name } of state.plan.participants) {
    const base = { type: 'release', ref: state.ref, outcome: outcome.kind } as const
    order(step, name, outcome.kind === 'aborted' ? { ...base, reason: outcome.failure.message } : base)
  }
}

export function finish(step: Step, outcome: CutOutcome): void {
  enter(step, 'ended', Number.POSITIVE_INFINITY)
  step.effects.push({ type: 'ended', outcome })
}

export function enter(step: Step, phase: CutPhase, deadlineAtMs: number): void {
  step.state = countAwaited({ ...step.state, phase, deadlineAtMs })
  step.effects.push({ type: 'phaseEntered', phase })
}

export function order(step: Step, to: ParticipantName, body: Order): void {
  step.effects.push({ type: 'order', to, order: body })
}

export function note(step: Step, one: CoordinatorStep): void {
  step.state = { ...step.state, steps: step.state.steps.plus(one) }
}

export function setTrack(step: Step, name: ParticipantName, change: Partial<Track>): Acceptance {
  const { state } = step
  const before = trackOf(state, name)
  const after = { ...before, ...change }
  const planned = plannedOf(state, name)
  const awaited = state.awaited + Number(isAwaited(state, planned, after)) - Number(isAwaited(state, planned, before))
  step.state = { ...state, awaited, tracks: state.tracks.with(name, after) }
  return 'accepted'
}

export function trackOf({ tracks }: CoordinatorState, name: ParticipantName): Track {
  return defined(tracks.get(name), `the track of ${name}`)
}

/** The plan of a participant. */
export function plannedOf({ plan, tracks }: CoordinatorState, name: ParticipantName): ParticipantPlan {
  return defined(plan.participants[defined(tracks.placeOf(name), name)], name)
}

/** Whether this phase cannot be over without another answer of this participant. */
export function isAwaited(
  { phase, storesAsked }: Pick<CoordinatorState, 'phase' | 'storesAsked'>,
  planned: ParticipantPlan,
  track: Track,
): boolean {
  switch (phase) {
    case 'prepare':
      return track.incarnation === null
    case 'quiesce':
      return track.hold === null && (planned.kind === 'process' || (storesAsked && planned.grade === 'quiesced'))
    case 'mark':
      return track.mark === null
    case 'resume':
      return track.resumed === null
    case 'collect':
      return track.captured === null
    case 'release':
      return !track.released
    case 'seal':
    case 'ended':
      return false
  }
}

/** The state, with its count of whom it waits for: wherever that changes otherwise than by one track. */
export function countAwaited(state: CoordinatorState): CoordinatorState {
  let awaited = 0
  for (const [place, participant] of state.plan.participants.entries()) {
    if (isAwaited(state, participant, state.tracks.entries.at(place)[1])) awaited += 1
  }
  return { ...state, awaited }
}
