/**
 * What two processes say to each other on one channel's WebSocket. The sender dials; messages go one way, acknowledgements
 * the other. The token travels in the `authorization` header of the upgrade request.
 *
 *   sender                                receiver
 *   open {from, to, session, generation} →
 *                                        ← opened {incarnation, arrived} | refused {reason}
 *   message (binary) …                   →
 *   marker {epoch}                       →
 *                                        ← ack {upTo}
 *
 * A message is one binary frame: 4 bytes length of the header (big endian), the header as JSON, the payload's bytes.
 * Everything else is a JSON text frame. Frames of unknown types are refused: `open` carries a version.
 */
import { parseFrame, readIncarnation, readMessage, readName, readSession, shape } from '@stillpoint/core'
import {
  Failure,
  type Incarnation,
  type MessageId,
  type ParticipantName,
  type SessionId,
} from '@stillpoint/core/kernel'
import type { EncodedPayload, PayloadType } from '../message.ts'

export const peerProtocolVersion = 1

export interface OpenFrame {
  readonly type: 'open'
  readonly version: typeof peerProtocolVersion
  readonly from: ParticipantName
  readonly to: ParticipantName
  readonly incarnation: Incarnation
  readonly generation: number
  readonly session: SessionId
}

export interface MarkerFrame {
  readonly type: 'marker'
  readonly epoch: number
}

export type SenderFrame = OpenFrame | MarkerFrame

/**
 * - `older-generation`: the sender's state has been replaced by a restore that it has not been through.
 * - `newer-generation`, `not-joined`, `no-receiver`: not now; the sender tries again.
 * - `wrong-name`: somebody else is at this address.
 */
export type PeerRefusal = 'older-generation' | 'newer-generation' | 'not-joined' | 'no-receiver' | 'wrong-name'

export type ReceiverFrame =
  | {
      readonly type: 'opened'
      readonly incarnation: Incarnation
      readonly session: SessionId
      /** Messages 1 … `arrived` of the session are here; they need not be sent again. */
      readonly arrived: number
    }
  | { readonly type: 'refused'; readonly reason: PeerRefusal; readonly detail: string }
  /** Messages 1 … `upTo` have been handled. */
  | { readonly type: 'ack'; readonly session: SessionId; readonly upTo: number }

const { count, objectOf, oneOf, taggedBy, text } = shape

export const readSenderFrame = taggedBy<SenderFrame>('type', {
  open: objectOf<OpenFrame>({
    type: oneOf('open'),
    version: oneOf(peerProtocolVersion),
    from: readName,
    to: readName,
    incarnation: readIncarnation,
    generation: count,
    session: readSession,
  }),
  marker: objectOf<MarkerFrame>({ type: oneOf('marker'), epoch: count }),
})

type ReceiverFrameOf<T extends ReceiverFrame['type']> = Extract<ReceiverFrame, { type: T }>

export const readReceiverFrame = taggedBy<ReceiverFrame>('type', {
  opened: objectOf<ReceiverFrameOf<'opened'>>({
    type: oneOf('opened'),
    incarnation: readIncarnation,
    session: readSession,
    arrived: count,
  }),
  refused: objectOf<ReceiverFrameOf<'refused'>>({
    type: oneOf('refused'),
    reason: oneOf('older-generation', 'newer-generation', 'not-joined', 'no-receiver', 'wrong-name'),
    detail: text,
  }),
  ack: objectOf<ReceiverFrameOf<'ack'>>({ type: oneOf('ack'), session: readSession, upTo: count }),
})

/** What a message carries; channel, session and generation are those of the link. */
export interface MessageHeader {
  readonly seq: number
  readonly epoch: number
  readonly message: MessageId
  readonly type: PayloadType
}

const readHeader = objectOf<MessageHeader>({
  seq: count,
  epoch: count,
  message: readMessage,
  type: oneOf('text', 'bytes', 'json'),
})

export const headerBytesMax = 16 * 1024

export function encodeMessage(header: MessageHeader, payload: EncodedPayload): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(header))
  const frame = new Uint8Array(4 + json.byteLength + payload.bytes.byteLength)
  new DataView(frame.buffer).setUint32(0, json.byteLength)
  frame.set(json, 4)
  frame.set(payload.bytes, 4 + json.byteLength)
  return frame
}

/** @throws Failure `frame_invalid` */
export function decodeMessage(frame: Uint8Array): { readonly header: MessageHeader; readonly payload: EncodedPayload } {
  const headerBytes = frame.byteLength < 4 ? -1 : new DataView(frame.buffer, frame.byteOffset).getUint32(0)
  if (headerBytes < 2 || headerBytes > headerBytesMax || headerBytes + 4 > frame.byteLength) {
    throw new Failure({ code: 'frame_invalid', message: 'a message without a readable header' })
  }
  const json = Buffer.from(frame.subarray(4, 4 + headerBytes)).toString('utf8')
  const header = parseFrame(json, readHeader, 'header of a message')
  if (header.seq === 0) throw new Failure({ code: 'frame_invalid', message: 'a message with the number 0' })
  return { header, payload: { type: header.type, bytes: frame.subarray(4 + headerBytes) } }
}
