/**
 * The stamp of an HTTP request or reply as headers, signed with the system's token: a forged epoch could make a process
 * enter a cut that nobody ordered. Names and meaning: packages/sdk/README.md.
 */
import { type ChannelTraits, parseFrame, readIncarnation, readStamp, type Stamp } from '@stillpoint/core'
import { type ChannelId, Failure, type Incarnation } from '@stillpoint/core/kernel'
import { sameToken, sign } from '../token.ts'

export const httpTraits: ChannelTraits = { fifo: false, volatile: true }

export const requestLabel = 'http'
export const replyLabel = 'http-reply'

/** Set on an answer of the SDK itself: why the request was not handed to the application. */
export const refusedHeader = 'stillpoint-refused'
/** Set on a request that carries no work: its sender has given up the message of this stamp. */
export const voidHeader = 'stillpoint-void'

export type HttpRefusal =
  | 'older-generation'
  | 'newer-generation'
  | 'duplicate'
  | 'signature'
  | 'too-large'
  | 'not-joined'

export interface StampedHeaders {
  readonly stamp: Stamp
  /** Of whoever sent it. */
  readonly incarnation: Incarnation
}

/** `request`: a call; `reply`: its answer; `void`: a call given up. A signature of one kind is none of another. */
export type StampKind = 'request' | 'reply' | 'void'

/** The channel has an arrow in it, and header values are ASCII. */
const encoded = (channel: ChannelId): string => encodeURIComponent(channel)

export function headersOf(kind: StampKind, stamped: StampedHeaders, token: string): Readonly<Record<string, string>> {
  const { generation, epoch, channel, session, seq, message } = stamped.stamp
  return {
    'stillpoint-generation': String(generation),
    'stillpoint-epoch': String(epoch),
    'stillpoint-channel': encoded(channel),
    'stillpoint-session': session,
    'stillpoint-seq': String(seq),
    'stillpoint-message': encodeURIComponent(message),
    'stillpoint-incarnation': encodeURIComponent(stamped.incarnation),
    'stillpoint-signature': signatureOf(kind, stamped, token),
  }
}

function signatureOf(kind: StampKind, { stamp, incarnation }: StampedHeaders, token: string): string {
  const { generation, epoch, channel, session, seq, message } = stamp
  return sign(token, [
    'stillpoint-1',
    kind,
    `${generation}`,
    `${epoch}`,
    channel,
    session,
    `${seq}`,
    message,
    incarnation,
  ])
}

/**
 * The stamp in the headers; `null` where there is none at all.
 * @param get answers a header's value by its lower-case name
 * @throws Failure `stamp_refused` where the stamp is incomplete or its signature is wrong
 */
export function readHeaders(
  kind: StampKind,
  get: (name: string) => string | null | undefined,
  token: string,
): StampedHeaders | null {
  const channel = get('stillpoint-channel')
  if (channel === undefined || channel === null) return null
  const number = (name: string): number => {
    const text = get(name) ?? ''
    return /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
  }
  const text = (name: string): string => decoded(get(name) ?? '', name)
  const fields = {
    generation: number('stillpoint-generation'),
    epoch: number('stillpoint-epoch'),
    channel: decoded(channel, 'stillpoint-channel'),
    session: get('stillpoint-session'),
    seq: number('stillpoint-seq'),
    message: text('stillpoint-message'),
  }
  let stamped: StampedHeaders
  try {
    const stamp = parseFrame(JSON.stringify(fields), readStamp, 'stamp of a request')
    stamped = { stamp, incarnation: readIncarnation(text('stillpoint-incarnation'), 'stillpoint-incarnation') }
  } catch (cause) {
    throw stampRefused('it cannot be read', cause)
  }
  if (!sameToken(get('stillpoint-signature') ?? '', signatureOf(kind, stamped, token))) {
    throw stampRefused('its signature is not of this system')
  }
  return stamped
}

function decoded(text: string, name: string): string {
  try {
    return decodeURIComponent(text)
  } catch (cause) {
    throw stampRefused(`the header ${name} cannot be read`, cause)
  }
}

function stampRefused(why: string, cause?: unknown): Failure {
  const hint = 'Both services need the same token. Requests from elsewhere must not carry headers named stillpoint-….'
  return new Failure({ code: 'stamp_refused', message: `the stamp of a request is refused: ${why}`, hint, cause })
}
