/**
 * The connection to Stillpoint: dials out, says hello, passes frames, and comes back with growing pauses, for ever.
 *
 * Owns: the WebSocket, its heartbeat, reconnecting. Does not own: what frames mean (join.ts).
 * The service never waits for it.
 */
import type { IncomingMessage } from 'node:http'
import { type ProcessFrame, parseFrame, readServerFrame, type ServerFrame } from '@stillpoint/core'
import { Failure, isFailure } from '@stillpoint/core/kernel'
import WebSocket from 'ws'
import { exponentialBackoff } from '../backoff.ts'
import { sleep } from '../clock.ts'
import type { Settings } from '../options.ts'
import { sessionRefusal } from './refusal.ts'

export interface SessionClient {
  /** False when there is no connection; the frame is then not sent at all. */
  send(frame: ProcessFrame): boolean
  close(): Promise<void>
}

export interface SessionEvents {
  readonly hello: () => ProcessFrame
  readonly frame: (frame: Exclude<ServerFrame, { type: 'refused' }>) => void
  readonly refused: (failure: Failure) => void
  /** After a welcome only: whoever was joined is not any more. */
  readonly lost: () => void
}

const frameBytesMax = 64 * 1024 * 1024
const handshakeMsMax = 10_000
/** The server is taken for dead after two of these without a sign of it. */
const heartbeatMs = 10_000
/** A refusal is seldom over at once. */
const refusedMsMin = 2_000

export function sessionClient(settings: Settings, events: SessionEvents): SessionClient {
  const { clock, random } = settings
  const stopped = new AbortController()
  const backoff = exponentialBackoff({ firstMs: 100, lastMs: 15_000, random })
  let live: WebSocket | null = null

  async function keepJoined(): Promise<void> {
    while (!stopped.signal.aborted) {
      const ended = await connectOnce()
      if (stopped.signal.aborted) return
      if (ended.wasJoined) backoff.reset()
      const pauseMs = Math.max(backoff.next(), ended.wasRefused ? refusedMsMin : 0)
      await sleep(clock, pauseMs, stopped.signal).catch(() => {
        // Closed while it waited: the loop's own condition ends it.
      })
    }
  }

  async function connectOnce(): Promise<{ wasJoined: boolean; wasRefused: boolean }> {
    let token: string
    try {
      token = await settings.readToken()
    } catch (error) {
      events.refused(asFailure(error))
      return { wasJoined: false, wasRefused: true }
    }
    if (stopped.signal.aborted) return { wasJoined: false, wasRefused: false }
    return talk(token)
  }

  function talk(token: string): Promise<{ wasJoined: boolean; wasRefused: boolean }> {
    const socket = new WebSocket(settings.sessionUrl, {
      headers: { authorization: `Bearer ${token}` },
      maxPayload: frameBytesMax,
      handshakeTimeout: handshakeMsMax,
      perMessageDeflate: false,
    })
    const outcome = { wasJoined: false, wasRefused: false }
    const refuse = (failure: Failure): void => {
      outcome.wasRefused = true
      events.refused(failure)
    }
    const stop = (): void => socket.terminate()
    stopped.signal.addEventListener('abort', stop, { once: true })
    let isAlive = true
    let cancelBeat = (): void => {}
    const beat = (): void => {
      if (!isAlive) return socket.terminate()
      isAlive = false
      socket.ping()
      cancelBeat = clock.after(heartbeatMs, beat)
    }
    return new Promise((resolve) => {
      socket.on('open', () => {
        socket.send(JSON.stringify(events.hello()))
        cancelBeat = clock.after(heartbeatMs, beat)
      })
      socket.on('pong', () => {
        isAlive = true
      })
      socket.on('unexpected-response', (_request, response) => {
        // A body that never ends must not keep this process from trying again.
        const cancel = clock.after(refusalMsMax, () => response.destroy())
        void textOf(response).then((body) => {
          cancel()
          refuse(sessionRefusal(response.statusCode ?? 0, body))
          socket.terminate()
        })
      })
      socket.on('message', (data, isBinary) => {
        isAlive = true
        try {
          if (isBinary) throw new Failure({ code: 'frame_invalid', message: 'a binary frame from the server' })
          const frame = parseFrame(data.toString(), readServerFrame, 'frame from the server')
          if (frame.type === 'refused') return refuse(new Failure(frame.failure))
          if (frame.type === 'welcome') {
            outcome.wasJoined = true
            live = socket
          } else if (live !== socket) {
            throw new Failure({ code: 'frame_invalid', message: `"${frame.type}" before a welcome` })
          }
          events.frame(frame)
        } catch (error) {
          if (isFailure(error, 'frame_invalid')) refuse(error)
          else settings.error(error, 'a frame from the server')
          socket.close(1002)
        }
      })
      socket.on('error', (error) => {
        if (!stopped.signal.aborted && !outcome.wasRefused)
          settings.note(`no connection to Stillpoint: ${error.message}`)
      })
      socket.on('close', () => {
        stopped.signal.removeEventListener('abort', stop)
        cancelBeat()
        if (live === socket) {
          live = null
          events.lost()
        }
        resolve(outcome)
      })
    })
  }

  const running = keepJoined()
  return {
    send(frame) {
      if (live === null || live.readyState !== WebSocket.OPEN) return false
      live.send(JSON.stringify(frame))
      return true
    },
    async close() {
      stopped.abort(new Failure({ code: 'closed', message: 'the participant was closed' }))
      await running
    },
  }
}

const refusalMsMax = 2_000
const refusalBytesMax = 16 * 1024

/** The beginning of a body. What breaks while it comes in shortens it: the status alone says enough. */
async function textOf(response: IncomingMessage): Promise<string> {
  let text = ''
  try {
    for await (const chunk of response) {
      text += String(chunk)
      if (text.length > refusalBytesMax) break
    }
  } catch {
    // Broken off: what has come is used.
  }
  return text
}

function asFailure(error: unknown): Failure {
  if (error instanceof Failure) return error
  return new Failure({ code: 'unexpected', message: 'the session could not be opened', cause: error })
}
