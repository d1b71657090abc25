/**
 * State, inputs and effects of one SDK process in the cut protocol.
 *
 * Owns: the types. The rules are in process.ts (orders), gate.ts (who may run), entry.ts (entering an epoch) and
 * drain.ts (channel state). Payloads never enter: the shell keeps them under an `ItemId` and is told what to do.
 */
import { defined } from '../kernel/assert.ts'
import type { FailureReport } from '../kernel/failure.ts'
import type { ChannelId, Incarnation, MessageId, ParticipantName, SessionId } from '../kernel/ids.ts'
import type {
  CaptureEvidence,
  ChannelTraits,
  CutRef,
  Drained,
  Fact,
  HoldEvidence,
  OpenHandler,
  Order,
  ProcessMark,
  Received,
  Recorded,
  Role,
  SentAtCut,
  Stamp,
} from './messages.ts'

/** The shell's number for a piece of work: one arrived message, request, reply, or a task of the process itself. */
export type ItemId = number
/** The shell's number for one sending. */
export type SendId = number

/** Where a piece of work comes from. */
export type Origin =
  | {
      readonly kind: 'message'
      readonly stamp: Stamp
      readonly traits: ChannelTraits
      /** Somebody's handler waits for the reply: closing gates let it through. */
      readonly expectsReply: boolean
      readonly transactional: boolean
    }
  /** A reply to something that this process sent; `awaitedBy` is the running item that waits, if one does. */
  | {
      readonly kind: 'reply'
      readonly stamp: Stamp
      readonly traits: ChannelTraits
      readonly awaitedBy: ItemId | null
    }
  /** From someone without the SDK: no colour. `holdable: false` where the adapter cannot wait. */
  | { readonly kind: 'outsider'; readonly holdable: boolean; readonly transactional: boolean }
  /** A timer, a job, a consumer's next turn: the process's own beginning. */
  | { readonly kind: 'process'; readonly transactional: boolean }

export interface Item {
  readonly item: ItemId
  readonly origin: Origin
}

export interface Inbound {
  readonly channel: ChannelId
  readonly session: SessionId
  readonly traits: ChannelTraits
  readonly arrived: Received
  /** The greatest epoch on any message handed to the application. */
  readonly epochMax: number
  /** The greatest epoch on any message or marker that arrived. On FIFO channels nothing older can follow it. */
  readonly newestEpoch: number
}

export interface Outbound {
  readonly channel: ChannelId
  readonly session: SessionId
  readonly traits: ChannelTraits
  readonly sent: number
  readonly uncertain: readonly number[]
}

export interface SendRequest {
  readonly send: SendId
  readonly channel: ChannelId
  readonly message: MessageId
  /** The running item that sends; `null` for code outside every handler. */
  readonly byItem: ItemId | null
}

export type Gate =
  | { readonly kind: 'open' }
  /** Takes no new work; waits for `running` to end. `local`: for the instant of the mark only. */
  | { readonly kind: 'closing'; readonly local: boolean; readonly sinceMs: number; readonly deadlineMs: number }
  | { readonly kind: 'closed'; readonly sinceMs: number }
  /** The mark is being taken: nothing runs, nothing is sent. */
  | { readonly kind: 'marking'; readonly sinceMs: number; readonly deadlineMs: number }

/** A hold that the coordinator relies on: of the ingress, and of the gate where the process is gated. */
export interface HoldState {
  readonly number: number
  readonly sinceMs: number
  readonly endsAtMs: number
  /** Why it is no hold any more. */
  readonly broken: string | null
}

/** Recording of one inbound session after the mark. */
export interface Recording {
  readonly channel: ChannelId
  readonly session: SessionId
  readonly fifo: boolean
  readonly received: Received
  readonly recorded: readonly Recorded[]
}

export interface Entering {
  readonly by: ProcessMark['enteredBy']
  /** Whose message or marker it was; `null` for the coordinator's order. */
  readonly from: ParticipantName | null
  readonly sinceMs: number
  readonly stateMarked: boolean
  readonly ownedMarked: boolean
  readonly openHandlers: readonly OpenItem[]
  /** Sessions that others have replaced while the mark was taken, which has what was sent in them. */
  readonly replaced: readonly Outbound[]
}

export interface OpenItem {
  readonly item: ItemId
  readonly origin: Origin
  readonly handler: OpenHandler
}

export interface Draining {
  readonly expected: readonly SentAtCut[]
  readonly deadlineAtMs: number
}

/** What this process does in the cut that it takes part in. */
export interface CutWork {
  readonly ref: CutRef
  readonly role: Extract<Role, { kind: 'process' }>
  readonly hold: HoldState | null
  readonly uncolouredHandled: number
  /** Keys of the sessions of which something was handed over since the hold began. */
  readonly heardWhileHeld: ReadonlySet<string>
  /** Handlers that still ran when the gate closed at its deadline. */
  readonly overrunning: ReadonlySet<ItemId>
  /** Those of them that ended before the mark. */
  readonly overran: readonly OpenHandler[]
  readonly entering: Entering | null
  readonly mark: ProcessMark | null
  /** What was answered to `resume`: the same again to the same order. */
  readonly resumed: HoldEvidence | null
  readonly recordings: readonly Recording[]
  readonly draining: Draining | null
  readonly drained: readonly Drained[] | null
  readonly capturing: boolean
  readonly captured: CaptureEvidence | null
  /** When the coordinator was lost with the mark taken: another one may come for it, for a while. */
  readonly orphanedAtMs: number | null
}

export interface ProcessState {
  readonly name: ParticipantName
  readonly incarnation: Incarnation
  readonly generation: number
  readonly epoch: number
  readonly inbound: ReadonlyMap<string, Inbound>
  readonly outbound: ReadonlyMap<ChannelId, Outbound>
  readonly running: ReadonlyMap<ItemId, Origin>
  /** Items that entered the epoch while they ran: not waited for by any gate, their sends carry the new epoch. */
  readonly open: ReadonlySet<ItemId>
  readonly waiting: readonly Item[]
  readonly heldSends: readonly SendRequest[]
  readonly gate: Gate
  readonly work: CutWork | null
  /** The greatest fencing token seen; orders with a smaller one change nothing (C8). */
  readonly fencing: number
  readonly holdCount: number
}

export type ProcessInput =
  | { readonly type: 'ordered'; readonly order: Order; readonly nowMs: number }
  | { readonly type: 'arrived'; readonly item: ItemId; readonly origin: Origin; readonly nowMs: number }
  | { readonly type: 'finished'; readonly item: ItemId; readonly nowMs: number }
  | {
      readonly type: 'markerArrived'
      readonly stamp: Pick<Stamp, 'generation' | 'epoch' | 'channel' | 'session'>
      readonly traits: ChannelTraits
      readonly nowMs: number
    }
  /** A channel has a new session: its receiver is another incarnation, or it is used for the first time. */
  | {
      readonly type: 'sessionOpened'
      readonly channel: ChannelId
      readonly session: SessionId
      readonly traits: ChannelTraits
    }
  | { readonly type: 'sendRequested'; readonly request: SendRequest; readonly nowMs: number }
  /** A volatile channel's call failed, and nobody knows whether it arrived. */
  | { readonly type: 'sendUncertain'; readonly channel: ChannelId; readonly session: SessionId; readonly seq: number }
  /** The shell has taken the state's mark that `markState` asked for. */
  | { readonly type: 'stateMarked'; readonly ref: CutRef; readonly nowMs: number }
  | { readonly type: 'stateMarkFailed'; readonly ref: CutRef; readonly failure: FailureReport; readonly nowMs: number }
  | { readonly type: 'captured'; readonly ref: CutRef; readonly evidence: CaptureEvidence }
  | { readonly type: 'captureFailed'; readonly ref: CutRef; readonly failure: FailureReport }
  | { readonly type: 'captureProgressed'; readonly ref: CutRef; readonly bytes: number; readonly files: number }
  | { readonly type: 'disconnected'; readonly nowMs: number }
  /** A restore has put this process into a new generation, or a welcome told it the current one (C9). */
  | { readonly type: 'generationEntered'; readonly generation: number; readonly epoch: number; readonly nowMs: number }
  | { readonly type: 'ticked'; readonly nowMs: number }

export type RefusalReason = 'duplicate' | 'older-generation' | 'newer-generation'

export type ProcessEffect =
  | { readonly type: 'report'; readonly fact: Fact }
  /** Hand it to the application now. */
  | { readonly type: 'deliver'; readonly item: ItemId }
  | { readonly type: 'refuse'; readonly item: ItemId; readonly reason: RefusalReason }
  /** Send it now, with this stamp. */
  | { readonly type: 'send'; readonly send: SendId; readonly stamp: Stamp }
  /** It cannot be sent: the channel has no open session. */
  | { readonly type: 'sendRefused'; readonly send: SendId }
  /** Keep a copy of the item's payload as channel state of this cut. */
  | {
      readonly type: 'record'
      readonly ref: CutRef
      readonly item: ItemId
      readonly channel: ChannelId
      readonly seq: number
    }
  | {
      readonly type: 'sendMarker'
      readonly stamp: Pick<Stamp, 'generation' | 'epoch' | 'channel' | 'session'>
    }
  /** Take an O(1) handle on the application's state, now: nothing runs and nothing is sent until `stateMarked`. */
  | { readonly type: 'markState'; readonly ref: CutRef }
  | { readonly type: 'capture'; readonly ref: CutRef }
  /** Drop the mark and the recordings of this cut. */
  | { readonly type: 'dropMark'; readonly ref: CutRef }

/** Key of an inbound session. */
export function sessionKey(channel: ChannelId, session: SessionId): string {
  return `${channel} ${session}`
}

export function initialProcess(options: {
  readonly name: ParticipantName
  readonly incarnation: Incarnation
  readonly generation: number
  readonly epoch: number
}): ProcessState {
  return {
    ...options,
    inbound: new Map(),
    outbound: new Map(),
    running: new Map(),
    open: new Set(),
    waiting: [],
    heldSends: [],
    gate: { kind: 'open' },
    work: null,
    fencing: 0,
    holdCount: 0,
  }
}

/** One call of `decideProcess` in the making: the state so far, and the effects in order. */
export interface Step {
  state: ProcessState
  readonly effects: ProcessEffect[]
}

export function patch(step: Step, change: Partial<ProcessState>): void {
  step.state = { ...step.state, ...change }
}

/** Changes the current cut's work. */
export function patchWork(step: Step, change: Partial<CutWork>): void {
  patch(step, { work: { ...defined(step.state.work, 'the work of a cut'), ...change } })
}

export function report(step: Step, fact: Fact): void {
  step.effects.push({ type: 'report', fact })
}

/** Handlers that a gate waits for: those that run and have not been declared open. */
export function countBusy(state: ProcessState): number {
  let busy = 0
  for (const item of state.running.keys()) if (!state.open.has(item)) busy += 1
  return busy
}
