/**
 * What a process (SDK) and a Stillpoint server say to each other over their session, a WebSocket at `/v1/session`.
 * JSON text frames. The bearer token travels in the `authorization` header of the upgrade request, never in a frame.
 *
 * Bulk data does not pass here: a process uploads its captured parts to the agent by HTTP, at the URL of the order's
 * cut (docs/format/session.md):
 *   PUT  {agentUrl}/v1/captures/{cut}/{participant}/state/{part}        body: the part's bytes
 *   PUT  {agentUrl}/v1/captures/{cut}/{participant}/channels/{channel}  body: one `RecordedMessage` as JSON per line
 *   POST {agentUrl}/v1/captures/{cut}/{participant}/finish              answer: `CaptureEvidence`
 * and reads them back at a restore:
 *   GET  {agentUrl}/v1/restores/{restore}/{participant}                 answer: `RestoreContents`
 *   GET  {agentUrl}/v1/restores/{restore}/{participant}/state/{part}
 *   GET  {agentUrl}/v1/restores/{restore}/{participant}/channels/{channel}
 */

import type { Fact, Order } from '../cut/messages.ts'
import type { FailureReport } from '../kernel/failure.ts'
import type { ChannelId, Incarnation, MessageId, ParticipantName, SessionId } from '../kernel/ids.ts'

export const sessionProtocolVersion = 1

/** From the process. */
export type ProcessFrame =
  | {
      readonly type: 'hello'
      readonly version: typeof sessionProtocolVersion
      readonly participant: ParticipantName
      readonly incarnation: Incarnation
      /** What the process believes; `null` when it has just started and knows nothing. */
      readonly generation: number | null
      readonly epoch: number
      readonly sdkVersion: string
    }
  | { readonly type: 'fact'; readonly fact: Fact }
  /** Its state is restored and its channel states have been handed over; it serves in the new generation. */
  | { readonly type: 'restored'; readonly restore: string }
  | { readonly type: 'restoreFailed'; readonly restore: string; readonly failure: FailureReport }

/** From the server. */
export type ServerFrame =
  | {
      readonly type: 'welcome'
      readonly system: string
      readonly generation: number
      readonly epoch: number
      /** Base URL for captures and restores. */
      readonly agentUrl: string
      /** A restore that this process has not been through yet. It serves nothing before. */
      readonly restore: RestoreOffer | null
    }
  /** The session is refused and will be closed: unknown participant, another incarnation is connected, wrong version. */
  | { readonly type: 'refused'; readonly failure: FailureReport }
  | { readonly type: 'order'; readonly order: Order }
  /** A restore of the running system reaches this process. */
  | { readonly type: 'restore'; readonly offer: RestoreOffer }

export interface RestoreOffer {
  /** Id of this restore; answers name it. */
  readonly restore: string
  readonly snapshot: string
  /** The generation and epoch to enter (C9). */
  readonly generation: number
  readonly epoch: number
}

export interface RestoreContents {
  readonly parts: readonly string[]
  /** Inbound channels with recorded messages, to be handed over before anything new. */
  readonly channels: readonly ChannelId[]
}

/** One message of a channel's state, as a line of `channels/from→to/messages.ndjson` in a snapshot. */
export interface RecordedMessage {
  readonly message: MessageId
  readonly session: SessionId
  readonly seq: number
  readonly epoch: number
  /** `request`: its sender waited for a reply. `reply`: to a handler that no longer waits; kept as evidence. */
  readonly kind: 'message' | 'request' | 'reply'
  /** What the adapter needs to hand it over again: method, path, content type. Strings only. */
  readonly meta: Readonly<Record<string, string>>
  readonly encoding: 'utf8' | 'base64'
  readonly payload: string
}
