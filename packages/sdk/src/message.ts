/** Payloads: what applications send and receive, and how that is written on a wire and in a snapshot. */
import { isUtf8 } from 'node:buffer'
import { Failure, type MessageId, type ParticipantName } from '@stillpoint/core/kernel'

export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue }

/** Texts and bytes travel as they are; anything else as JSON. */
export type Payload = JsonValue | Uint8Array

export type PayloadType = 'text' | 'bytes' | 'json'

export interface EncodedPayload {
  readonly type: PayloadType
  readonly bytes: Uint8Array
}

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** @throws Failure `payload_invalid`, `message_too_large` */
export function encodePayload(payload: Payload, bytesMax: number): EncodedPayload {
  const encoded = encode(payload)
  if (encoded.bytes.byteLength > bytesMax) {
    const message = `a message of ${encoded.bytes.byteLength} bytes is larger than the limit of ${bytesMax}`
    throw new Failure({
      code: 'message_too_large',
      message,
      hint: 'Raise "messageBytesMax" at both ends, or send a reference.',
    })
  }
  return encoded
}

function encode(payload: Payload): EncodedPayload {
  if (typeof payload === 'string') return { type: 'text', bytes: encoder.encode(payload) }
  // A copy: the sender may go on writing into its own buffer while this one waits to be sent again.
  if (payload instanceof Uint8Array) return { type: 'bytes', bytes: payload.slice() }
  let json: string | undefined
  try {
    json = JSON.stringify(payload)
  } catch (cause) {
    throw new Failure({ code: 'payload_invalid', message: 'the payload cannot be written as JSON', cause })
  }
  if (json === undefined)
    throw new Failure({ code: 'payload_invalid', message: 'the payload cannot be written as JSON' })
  return { type: 'json', bytes: encoder.encode(json) }
}

/** A message, as its receiver sees it. */
export interface InboundMessage {
  readonly from: ParticipantName
  /** Unique in the system and the same at every redelivery: what to remember where handling twice would do harm. */
  readonly id: MessageId
  /** It was in flight at a cut and is handed over by a restore. */
  readonly replayed: boolean
  readonly type: PayloadType
  /** @throws Failure `payload_invalid` when the bytes are not UTF-8 */
  text(): string
  /** @throws Failure `payload_invalid` when the text is not JSON */
  json(): JsonValue
  bytes(): Uint8Array
}

export function inboundMessage(options: {
  readonly from: ParticipantName
  readonly id: MessageId
  readonly replayed: boolean
  readonly payload: EncodedPayload
}): InboundMessage {
  const { from, id, replayed, payload } = options
  const text = (): string => {
    try {
      return decoder.decode(payload.bytes)
    } catch (cause) {
      throw new Failure({ code: 'payload_invalid', message: `message ${id} from "${from}" is not text`, cause })
    }
  }
  const json = (): JsonValue => {
    try {
      return JSON.parse(text())
    } catch (cause) {
      throw new Failure({ code: 'payload_invalid', message: `message ${id} from "${from}" is not JSON`, cause })
    }
  }
  return { from, id, replayed, type: payload.type, text, json, bytes: () => payload.bytes }
}

/** For a line of a channel's state: text where it is text, base64 where it is not. */
export function payloadForRecord(payload: EncodedPayload): { encoding: 'utf8' | 'base64'; payload: string } {
  if (payload.type !== 'bytes' && isUtf8(payload.bytes)) {
    return { encoding: 'utf8', payload: decoder.decode(payload.bytes) }
  }
  return { encoding: 'base64', payload: Buffer.from(payload.bytes).toString('base64') }
}

export function payloadFromRecord(
  record: { readonly encoding: 'utf8' | 'base64'; readonly payload: string },
  type: PayloadType,
): EncodedPayload {
  const bytes = record.encoding === 'utf8' ? encoder.encode(record.payload) : Buffer.from(record.payload, 'base64')
  return { type, bytes }
}

export function isPayloadType(text: string | undefined): text is PayloadType {
  return text === 'text' || text === 'bytes' || text === 'json'
}
