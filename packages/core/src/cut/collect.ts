/**
 * The second half of a cut, when everybody runs again: drain, capture, seal; and what a coordinator does with a cut that
 * it finds half done after a crash.
 */
import { defined } from '../kernel/assert.ts'
import { ChunkedList, ChunkedMap } from '../kernel/chunked.ts'
import { channelEnds, type ParticipantName } from '../kernel/ids.ts'
import type { CoordinatorState, CutRecord, Decision } from './coordinator-state.ts'
import { certificateOf, end, enter, newState, order, type Step, setTrack, trackOf } from './coordinator-step.ts'
import type { SentAtCut } from './messages.ts'
import { verdictOf } from './verdict.ts'

/** Asks for what is not here yet. Also after a crash: every order may come twice. */
export function collect(step: Step): void {
  const { state } = step
  const inbound = inboundOf(state)
  for (const { name, kind } of state.plan.participants) {
    const track = trackOf(state, name)
    if (track.captured !== null) continue
    if (kind === 'process' && track.drained === null) {
      const { drainMs } = state.plan.deadlines
      order(step, name, {
        type: 'drain',
        ref: state.ref,
        inbound: defined(inbound.get(name), name),
        deadlineMs: drainMs,
      })
    } else order(step, name, { type: 'capture', ref: state.ref })
  }
}

/** What the senders of the plan had sent to each process at their cuts. */
function inboundOf(state: CoordinatorState): ReadonlyMap<ParticipantName, readonly SentAtCut[]> {
  const inbound = new Map<ParticipantName, SentAtCut[]>(state.plan.participants.map(({ name }) => [name, []]))
  for (const { mark } of state.tracks.values()) {
    if (mark?.kind !== 'process') continue
    for (const sent of mark.sent) {
      inbound.get(channelEnds(sent.channel).to)?.push(sent)
    }
  }
  return inbound
}

/** C6: everything captured is durable, and the verdict is recomputed from the evidence. */
export function trySeal(step: Step, nowMs: number): void {
  const { state } = step
  if (state.phase !== 'collect' || state.awaited > 0) return
  const certificate = certificateOf(state)
  const verdict = verdictOf(certificate)
  if (verdict.kind === 'inconsistent' && !state.plan.allowInconsistent) {
    const message = `The cut is inconsistent: ${verdict.reasons.join('; ')}`
    const hint = 'Nothing was stored. Use --allow-inconsistent to keep such a snapshot all the same.'
    return end(step, { kind: 'aborted', failure: { code: 'cut_inconsistent', message, hint, retry: 'later' } }, nowMs)
  }
  enter(step, 'seal', Number.POSITIVE_INFINITY)
  step.effects.push({ type: 'seal', certificate, verdict })
}

/**
 * What a coordinator does with a cut that it finds after a crash: before `taken` it is aborted, after it the captures
 * are asked for again from the marks that are still there; a cut that has ended is left alone (`null`).
 *
 * For a coordinator that keeps its records (`CutRecord`) where its agents outlive it. Stillpoint's own server is none:
 * its agents live inside it, so the marks of stores end with it, and it aborts what it finds open and not sealed
 * (`closeOpenCuts` in packages/stillpoint). The simulator, the exploration and the specification (`TakeOver`) use it:
 * what it answers keeps C6 and C10 for every crash of a coordinator, and for one that is replaced while it still lives.
 */
export function recoverCut(records: readonly CutRecord[], nowMs: number): Decision | null {
  const planned = records.find((record) => record.type === 'planned')
  if (planned === undefined || records.some(({ type }) => type === 'ended')) return null
  const { plan, planDigest } = planned
  const { cut, epoch, generation, fencing } = plan
  const step: Step = {
    state: newState(plan, planDigest, { cut, epoch, generation, fencing }, nowMs),
    records: [],
    effects: [],
  }
  const taken = records.find((record) => record.type === 'taken')
  if (taken === undefined) {
    const message = 'The coordinator was restarted before every mark was taken'
    end(step, { kind: 'aborted', failure: { code: 'coordinator_restarted', message, retry: 'later' } }, nowMs)
    return { ...step, acceptance: 'accepted' }
  }
  const [tracks, steps] = [ChunkedMap.of(taken.tracks), ChunkedList.of(taken.steps)]
  step.state = { ...step.state, tracks, steps, firstHoldAtMs: 0, lastResumeAtMs: taken.pauseMs }
  for (const record of records) {
    if (record.type === 'drained') setTrack(step, record.participant, { drained: record.inbound })
    if (record.type === 'captured') setTrack(step, record.participant, { captured: record.evidence })
  }
  enter(step, 'collect', nowMs + plan.deadlines.captureMs)
  collect(step)
  trySeal(step, nowMs)
  return { ...step, acceptance: 'accepted' }
}
