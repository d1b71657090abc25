/**
 * What the control plane remembers of its systems between two operations.
 *
 * Owns: the vocabulary between whoever carries out operations and the store of their records. Does not own: snapshots,
 * which live in the repository; the catalog can be lost, and is then built again from there (`raise`).
 *
 * Rules that every catalog keeps, and that the conformance suite checks:
 * - K1 What a method answered is durable: it is there after a crash at any later moment. What it did not answer is there
 *   as a whole or not at all.
 * - K2 At most one operation of a system is under way, and one that died is no longer under way, at once.
 * - K3 Each operation has a fencing token greater than all before; what an older one writes is refused (C8).
 * - K4 An epoch is handed out once, and is greater than all before, over crashes, restores and `raise`.
 * - K5 The generation only grows, and only by `switchRestore` and `raise` (C9).
 */
import type { Plan, RestoreOffer } from '@stillpoint/core'
import type { CutId, ParticipantName } from '@stillpoint/core/kernel'

export interface SystemCounters {
  readonly generation: number
  /** The last epoch that was handed out; 0 before the first. */
  readonly epoch: number
  /** The last fencing token that was handed out; 0 before the first. */
  readonly fencing: number
}

/** A cut that was opened and never closed: its coordinator died, or is at work. */
export interface OpenCut {
  readonly cut: CutId
  readonly epoch: number
  readonly generation: number
  readonly fencing: number
  readonly processes: readonly ParticipantName[]
}

export type CutOutcome =
  | { readonly outcome: 'sealed'; readonly snapshot: string }
  | { readonly outcome: 'aborted'; readonly reason: string }

/** A restore as it goes on. What is in `replaced` holds the snapshot's state; what is in `begun` only, may. */
export interface RestoreRecord {
  readonly restore: string
  readonly snapshot: string
  /** Whether the targets are this system's own, and not those of another configuration. */
  readonly ownTargets: boolean
  readonly stores: readonly ParticipantName[]
  readonly begun: readonly ParticipantName[]
  readonly replaced: readonly ParticipantName[]
}

export interface PendingRestore {
  readonly participant: ParticipantName
  readonly offer: RestoreOffer
}

export interface Schedule {
  readonly name: string
  readonly everyMs: number
  /** When it is due next, milliseconds since 1970. */
  readonly nextAtMs: number
}

/** Who is at work; for the message to whoever must wait. */
export interface Holder {
  readonly what: string
  readonly pid: number
  readonly host: string
  /** ISO 8601. */
  readonly since: string
}

/** The right to change one system, from `begin` to `end`. Every write carries its fencing token (K3). */
export interface OperationLease {
  readonly system: string
  readonly fencing: number
  /** Hands out an epoch (K4). */
  nextEpoch(): Promise<{ readonly epoch: number; readonly generation: number }>
  openCut(plan: Plan): Promise<void>
  /** Appends to the cut's log, in this order. Records are JSON texts. */
  recordCut(cut: CutId, records: readonly string[]): Promise<void>
  /** @throws Failure `cut_closed` when the cut is not open: a cut has one outcome */
  closeCut(cut: CutId, outcome: CutOutcome): Promise<void>
  beginRestore(restore: Omit<RestoreRecord, 'begun' | 'replaced'>): Promise<void>
  /** Before the first change to a target, and after the last one. */
  markTarget(restore: string, target: ParticipantName, state: 'begun' | 'replaced'): Promise<void>
  /** In one step: the new generation and its first epoch, the restore closed, an offer for each process. */
  switchRestore(restore: string, processes: readonly ParticipantName[]): Promise<RestoreOffer>
  /** The restore is over without a switch: its targets are of another system, or it failed before the first change. */
  closeRestore(restore: string, reason: string): Promise<void>
  /** Lets others begin. Idempotent. */
  end(): Promise<void>
}

export interface Catalog {
  /**
   * @throws Failure `system_busy` (retry `later`) naming who is at work
   */
  begin(system: string, holder: Holder): Promise<OperationLease>
  counters(system: string): Promise<SystemCounters>
  /** Whether this system's counters were ever compared with its repository (`raise`). */
  isRebuilt(system: string, repositoryId: string): Promise<boolean>
  /** Counters grow to at least these (K4, K5): from a repository, or from a process that remembers more than we do. */
  raise(system: string, least: Partial<SystemCounters>, repositoryId?: string): Promise<SystemCounters>
  openCuts(system: string): Promise<readonly OpenCut[]>
  /** The log of a cut, open or closed; empty for one that is not known. */
  cutRecords(system: string, cut: CutId): Promise<readonly string[]>
  /** Restores that were begun and neither switched nor closed. */
  openRestores(system: string): Promise<readonly RestoreRecord[]>
  pendingRestores(system: string): Promise<readonly PendingRestore[]>
  /** The process has been through this restore. Idempotent; one of another restore changes nothing. */
  completeRestore(system: string, participant: ParticipantName, restore: string): Promise<void>
  /** Cached summaries, by snapshot id: JSON texts. A cache: what is not in it is read from the repository. */
  cachedSnapshots(system: string): Promise<ReadonlyMap<string, string>>
  cacheSnapshot(system: string, id: string, summary: string): Promise<void>
  dropCachedSnapshots(system: string, ids: readonly string[]): Promise<void>
  schedules(system: string): Promise<readonly Schedule[]>
  putSchedule(system: string, schedule: Schedule): Promise<void>
  removeSchedule(system: string, name: string): Promise<void>
  close(): Promise<void>
}
