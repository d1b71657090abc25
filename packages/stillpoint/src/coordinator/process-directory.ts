/**
 * The processes that are connected, as the coordinator sees them. Implemented by the server's sessions
 * (server/sessions.ts); a one-shot `take` has none (`noProcesses`).
 */
import type { Fact, Order, RestoreOffer } from '@stillpoint/core'
import type { Incarnation, ParticipantName } from '@stillpoint/core/kernel'

export interface ConnectedProcess {
  readonly name: ParticipantName
  readonly incarnation: Incarnation
}

export type ProcessEvent =
  | { readonly type: 'fact'; readonly from: ParticipantName; readonly incarnation: Incarnation; readonly fact: Fact }
  /** The connection is gone. Nothing that it held can be relied on (C5). */
  | { readonly type: 'lost'; readonly name: ParticipantName; readonly incarnation: Incarnation }
  | { readonly type: 'restored'; readonly name: ParticipantName; readonly restore: string }
  | {
      readonly type: 'restoreFailed'
      readonly name: ParticipantName
      readonly restore: string
      readonly message: string
    }

export interface ProcessDirectory {
  connected(): readonly ConnectedProcess[]
  /** Sends in order; answers false when that incarnation is not connected any more. */
  send(to: ConnectedProcess, order: Order): boolean
  /** Tells a connected process to restore now; the same offer is in the welcome of those who connect later. */
  offerRestore(to: ConnectedProcess, offer: RestoreOffer): boolean
  /** Events in the order in which they came. Answers a function that ends the subscription. */
  subscribe(listener: (event: ProcessEvent) => void): () => void
}

export const noProcesses: ProcessDirectory = {
  connected: () => [],
  send: () => false,
  offerRestore: () => false,
  subscribe: () => () => {},
}
