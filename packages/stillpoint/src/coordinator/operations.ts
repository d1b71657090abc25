/**
 * What one can do with a system and its snapshots: the seam between the commands and those who carry them out.
 * Two implementations: in this process (coordinator/local-operations.ts) and over a server's API (server/client.ts).
 *
 * The result types are also what `--json` prints and what the HTTP API answers: fields are added, never changed.
 */

import type { Certificate, Verdict } from '@stillpoint/core'
import type { Failure, FailureReport } from '@stillpoint/core/kernel'

export type TakePhase = 'plan' | 'prepare' | 'quiesce' | 'mark' | 'resume' | 'drain' | 'capture' | 'seal' | 'release'

/** What happens while an operation runs, for progress displays and live events. */
export type OperationEvent =
  | {
      readonly type: 'phase'
      readonly phase: TakePhase | 'check' | 'restore' | 'verify' | 'switch'
      readonly attempt: number
    }
  | {
      readonly type: 'progress'
      readonly participant: string
      readonly bytes: number
      readonly bytesTotal: number | null
      readonly files: number
    }
  | { readonly type: 'note'; readonly participant: string | null; readonly text: string }
  /** An attempt failed and another one follows after `delayMs`. */
  | { readonly type: 'retry'; readonly attempt: number; readonly delayMs: number; readonly failure: FailureReport }

export interface OperationContext {
  readonly signal: AbortSignal
  readonly onEvent: (event: OperationEvent) => void
}

export interface ParticipantSummary {
  readonly name: string
  readonly kind: 'store' | 'process'
  /** Kind of the source; `sdk` for processes. */
  readonly source: string
  /** `owned`, `gated`, `quiesced`; for processes `flow` or `gated`. */
  readonly grade: string
  readonly tree: string
  readonly bytes: number
  readonly files: number
  /** How long this participant was held, milliseconds; `null` where nothing was held. */
  readonly heldMs: number | null
  readonly position: Readonly<Record<string, string | number>>
  readonly caveats: readonly string[]
  readonly notes: readonly string[]
}

export interface ChannelSummary {
  readonly channel: string
  readonly sent: number
  readonly received: number
  /** Messages in flight, recorded as channel state. */
  readonly inFlight: number
  readonly missing: number
}

export interface SnapshotSummary {
  /** The snapshot's id in the repository, 64 hexadecimal digits. */
  readonly id: string
  readonly system: string
  readonly cut: string
  readonly epoch: number
  readonly generation: number
  /** ISO 8601, UTC: when the cut was marked, by the coordinator's clock. */
  readonly time: string
  readonly verdict: Verdict['kind']
  readonly participants: number
  readonly bytes: number
  readonly inFlight: number
  /** The longest time that any participant was held, milliseconds. */
  readonly pauseMs: number
}

export interface SnapshotDetail extends SnapshotSummary {
  readonly verdictReasons: readonly string[]
  readonly participantDetails: readonly ParticipantSummary[]
  readonly channels: readonly ChannelSummary[]
  readonly certificate: Certificate
}

export interface TakeRequest {
  readonly allowInconsistent: boolean
  readonly tags: readonly string[]
}

export interface VerifyResult {
  readonly id: string
  readonly passed: boolean
  /** The verdict as recomputed from the certificate, and whether it equals the recorded one. */
  readonly verdict: Verdict['kind']
  readonly checks: readonly { readonly name: string; readonly passed: boolean; readonly detail: string }[]
  readonly bytesRead: number
}

export interface DiffResult {
  readonly from: string
  readonly to: string
  readonly participants: readonly {
    readonly name: string
    readonly change: 'added' | 'removed' | 'changed' | 'same'
    readonly bytesBefore: number
    readonly bytesAfter: number
    readonly entries: readonly {
      readonly path: string
      readonly change: 'added' | 'removed' | 'changed'
      readonly bytesBefore: number
      readonly bytesAfter: number
    }[]
  }[]
}

export interface RestoreRequest {
  readonly snapshot: string
  /** Only these; empty: all. */
  readonly participants: readonly string[]
  /** Replace targets that are not empty. */
  readonly replace: boolean
  /** Absolute path of another stillpoint.yaml whose participants of the same names are the targets (a clone). */
  readonly toConfig: string | null
}

export interface RestoreResult {
  readonly id: string
  readonly restore: string
  readonly generation: number
  readonly participants: readonly {
    readonly name: string
    /** `waiting`: a process that is not connected; it is restored when it joins. */
    readonly outcome: 'restored' | 'waiting'
    readonly bytes: number
    readonly checks: VerifyResult['checks']
    readonly notes: readonly string[]
  }[]
  /** What a partial restore breaks, in the words of the BAC theorem: broken link, orphan state, missing state. */
  readonly damage: readonly string[]
}

export interface SystemStatus {
  readonly system: string
  readonly generation: number
  readonly epoch: number
  readonly participants: readonly {
    readonly name: string
    readonly kind: 'store' | 'process'
    readonly source: string
    readonly state: 'configured' | 'connected' | 'absent' | 'restoring'
  }[]
}

export interface Operations {
  status(context: OperationContext): Promise<SystemStatus>
  /** Takes a snapshot, with retries of attempts that failed before anything was sealed. */
  take(request: TakeRequest, context: OperationContext): Promise<SnapshotDetail>
  list(context: OperationContext): Promise<readonly SnapshotSummary[]>
  /** @throws Failure `snapshot_absent`, `snapshot_ambiguous` */
  show(id: string, context: OperationContext): Promise<SnapshotDetail>
  verify(id: string, context: OperationContext): Promise<VerifyResult>
  diff(from: string, to: string, context: OperationContext): Promise<DiffResult>
  restore(request: RestoreRequest, context: OperationContext): Promise<RestoreResult>
  remove(id: string, context: OperationContext): Promise<{ readonly id: string }>
  close(): Promise<void>
}

/** A failure that ends an operation, with the exit code that the command answers (docs/cli.md). */
export interface OperationFailure {
  readonly failure: Failure
  readonly exitCode: number
}
