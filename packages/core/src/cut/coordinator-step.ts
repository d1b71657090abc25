/**
 * One call of the coordinator in the making, and the moves that every part of it uses: orders, phases, notes, the one
 * place where an outcome is recorded, and the certificate. The rules when to move are in coordinator.ts.
 */
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
import type { Plan } from './plan.ts'

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
    tracks: new Map(plan.participants.map(({ name }) => [name, newTrack])),
    steps: [],
    storesAsked: false,
    firstHoldAtMs: null,
    lastResumeAtMs: null,
    outcome: null,
  }
}

export function certificateOf(state: CoordinatorState): Certificate {
  const processes: Record<string, ProcessEvidence> = {}
  const stores: Record<string, StoreEvidence> = {}
  const trees: Record<string, Certificate['trees'][string]> = {}
  const channelTrees: Record<string, Certificate['trees'][string]> = {}
  for (const [name, { mark, resumed, holdReliedOn, drained, captured }] of state.tracks) {
    if (captured !== null) {
      trees[name] = captured.tree
      Object.assign(channelTrees, captured.channels)
    }
    if (mark === null || resumed === null) continue
    const base = { hold: resumed, holdReliedOn }
    if (mark.kind === 'process') processes[name] = { ...base, mark, drained: drained ?? [] }
    else stores[name] = { ...base, mark, torn: captured?.torn ?? [] }
  }
  const { plan, planDigest, steps } = state
  return { version: 1, plan, planDigest, processes, stores, steps, trees, channelTrees, pauseMs: pauseMsOf(state) }
}

export function pauseMsOf({ firstHoldAtMs, lastResumeAtMs }: CoordinatorState): number {
  return firstHoldAtMs === null || lastResumeAtMs === null ? 0 : lastResumeAtMs - firstHoldAtMs
}

/** The one place where an outcome is recorded (C6); everybody is released (C7). */
export function end(step: Step, outcome: CutOutcome, nowMs: number): void {
  const { state } = step
  if (state.outcome !== null) return
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
  step.state = { ...step.state, phase, deadlineAtMs }
  step.effects.push({ type: 'phaseEntered', phase })
}

export function order(step: Step, to: ParticipantName, body: Order): void {
  step.effects.push({ type: 'order', to, order: body })
}

export function note(step: Step, one: CoordinatorStep): void {
  step.state = { ...step.state, steps: [...step.state.steps, one] }
}

export function setTrack(step: Step, name: ParticipantName, change: Partial<Track>): Acceptance {
  const track = step.state.tracks.get(name) ?? newTrack
  step.state = { ...step.state, tracks: new Map(step.state.tracks).set(name, { ...track, ...change }) }
  return 'accepted'
}

export function every(state: CoordinatorState, holds: (track: Track) => boolean): boolean {
  for (const track of state.tracks.values()) if (!holds(track)) return false
  return true
}
