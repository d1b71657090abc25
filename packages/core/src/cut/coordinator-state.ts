/**
 * State, inputs, records and effects of the coordinator of one cut. The rules are in coordinator.ts.
 *
 * Records are what survives a crash of the coordinator. The shell persists the records of a step before it carries out
 * the effects of that step. Between `planned` and `taken` nothing is persisted: whoever finds a cut there aborts it.
 */

import type { ChunkedList, ChunkedMap } from '../kernel/chunked.ts'
import type { FailureReport } from '../kernel/failure.ts'
import type { Incarnation, ParticipantName } from '../kernel/ids.ts'
import type { Certificate, CoordinatorStep } from './certificate.ts'
import type { CaptureEvidence, CutRef, Drained, Fact, HoldEvidence, MarkEvidence, Order } from './messages.ts'
import type { Plan } from './plan.ts'
import type { Verdict } from './verdict.ts'

/** In the order of the protocol. `collect` is drain and capture, which overlap. */
export type CutPhase = 'prepare' | 'quiesce' | 'mark' | 'resume' | 'collect' | 'seal' | 'release' | 'ended'

/** What the coordinator knows of one participant. */
export interface Track {
  readonly incarnation: Incarnation | null
  /** Number of the hold that stands; `null` when none does. */
  readonly hold: number | null
  /** Number of the hold that stood when the marks were ordered. */
  readonly holdReliedOn: number
  readonly mark: MarkEvidence | null
  /** It has been ordered to mark. */
  readonly markOrdered: boolean
  readonly resumed: HoldEvidence | null
  readonly drained: readonly Drained[] | null
  readonly captured: CaptureEvidence | null
  readonly captureTries: number
  readonly released: boolean
}

export type CutOutcome =
  | { readonly kind: 'sealed'; readonly verdict: Verdict['kind'] }
  | { readonly kind: 'aborted'; readonly failure: FailureReport }

export interface CoordinatorState {
  readonly plan: Plan
  readonly planDigest: string
  readonly ref: CutRef
  readonly phase: CutPhase
  readonly deadlineAtMs: number
  /** Of the participants of the plan, in its order. */
  readonly tracks: ChunkedMap<ParticipantName, Track>
  /** How many of them this phase still waits for (`isAwaited`): a phase is over when it waits for nobody. */
  readonly awaited: number
  readonly steps: ChunkedList<CoordinatorStep>
  /** Stores have been asked to hold: the gates were all closed by then. */
  readonly storesAsked: boolean
  readonly firstHoldAtMs: number | null
  readonly lastResumeAtMs: number | null
  readonly outcome: CutOutcome | null
}

export type CoordinatorInput =
  | {
      readonly type: 'factReceived'
      readonly from: ParticipantName
      readonly fact: Fact
      readonly nowMs: number
    }
  /** Its connection or incarnation is gone: nothing that it held can be relied on. */
  | {
      readonly type: 'participantLost'
      readonly name: ParticipantName
      readonly reason: string
      readonly nowMs: number
    }
  | { readonly type: 'cancelled'; readonly failure: FailureReport; readonly nowMs: number }
  | { readonly type: 'sealed'; readonly nowMs: number }
  | { readonly type: 'sealFailed'; readonly failure: FailureReport; readonly nowMs: number }
  | { readonly type: 'ticked'; readonly nowMs: number }

export type CutRecord =
  | { readonly type: 'planned'; readonly plan: Plan; readonly planDigest: string }
  /** All have marked and are released from their holds; the evidence so far. */
  | {
      readonly type: 'taken'
      readonly tracks: readonly (readonly [ParticipantName, Track])[]
      readonly steps: readonly CoordinatorStep[]
      readonly pauseMs: number
    }
  | { readonly type: 'drained'; readonly participant: ParticipantName; readonly inbound: readonly Drained[] }
  | { readonly type: 'captured'; readonly participant: ParticipantName; readonly evidence: CaptureEvidence }
  /** At most one per cut, ever (C6). */
  | { readonly type: 'ended'; readonly outcome: CutOutcome }

export type CoordinatorEffect =
  | { readonly type: 'order'; readonly to: ParticipantName; readonly order: Order }
  | { readonly type: 'phaseEntered'; readonly phase: CutPhase }
  | {
      readonly type: 'captureProgressed'
      readonly participant: ParticipantName
      readonly bytes: number
      readonly files: number
    }
  /** Write channel states, certificate, root tree, snapshot; answer `sealed` or `sealFailed`. */
  | { readonly type: 'seal'; readonly certificate: Certificate; readonly verdict: Verdict }
  | { readonly type: 'ended'; readonly outcome: CutOutcome }

/** How an input was taken. Only `accepted` changes anything (C8). */
export type Acceptance = 'accepted' | 'duplicate' | 'stale' | 'unknown'

export interface Decision {
  readonly state: CoordinatorState
  readonly acceptance: Acceptance
  readonly records: readonly CutRecord[]
  readonly effects: readonly CoordinatorEffect[]
}

export const newTrack: Track = {
  incarnation: null,
  hold: null,
  holdReliedOn: 0,
  markOrdered: false,
  mark: null,
  resumed: null,
  drained: null,
  captured: null,
  captureTries: 0,
  released: false,
}
