/**
 * HTTP requests at the way in: coloured ones become messages of a channel, all others are outsiders. Both wait here
 * until the gate lets them in. Knows no framework: node-handler.ts and fastify.ts put it in front of one.
 *
 * Owns: what is known of the calls that are being answered, and the numbers of the replies. A request of another process is read
 * to its end before it counts as arrived: it is there as a whole, or not at all, and can be recorded.
 */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex, Readable } from 'node:stream'
import { type Stamp, sessionKey } from '@stillpoint/core'
import {
  type ChannelId,
  channelEnds,
  channelId,
  Failure,
  type Incarnation,
  isFailure,
  type MessageId,
  type ParticipantName,
  type SessionId,
} from '@stillpoint/core/kernel'
import type { ProtocolShell, RecordBody } from '../gate/protocol-shell.ts'
import type { Work } from '../gate/work-context.ts'
import type { Settings } from '../options.ts'
import { guardReply, type ReplyGuard } from './reply-guard.ts'
import {
  type HttpRefusal,
  headersOf,
  httpTraits,
  readHeaders,
  refusedHeader,
  replyLabel,
  requestLabel,
  type StampedHeaders,
  voidHeader,
} from './stamp-headers.ts'

export type Admission =
  /** The SDK has answered by itself, or nobody is there any more. */
  | { readonly kind: 'answered' }
  | {
      readonly kind: 'run'
      readonly work: Work
      /** The whole body of a coloured request; `null` where the request's own stream is untouched. */
      readonly body: Buffer | null
      readonly reply: ReplyGuard
    }

export interface HttpServerSide {
  /** Resolves when the request may run. Whoever runs it calls `reply.ended()` when its handler has returned. */
  admit(request: IncomingMessage, response: ServerResponse, options: AdmitOptions): Promise<Admission>
  /** The request that comes over this connection is the replay of a recorded one. */
  expectReplay(socket: Duplex, replay: { readonly transactional: boolean; readonly ended: () => void }): void
  enterGeneration(): void
}

export interface AdmitOptions {
  readonly transactional: boolean
  /** Where the body comes from, when not from the request itself. */
  readonly body?: Readable
}

interface Exchange {
  /** The caller has given up: its reply is not sent, and has no number. */
  isVoid: boolean
  reply: Stamp | null
}

/** Calls whose caller may still give them up; older ones are forgotten. */
const exchangesMax = 8192

export function httpServerSide(options: {
  readonly settings: Settings
  readonly shell: ProtocolShell
  readonly isJoined: () => boolean
}): HttpServerSide {
  const { settings, shell, isJoined } = options
  const exchanges = new Map<string, Exchange>()
  const replySessions = new Map<ParticipantName, { incarnation: Incarnation; session: SessionId }>()
  const replays = new WeakMap<Duplex, { readonly transactional: boolean; readonly ended: () => void }>()
  let replyCount = 0

  async function admit(
    request: IncomingMessage,
    response: ServerResponse,
    { transactional, body }: AdmitOptions,
  ): Promise<Admission> {
    const replay = replays.get(request.socket)
    if (replay !== undefined) return uncoloured(response, { ...replay, isReplay: true })
    const outsider = { transactional, isReplay: false, ended: () => {} }
    // Nobody counts on a process that has not joined: whoever calls it is an outsider to it.
    if (!isJoined()) return uncoloured(response, outsider)
    const token = await settings.readToken()
    const get = (name: string): string | undefined => {
      const value = request.headers[name]
      return Array.isArray(value) ? value[0] : value
    }
    try {
      const isVoid = get(voidHeader) !== undefined
      const stamped = readHeaders(isVoid ? 'void' : 'request', get, token)
      if (stamped === null) return await uncoloured(response, outsider)
      checkChannel(stamped.stamp.channel)
      if (isVoid) return takeVoid(response, stamped, token)
      const bytes = await wholeBody(body ?? request, settings.messageBytesMax)
      return await coloured({ request, response, stamped, bytes, transactional, token })
    } catch (error) {
      if (!isFailure(error)) throw error
      return refuse(response, error.code === 'message_too_large' ? 'too-large' : 'signature', error)
    }
  }

  function checkChannel(channel: ChannelId): void {
    const { to, label } = channelEnds(channel)
    if (to === settings.name && label === requestLabel) return
    const message = `a request on the channel ${channel} came to "${settings.name}"`
    throw new Failure({ code: 'stamp_refused', message, hint: 'Check the name and the address that the caller uses.' })
  }

  function uncoloured(
    response: ServerResponse,
    { transactional, isReplay, ended }: { transactional: boolean; isReplay: boolean; ended: () => void },
  ): Promise<Admission> {
    return new Promise((resolve) => {
      shell.arrive({
        origin: isReplay ? { kind: 'process', transactional } : { kind: 'outsider', holdable: true, transactional },
        replay: isReplay,
        refuse: () => resolve({ kind: 'answered' }),
        deliver: (work) => {
          const reply = guardReply(response, {
            ask: (answer) => answer({ kind: 'plain' }),
            end: () => {
              shell.end(work)
              ended()
            },
            lost: () => {},
          })
          if (!isReplay && response.destroyed) {
            reply.abandon() // The outsider has gone while it was held.
            resolve({ kind: 'answered' })
          } else resolve({ kind: 'run', work, body: null, reply })
        },
      })
    })
  }

  function coloured(call: {
    readonly request: IncomingMessage
    readonly response: ServerResponse
    readonly stamped: StampedHeaders
    readonly bytes: Buffer
    readonly transactional: boolean
    readonly token: string
  }): Promise<Admission> {
    const { request, response, stamped, bytes, transactional } = call
    const { stamp } = stamped
    const exchange: Exchange = { isVoid: false, reply: null }
    return new Promise((resolve) => {
      shell.arrive({
        origin: { kind: 'message', stamp, traits: httpTraits, expectsReply: true, transactional },
        body: () => recordOf(request, bytes),
        refuse: (reason) => resolve(refuse(response, reason)),
        deliver: (work) => resolve({ kind: 'run', work, body: bytes, reply: replyOf(work) }),
      })
      remember(stamp, exchange)
    })

    function replyOf(work: Work): ReplyGuard {
      return guardReply(response, {
        ask(answer) {
          if (exchange.isVoid) return answer({ kind: 'plain' })
          if (stamp.generation !== shell.state().generation)
            return answer({ kind: 'refused', headers: refusal('older-generation') })
          const channel = readyReplies(stamped)
          replyCount += 1
          const message = `${settings.incarnation}.r${replyCount}` as MessageId
          const granted = (reply: Stamp): void => {
            exchange.reply = reply
            const own = { stamp: reply, incarnation: settings.incarnation }
            answer({ kind: 'stamped', headers: headersOf('reply', own, call.token) })
          }
          const refused = (): void => answer({ kind: 'refused', headers: refusal('older-generation') })
          shell.send({ channel, message, work }, { granted, refused })
        },
        end: () => shell.end(work),
        lost() {
          if (exchange.reply === null) return
          const { channel, session, seq } = exchange.reply
          shell.feed({ type: 'sendUncertain', channel, session, seq })
        },
      })
    }
  }

  /** The reverse channel, with a session for this life of the caller. */
  function readyReplies({ stamp, incarnation }: StampedHeaders): ChannelId {
    const { from } = channelEnds(stamp.channel)
    const channel = channelId(settings.name, from, replyLabel)
    if (replySessions.get(from)?.incarnation !== incarnation) {
      const session = randomUUID() as SessionId
      replySessions.set(from, { incarnation, session })
      shell.openSession(channel, session, httpTraits)
    }
    return channel
  }

  function remember({ channel, session, seq }: Stamp, exchange: Exchange): void {
    const key = `${sessionKey(channel, session)} ${seq}`
    // A duplicate must not take the place of the call that is being answered.
    if (!exchanges.has(key)) exchanges.set(key, exchange)
    const oldest = exchanges.size > exchangesMax ? exchanges.keys().next().value : undefined
    if (oldest !== undefined) exchanges.delete(oldest)
  }

  /** The caller has given up: the number counts as received, whether or not the call itself ever came or comes. */
  function takeVoid(response: ServerResponse, { stamp }: StampedHeaders, token: string): Admission {
    if (stamp.generation !== shell.state().generation) {
      return refuse(response, stamp.generation < shell.state().generation ? 'older-generation' : 'newer-generation')
    }
    const exchange = exchanges.get(`${sessionKey(stamp.channel, stamp.session)} ${stamp.seq}`)
    if (exchange !== undefined) exchange.isVoid = true
    shell.arrive({
      origin: { kind: 'message', stamp, traits: httpTraits, expectsReply: false, transactional: true },
      body: () => ({ kind: 'request', meta: { void: 'true' }, encoding: 'utf8', payload: '' }),
      refuse: () => {},
      deliver: (work) => shell.end(work),
    })
    const reply = exchange?.reply ?? null
    const own = reply === null ? {} : headersOf('reply', { stamp: reply, incarnation: settings.incarnation }, token)
    response.writeHead(204, { ...own, [voidHeader]: '1' }).end()
    return { kind: 'answered' }
  }

  function refuse(response: ServerResponse, reason: HttpRefusal, failure?: Failure): Admission {
    if (failure !== undefined) settings.error(failure, 'a request of another process')
    const status = reason === 'signature' ? 401 : reason === 'too-large' ? 413 : 409
    const text = failure?.message ?? `Stillpoint: ${reason}`
    response.writeHead(status, { ...refusal(reason), connection: 'close', 'content-type': 'text/plain; charset=utf-8' })
    response.end(`${text}\n`)
    return { kind: 'answered' }
  }

  return {
    admit,
    expectReplay: (socket, replay) => void replays.set(socket, replay),
    enterGeneration() {
      replySessions.clear()
      exchanges.clear()
    },
  }
}

function refusal(reason: HttpRefusal): Readonly<Record<string, string>> {
  return { [refusedHeader]: reason }
}

/** Not for the next time: they describe this connection, or this sending. */
const hopHeaders =
  /^(?:connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|content-length|host|expect|stillpoint-.*)$/

function recordOf(request: IncomingMessage, bytes: Buffer): RecordBody {
  const headers = Object.entries(request.headers).filter(([name]) => !hopHeaders.test(name))
  return {
    kind: 'request',
    meta: {
      method: request.method ?? 'GET',
      path: request.url ?? '/',
      headers: JSON.stringify(Object.fromEntries(headers)),
    },
    encoding: 'base64',
    payload: bytes.toString('base64'),
  }
}

async function wholeBody(stream: Readable, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of stream) {
    bytes += chunk.length
    if (bytes > bytesMax) {
      const message = `a request of another process is larger than ${bytesMax} bytes`
      throw new Failure({ code: 'message_too_large', message, hint: 'Raise "messageBytesMax" at both ends.' })
    }
    chunks.push(Buffer.from(chunk))
  }
  return Buffer.concat(chunks)
}
