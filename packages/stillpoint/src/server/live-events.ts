/**
 * What happens on this server, for whoever watches (`GET /v1/events`).
 *
 * Owns: the numbering, and the last events for those who come back. Does not own: who watches, and how they are told.
 * Nothing is decided by these events, and they are lost with the server: a watcher that missed some asks for the state.
 */
import type { FailureReport } from '@stillpoint/core/kernel'
import type { OperationEvent } from '../coordinator/operations.ts'

export type OperationKind = 'status' | 'take' | 'list' | 'show' | 'verify' | 'diff' | 'restore' | 'remove'

export type ServerEvent =
  | {
      readonly type: 'operationStarted'
      readonly operation: string
      readonly kind: OperationKind
      readonly startedBy: 'request' | 'schedule'
    }
  | { readonly type: 'operationEvent'; readonly operation: string; readonly event: OperationEvent }
  | { readonly type: 'operationSucceeded'; readonly operation: string; readonly snapshot: string | null }
  | { readonly type: 'operationFailed'; readonly operation: string; readonly failure: FailureReport }
  | { readonly type: 'processConnected'; readonly name: string; readonly incarnation: string }
  | { readonly type: 'processLost'; readonly name: string; readonly incarnation: string; readonly reason: string }
  | { readonly type: 'scheduleNoted'; readonly text: string; readonly failure: FailureReport | null }

export interface NumberedEvent {
  /** 1, 2, 3 … since the server started. */
  readonly id: number
  /** ISO 8601, UTC. */
  readonly time: string
  readonly event: ServerEvent
}

export interface LiveEvents {
  publish(event: ServerEvent): void
  /** Tells of events to come, and first of those kept after the one with this id. Answers how to end it. */
  watch(afterId: number | null, watcher: (event: NumberedEvent) => void): () => void
}

export function createLiveEvents(wallMs: () => number, keptMax = 1_000): LiveEvents {
  const kept: NumberedEvent[] = []
  const watchers = new Set<(event: NumberedEvent) => void>()
  let lastId = 0
  return {
    publish(event) {
      lastId += 1
      const numbered: NumberedEvent = { id: lastId, time: new Date(wallMs()).toISOString(), event }
      // Progress is worth nothing once it is over, and would push everything else out.
      if (event.type !== 'operationEvent' || event.event.type !== 'progress') kept.push(numbered)
      if (kept.length > keptMax) kept.shift()
      for (const watcher of [...watchers]) watcher(numbered)
    },
    watch(afterId, watcher) {
      if (afterId !== null) for (const event of kept) if (event.id > afterId) watcher(event)
      watchers.add(watcher)
      return () => watchers.delete(watcher)
    },
  }
}
