/**
 * The vocabulary of the cut protocol: orders from the coordinator, facts from the participants, and the evidence in
 * them. Plain data, JSON all through. Fields are validated where they enter a process (wire.ts), not here.
 *
 * Every order and every fact carries a `CutRef`. Whoever receives one of an older cut, generation or fencing token
 * ignores it (C8); every order may come twice and is answered the same way again.
 */
import type { FailureReport } from '../kernel/failure.ts'
import type { ChannelId, CutId, Incarnation, MessageId, ParticipantName, SessionId, TreeId } from '../kernel/ids.ts'
import type { Grade } from './plan.ts'

export interface CutRef {
  readonly cut: CutId
  readonly epoch: number
  readonly generation: number
  readonly fencing: number
}

/** What every message between processes carries: the colour of Lai and Yang, as an integer, and its place. */
export interface Stamp {
  readonly generation: number
  readonly epoch: number
  readonly channel: ChannelId
  readonly session: SessionId
  /** 1, 2, 3 … within its session, in the order of sending. */
  readonly seq: number
  readonly message: MessageId
}

/**
 * Which of a session's messages have been received: all up to `upTo`, and those in `beyond` (ascending, all greater
 * than `upTo + 1`). On a FIFO channel `beyond` is empty.
 */
export interface Received {
  readonly upTo: number
  readonly beyond: readonly number[]
}

export interface ChannelTraits {
  /** Messages arrive in the order of sending, and a marker travels among them. */
  readonly fifo: boolean
  /** A message may be lost without its sender sending it again (an HTTP call that fails). */
  readonly volatile: boolean
}

/** One session of an outbound channel, at the sender's cut. */
export interface SentAtCut extends ChannelTraits {
  readonly channel: ChannelId
  readonly session: SessionId
  /** Messages 1 … `sent` belong to epochs before the cut's. */
  readonly sent: number
  /** Those of them whose transport failed without saying whether they arrived. */
  readonly uncertain: readonly number[]
}

/** One session of an inbound channel, at the receiver's cut. */
export interface ReceivedAtCut {
  readonly channel: ChannelId
  readonly session: SessionId
  /** Received: handed to the application, and its handler ended before the mark. */
  readonly received: Received
  /** The greatest epoch on any message received before the mark (C1). */
  readonly epochMax: number
  /**
   * Something of it was handed to the application between the hold and the mark. Where its sender takes no part in the
   * cut, nobody held that sender, and what it said may come from after somebody's mark (C4, ADR 0008).
   */
  readonly heardWhileHeld?: boolean
}

/**
 * Why a process did not wait for a handler. `deadline`: it still ran at the mark. `reply`: it waits for a reply that came
 * with the new epoch. `gate`: it still ran when the gate had to close, and ended before the mark: its process has all of
 * it, a gated store perhaps not. Whoever reads marks from outside reads these, and no others.
 */
export const cutOffReasons = ['deadline', 'reply', 'gate'] as const

/** A handler that the process entered the epoch without. */
export interface OpenHandler {
  /** What started it: a message (recorded as channel state), an outsider's request, or the process itself. */
  readonly startedBy: 'message' | 'outsider' | 'process'
  readonly message?: MessageId
  readonly channel?: ChannelId
  /** Declared so by the application: delivering its message again is exact. */
  readonly transactional: boolean
  readonly cutOffBy: (typeof cutOffReasons)[number]
}

export interface ProcessMark {
  readonly kind: 'process'
  readonly incarnation: Incarnation
  readonly epochEntered: number
  /** What made it enter: the coordinator's order, a message of the epoch, or an in-band marker. */
  readonly enteredBy: 'order' | 'message' | 'marker'
  /** Whose message or marker it was. Unless it takes part in the cut, not everybody may have been held yet (C4). */
  readonly enteredFrom?: ParticipantName
  readonly sent: readonly SentAtCut[]
  readonly received: readonly ReceivedAtCut[]
  readonly openHandlers: readonly OpenHandler[]
  /** Uncoloured messages that an adapter could not hold and that were handled between `quiesce` and the mark. */
  readonly uncolouredHandled: number
  /** From the gate's closing to the mark, milliseconds, own monotonic clock. */
  readonly gateMs: number
}

export interface StoreMark {
  readonly kind: 'store'
  readonly incarnation: Incarnation
  readonly grade: Grade
  /** LSN, GTID, replication offset, revision …: where in the store's own history the mark is. */
  readonly position: Readonly<Record<string, string | number>>
  /** What limits the evidence; empty when the mark is exact. */
  readonly caveats: readonly string[]
  /** Milliseconds of the agent's monotonic clock. Never compared with another machine's. */
  readonly heldAtMs: number | null
  readonly markedAtMs: number
}

export type MarkEvidence = ProcessMark | StoreMark

/** The answer to `resume`: was the participant held without a break from its acknowledgement until now? (C5) */
export interface HoldEvidence {
  /** `null` where nothing was to be held: a store that its process marked. */
  readonly unbroken: boolean | null
  /** Number of the hold that the statement is about; the coordinator compares it with the one it relied on. */
  readonly hold: number
  readonly heldMs: number
  readonly detail?: string
}

/** A message that is channel state. */
export interface Recorded {
  readonly seq: number
  readonly message: MessageId
}

/** One session of an inbound channel when its drain ended. */
export interface Drained {
  readonly channel: ChannelId
  readonly session: SessionId
  /**
   * The channel's state: messages of earlier epochs that arrived after the mark, or were waiting or open at it.
   * Ascending by `seq`, each exactly once (C2).
   */
  readonly recorded: readonly Recorded[]
  /** Sent before the sender's cut, neither received nor recorded when the drain ended. */
  readonly missing: readonly number[]
  /** `counts` agreed with the sender, or an in-band `marker` came, or the `deadline` did. */
  readonly endedBy: 'counts' | 'marker' | 'deadline'
}

export interface CaptureEvidence {
  readonly tree: TreeId
  readonly bytes: number
  readonly files: number
  /** Parts that are not as they were at the mark. */
  readonly torn: readonly string[]
  readonly notes: readonly string[]
  /** A process's recorded messages, stored per inbound channel. */
  readonly channels: Readonly<Record<string, TreeId>>
}

/** A hold's step: what a process or store is asked to hold. */
export type HoldStage = 'ingress' | 'gate' | 'store'

export type Order =
  | { readonly type: 'prepare'; readonly ref: CutRef; readonly role: Role }
  | { readonly type: 'quiesce'; readonly ref: CutRef; readonly stage: HoldStage; readonly leaseMs: number }
  | { readonly type: 'mark'; readonly ref: CutRef }
  /** To a process that is entering: the stores it owns have marked. */
  | { readonly type: 'ownedMarked'; readonly ref: CutRef }
  | { readonly type: 'resume'; readonly ref: CutRef }
  | {
      readonly type: 'drain'
      readonly ref: CutRef
      readonly inbound: readonly SentAtCut[]
      readonly deadlineMs: number
    }
  | { readonly type: 'capture'; readonly ref: CutRef }
  /** The cut is over: holds end, gates open, marks are dropped. */
  | { readonly type: 'release'; readonly ref: CutRef; readonly outcome: 'sealed' | 'aborted'; readonly reason?: string }

export type Role =
  | {
      readonly kind: 'process'
      readonly incarnation: Incarnation
      readonly gated: boolean
      readonly owns: readonly ParticipantName[]
      readonly handlerMs: number
      /** How long after its gate closed for the mark a process waits for its owned stores. */
      readonly leaseMs: number
    }
  | { readonly kind: 'store'; readonly grade: Grade; readonly leaseMs: number }

export type Fact =
  | {
      readonly type: 'ready'
      readonly ref: CutRef
      readonly incarnation: Incarnation
      readonly estimateBytes: number
      readonly version: string
      readonly notes: readonly string[]
    }
  | { readonly type: 'held'; readonly ref: CutRef; readonly stage: HoldStage; readonly hold: number }
  /** A closed gate had to let a request of a running handler elsewhere through: the hold of this number is void. */
  | { readonly type: 'reopened'; readonly ref: CutRef; readonly hold: number }
  /** A process enters the epoch, its local gate is closed, and the stores that it owns may be marked now. */
  | { readonly type: 'entering'; readonly ref: CutRef }
  | { readonly type: 'marked'; readonly ref: CutRef; readonly evidence: MarkEvidence }
  | { readonly type: 'resumed'; readonly ref: CutRef; readonly evidence: HoldEvidence }
  | { readonly type: 'drained'; readonly ref: CutRef; readonly inbound: readonly Drained[] }
  | { readonly type: 'captureProgressed'; readonly ref: CutRef; readonly bytes: number; readonly files: number }
  | { readonly type: 'captured'; readonly ref: CutRef; readonly evidence: CaptureEvidence }
  | { readonly type: 'released'; readonly ref: CutRef }
  | { readonly type: 'failed'; readonly ref: CutRef; readonly during: Order['type']; readonly failure: FailureReport }

export type OrderType = Order['type']
export type FactType = Fact['type']

export function sameCut(a: CutRef, b: CutRef): boolean {
  return a.cut === b.cut && a.epoch === b.epoch && a.generation === b.generation && a.fencing === b.fencing
}
