/**
 * The connection under one outbound channel: dials the receiver, opens the channel's session, sends what is not there
 * yet, and dials again with growing pauses when it breaks.
 *
 * Owns: the socket, its heartbeat, the order of frames on it: messages in the order of their numbers, a marker behind
 * all messages that were stamped before it. Does not own: the buffer (outbound-channel.ts).
 */
import { parseFrame } from '@stillpoint/core'
import { Failure, type Incarnation, isFailure, type ParticipantName, type SessionId } from '@stillpoint/core/kernel'
import WebSocket from 'ws'
import { exponentialBackoff } from '../backoff.ts'
import type { Settings } from '../options.ts'
import type { Entry } from './outbound-channel.ts'
import { encodeMessage, peerProtocolVersion, type ReceiverFrame, readReceiverFrame } from './peer-frames.ts'

export interface OutboundLink {
  /** Sends a message that has its stamp, if the session is open; else it goes with the others when it opens. */
  transmit(entry: Entry): void
  marker(epoch: number): void
  /** The session has changed: dial anew. */
  restart(): void
  close(): void
}

const handshakeMsMax = 10_000
const heartbeatMs = 10_000

export function outboundLink(options: {
  readonly settings: Settings
  readonly peer: ParticipantName
  readonly url: string
  /** `null` while there is nothing to open: not joined, or refused. */
  readonly session: () => { session: SessionId; generation: number; incarnation: Incarnation } | null
  readonly unhandled: () => readonly Entry[]
  readonly opened: (incarnation: Incarnation) => 'bound' | 'again' | 'later'
  readonly handled: (session: SessionId, upTo: number) => void
  readonly refusedAsOlder: (detail: string) => void
}): OutboundLink {
  const { settings, peer, url } = options
  const { clock, random } = settings
  const backoff = exponentialBackoff({ firstMs: 25, lastMs: 2_000, random })
  let socket: WebSocket | null = null
  /** The session that the receiver has opened on this socket. */
  let openSession: SessionId | null = null
  let isClosed = false
  let isDialing = false
  let cancelPause = (): void => {}

  async function dial(): Promise<void> {
    if (isClosed || isDialing || socket !== null || options.session() === null) return
    isDialing = true
    let token: string
    try {
      token = await settings.readToken()
    } catch (error) {
      settings.error(error, `channel to "${peer}"`)
      return pause()
    } finally {
      isDialing = false
    }
    if (!isClosed && socket === null) connect(token)
  }

  function pause(): void {
    cancelPause()
    if (!isClosed) cancelPause = clock.after(backoff.next(), () => void dial())
  }

  function connect(token: string): void {
    const dialed = new WebSocket(url, {
      headers: { authorization: `Bearer ${token}` },
      maxPayload: 64 * 1024,
      handshakeTimeout: handshakeMsMax,
      perMessageDeflate: false,
    })
    socket = dialed
    let isAlive = true
    let cancelBeat = (): void => {}
    const beat = (): void => {
      if (!isAlive) return dialed.terminate()
      isAlive = false
      dialed.ping()
      cancelBeat = clock.after(heartbeatMs, beat)
    }
    dialed.on('open', () => {
      cancelBeat = clock.after(heartbeatMs, beat)
      sayOpen(dialed)
    })
    dialed.on('pong', () => {
      isAlive = true
    })
    dialed.on('unexpected-response', (_request, response) => {
      const message = `"${peer}" at ${url} answers HTTP ${response.statusCode ?? 0} to the channel's connection`
      const hint = response.statusCode === 401 ? 'Both services need the same token.' : undefined
      const failure = { code: response.statusCode === 401 ? 'token_refused' : 'peer_refused', message }
      settings.error(new Failure(hint === undefined ? failure : { ...failure, hint }), `channel to "${peer}"`)
      response.destroy()
      dialed.terminate()
    })
    dialed.on('message', (data, isBinary) => {
      isAlive = true
      try {
        if (isBinary) throw new Failure({ code: 'frame_invalid', message: `a binary frame from "${peer}"` })
        take(dialed, parseFrame(data.toString(), readReceiverFrame, `frame from "${peer}"`))
      } catch (error) {
        if (!isFailure(error)) throw error
        settings.error(error, `channel to "${peer}"`)
        dialed.close(1002)
      }
    })
    dialed.on('error', (error) => settings.note(`no connection to "${peer}": ${error.message}`))
    dialed.on('close', (code) => {
      cancelBeat()
      if (code === 1009) {
        const hint = 'Give both services the same "messageBytesMax".'
        const message = `"${peer}" refuses a message for its size`
        settings.error(new Failure({ code: 'message_too_large', message, hint }), `channel to "${peer}"`)
      }
      if (socket !== dialed) return
      socket = null
      openSession = null
      pause()
    })
  }

  function sayOpen(on: WebSocket): void {
    const current = options.session()
    if (current === null) return on.close(1000)
    const frame = { type: 'open', version: peerProtocolVersion, from: settings.name, to: peer, ...current }
    on.send(JSON.stringify(frame))
  }

  function take(from: WebSocket, frame: ReceiverFrame): void {
    if (from !== socket) return
    switch (frame.type) {
      case 'ack':
        return options.handled(frame.session, frame.upTo)
      case 'refused':
        if (frame.reason === 'older-generation') options.refusedAsOlder(frame.detail)
        else settings.note(`"${peer}" does not take messages now: ${frame.detail}`)
        return from.close(1000)
      case 'opened': {
        if (frame.session !== options.session()?.session) return // Of a session that is over; the next answer counts.
        const answer = options.opened(frame.incarnation)
        if (answer === 'later') return from.close(1000)
        if (answer === 'again') return sayOpen(from)
        backoff.reset()
        openSession = frame.session
        for (const entry of options.unhandled()) {
          if (entry.stamp !== null && entry.stamp.seq > frame.arrived) transmit(entry)
        }
      }
    }
  }

  function transmit({ stamp, message, payload }: Entry): void {
    if (socket === null || stamp === null || stamp.session !== openSession) return
    const { seq, epoch } = stamp
    socket.send(encodeMessage({ seq, epoch, message, type: payload.type }, payload))
  }

  return {
    transmit,
    marker(epoch) {
      if (socket === null || openSession === null || openSession !== options.session()?.session) return
      socket.send(JSON.stringify({ type: 'marker', epoch }))
    },
    restart() {
      const old = socket
      socket = null
      openSession = null
      old?.terminate()
      cancelPause()
      backoff.reset()
      void dial()
    },
    close() {
      isClosed = true
      cancelPause()
      socket?.terminate()
    },
  }
}
