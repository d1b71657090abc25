/**
 * The receiving end of FIFO channels: accepts connections of peers, turns their messages into work, acknowledges what
 * has been handled.
 *
 * Owns: links, and per session what has been handled. Does not own: what has arrived (the state machine).
 *
 * Invariants:
 * - I1 On one session the numbers come without a gap, or the link is closed: a lost frame can never look like a cut.
 * - I2 Acknowledged is only what a handler has ended with (or thrown out of), so a receiver that dies in a handler is
 *   sent the message again.
 * - I3 Nothing of another generation gets past `open`; entering a generation closes every link (C9).
 */
import {
  addReceived,
  nothingReceived,
  parseFrame,
  type Received,
  type RecordedMessage,
  type Stamp,
  sessionKey,
} from '@stillpoint/core'
import { type ChannelId, channelEnds, channelId, Failure, isFailure } from '@stillpoint/core/kernel'
import type WebSocket from 'ws'
import type { ProtocolShell } from '../gate/protocol-shell.ts'
import { runAs } from '../gate/work-context.ts'
import { type EncodedPayload, inboundMessage, isPayloadType, payloadForRecord, payloadFromRecord } from '../message.ts'
import type { Settings } from '../options.ts'
import { fifoTraits } from './outbound-channel.ts'
import { decodeMessage, type OpenFrame, type PeerRefusal, type ReceiverFrame, readSenderFrame } from './peer-frames.ts'
import type { Receiver, Receivers } from './receivers.ts'

export interface InboundLinks {
  /** A connection whose token has been checked. */
  accept(socket: WebSocket): void
  /** Hands a recorded message over; resolves when its handler has ended. @throws Failure `receiver_missing` */
  replay(channel: ChannelId, record: RecordedMessage): Promise<void>
  closeAll(): void
}

interface Session {
  readonly open: OpenFrame
  readonly channel: ChannelId
  handled: Received
  link: WebSocket
}

const heartbeatMs = 10_000

export function inboundLinks(options: {
  readonly settings: Settings
  readonly shell: ProtocolShell
  readonly receivers: Receivers
  readonly isJoined: () => boolean
}): InboundLinks {
  const { settings, shell, receivers, isJoined } = options
  const sessions = new Map<string, Session>()
  const links = new Set<WebSocket>()

  function say(link: WebSocket, frame: ReceiverFrame): void {
    if (link.readyState === link.OPEN) link.send(JSON.stringify(frame))
  }

  function refusalOf(open: OpenFrame): { reason: PeerRefusal; detail: string } | null {
    const { generation } = shell.state()
    if (open.to !== settings.name) return { reason: 'wrong-name', detail: `this is "${settings.name}"` }
    if (!isJoined()) return { reason: 'not-joined', detail: `"${settings.name}" has not joined Stillpoint yet` }
    const detail = `"${settings.name}" is in generation ${generation}, the message is of ${open.generation}`
    if (open.generation < generation) return { reason: 'older-generation', detail }
    if (open.generation > generation) return { reason: 'newer-generation', detail }
    if (receivers.of(open.from) !== undefined) return null
    return { reason: 'no-receiver', detail: `"${settings.name}" has no handler for messages of "${open.from}"` }
  }

  function openSession(link: WebSocket, open: OpenFrame): Session | null {
    const refusal = refusalOf(open)
    if (refusal !== null) {
      say(link, { type: 'refused', ...refusal })
      link.close(1000)
      return null
    }
    const channel = channelId(open.from, settings.name)
    const key = sessionKey(channel, open.session)
    const known = sessions.get(key)
    // The sender has dialed again before this end noticed that the first connection is dead.
    if (known !== undefined && known.link !== link) known.link.terminate()
    const session = known ?? { open, channel, handled: nothingReceived, link }
    session.link = link
    // Sessions of earlier lives of the same sender are over.
    for (const [other, { open: before }] of sessions) {
      if (before.from === open.from && other !== key) sessions.delete(other)
    }
    sessions.set(key, session)
    const arrived = arrivedOn(key)
    say(link, { type: 'opened', incarnation: settings.incarnation, session: open.session, arrived })
    acknowledge(session)
    return session
  }

  function arrivedOn(key: string): number {
    return shell.state().inbound.get(key)?.arrived.upTo ?? 0
  }

  function takeMessage(session: Session, frame: Uint8Array): void {
    const { header, payload } = decodeMessage(frame)
    const { open, channel } = session
    const expected = arrivedOn(sessionKey(channel, open.session)) + 1
    if (header.seq > expected) {
      const message = `"${open.from}" sent message ${header.seq} of ${channel} where ${expected} was due`
      throw new Failure({ code: 'frame_invalid', message })
    }
    const { seq, epoch, message } = header
    const stamp: Stamp = { generation: open.generation, epoch, channel, session: open.session, seq, message }
    const receiver = receivers.of(open.from)
    if (receiver === undefined) return // Refused at `open`; handlers are never taken away.
    shell.arrive({
      origin: {
        kind: 'message',
        stamp,
        traits: fifoTraits,
        expectsReply: false,
        transactional: receiver.transactional,
      },
      body: () => ({ kind: 'message', meta: { type: payload.type }, ...payloadForRecord(payload) }),
      refuse: (reason) => {
        if (reason === 'duplicate') return acknowledge(session)
        const detail = `"${settings.name}" is in generation ${shell.state().generation}`
        say(session.link, { type: 'refused', reason, detail })
      },
      deliver: (work) => {
        const inbound = inboundMessage({ from: open.from, id: message, replayed: false, payload })
        void runAs(work, () => handle(receiver, inbound)).then(() => {
          shell.end(work)
          session.handled = addReceived(session.handled, seq)
          acknowledge(session)
        })
      },
    })
  }

  /** Never rejects: an error of the application is reported, and the message counts as handled. */
  async function handle({ handler }: Receiver, message: ReturnType<typeof inboundMessage>): Promise<void> {
    try {
      await handler(message)
    } catch (error) {
      settings.error(error, `message ${message.id} from "${message.from}"`)
    }
  }

  function acknowledge({ link, open, handled }: Session): void {
    say(link, { type: 'ack', session: open.session, upTo: handled.upTo })
  }

  function take(link: WebSocket, session: Session | null, data: WebSocket.RawData, isBinary: boolean): Session | null {
    if (isBinary) {
      if (session === null) throw new Failure({ code: 'frame_invalid', message: 'a message before "open"' })
      takeMessage(session, bytesOf(data))
      return session
    }
    const frame = parseFrame(bytesOf(data).toString('utf8'), readSenderFrame, 'frame of a peer')
    if (frame.type === 'open') return openSession(link, frame)
    if (session === null) throw new Failure({ code: 'frame_invalid', message: 'a marker before "open"' })
    const { open, channel } = session
    const stamp = { generation: open.generation, epoch: frame.epoch, channel, session: open.session }
    shell.feed({ type: 'markerArrived', stamp, traits: fifoTraits })
    return session
  }

  return {
    accept(link) {
      let session: Session | null = null
      let isAlive = true
      let cancelBeat = (): void => {}
      const beat = (): void => {
        if (!isAlive) return link.terminate()
        isAlive = false
        link.ping()
        cancelBeat = settings.clock.after(heartbeatMs, beat)
      }
      cancelBeat = settings.clock.after(heartbeatMs, beat)
      links.add(link)
      link.on('pong', () => {
        isAlive = true
      })
      link.on('message', (data, isBinary) => {
        isAlive = true
        // What was still in the socket when this end closed it is sent again on the next one.
        if (link.readyState !== link.OPEN || (session !== null && session.link !== link)) return
        try {
          session = take(link, session, data, isBinary)
        } catch (error) {
          if (!isFailure(error)) throw error
          settings.error(error, 'a connection of a peer')
          link.close(1002)
        }
      })
      link.on('error', (error) => settings.error(error, 'a connection of a peer'))
      link.on('close', () => {
        cancelBeat()
        links.delete(link)
      })
    },
    replay(channel, record) {
      const { from } = channelEnds(channel)
      const receiver = receivers.of(from)
      if (receiver === undefined) {
        const message = `"${settings.name}" has no handler for the recorded messages of ${channel}`
        const hint = `Call receive(${JSON.stringify(from)}, …) right after join.`
        throw new Failure({ code: 'receiver_missing', message, hint })
      }
      const type = record.meta['type']
      const payload: EncodedPayload = payloadFromRecord(record, isPayloadType(type) ? type : 'bytes')
      return new Promise((resolve) => {
        shell.arrive({
          origin: { kind: 'process', transactional: receiver.transactional },
          replay: true,
          refuse: () => resolve(),
          deliver: (work) => {
            const message = inboundMessage({ from, id: record.message, replayed: true, payload })
            void runAs(work, () => handle(receiver, message)).then(() => {
              shell.end(work)
              resolve()
            })
          },
        })
      })
    },
    closeAll() {
      sessions.clear()
      for (const link of links) link.terminate()
    },
  }
}

function bytesOf(data: WebSocket.RawData): Buffer {
  if (Buffer.isBuffer(data)) return data
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data)
}
