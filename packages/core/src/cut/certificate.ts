/**
 * The certificate: the evidence of one cut, stored with its snapshot, from which anyone can recompute the verdict
 * (verdict.ts). Plain data.
 */
import type { ParticipantName, TreeId } from '../kernel/ids.ts'
import type { Drained, HoldEvidence, HoldStage, ProcessMark, StoreMark } from './messages.ts'
import type { Plan } from './plan.ts'

export interface ProcessEvidence {
  readonly mark: ProcessMark
  readonly hold: HoldEvidence
  /** Number of the hold that the coordinator relied on when it ordered the marks. */
  readonly holdReliedOn: number
  readonly drained: readonly Drained[]
}

export interface StoreEvidence {
  readonly mark: StoreMark
  readonly hold: HoldEvidence
  readonly holdReliedOn: number
  /** Parts that were not as at the mark when they were captured. */
  readonly torn: readonly string[]
}

/** What passed through the coordinator, in this order: acknowledgements that it received, orders that it sent. */
export type CoordinatorStep =
  | { readonly step: 'held'; readonly participant: ParticipantName; readonly stage: HoldStage; readonly hold: number }
  | { readonly step: 'reopened'; readonly participant: ParticipantName; readonly hold: number }
  | { readonly step: 'markOrdered'; readonly participant: ParticipantName }
  | { readonly step: 'marked'; readonly participant: ParticipantName }
  | { readonly step: 'resumeOrdered'; readonly participant: ParticipantName }
  | { readonly step: 'resumed'; readonly participant: ParticipantName }

export interface Certificate {
  readonly version: 1
  readonly plan: Plan
  /** SHA-256 over `canonicalPlan(plan)`, hexadecimal. */
  readonly planDigest: string
  readonly processes: Readonly<Record<string, ProcessEvidence>>
  readonly stores: Readonly<Record<string, StoreEvidence>>
  readonly steps: readonly CoordinatorStep[]
  /** The captured tree of each participant. */
  readonly trees: Readonly<Record<string, TreeId>>
  /** The stored state of each channel that had messages in flight. */
  readonly channelTrees: Readonly<Record<string, TreeId>>
  /** Coordinator's monotonic milliseconds: from the first hold ordered to the last `resume` ordered. */
  readonly pauseMs: number
}
