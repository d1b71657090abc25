/**
 * One WebSocket to a process: its limits, its heartbeat, its end.
 *
 * Owns: everything that can be said about a connection without knowing what its frames mean.
 * Does not own: the frames' meaning, names, sessions (sessions.ts).
 *
 * Invariants:
 * - Frames go out in the order of `send`, and come in as they were sent. After the end, neither.
 * - `onEnd` is called once, whatever ends it: the peer, its silence, its slowness, its mistakes, or us.
 * - No connection makes us keep more than `bufferedBytesMax` and one frame for it.
 */
import type { ServerFrame } from '@stillpoint/core'
import type { Clock } from '@stillpoint/core/kernel'
import type { RawData, WebSocket } from 'ws'

export interface ConnectionLimits {
  readonly heartbeatMs: number
  /** Heartbeats in a row without a sign of life, after which the connection is given up. */
  readonly silentBeatsMax: number
  /** For the frame, as text. */
  readonly frameBytesMax: number
  /** Frames that may come at once, and how many per second beyond that. */
  readonly frameBurst: number
  readonly framesPerSecond: number
  /** What may wait to be read by the peer. */
  readonly bufferedBytesMax: number
  /** How long a connection may take to say goodbye. */
  readonly closeMs: number
}

export interface ConnectionHandlers {
  readonly onText: (text: string) => void
  readonly onEnd: (reason: string) => void
}

/** Codes of RFC 6455, section 7.4.1. */
export type CloseCode = 1001 | 1003 | 1008 | 1011 | 1013
const reasonBytesMax = 123

export interface ConnectionOptions {
  readonly clock: Clock
  readonly limits: ConnectionLimits
  readonly handlers: ConnectionHandlers
}

export class Connection {
  readonly #socket: WebSocket
  readonly #clock: Clock
  readonly #limits: ConnectionLimits
  readonly #handlers: ConnectionHandlers
  readonly #waitingForLife = new Set<(alive: boolean) => void>()
  #open = true
  #lastError: string | undefined
  #silentBeats = 0
  #allowance: number
  #allowanceAtMs: number
  #stopBeat: () => void

  constructor(socket: WebSocket, { clock, limits, handlers }: ConnectionOptions) {
    this.#socket = socket
    this.#clock = clock
    this.#limits = limits
    this.#handlers = handlers
    this.#allowance = limits.frameBurst
    this.#allowanceAtMs = clock.monotonicMs()
    this.#stopBeat = clock.after(limits.heartbeatMs, () => this.#beat())
    socket.on('message', (data: RawData, isBinary: boolean) => this.#receive(data, isBinary))
    socket.on('ping', () => void this.#admitted())
    socket.on('pong', () => void this.#admitted())
    // Always followed by `close`, which has no words for what happened.
    socket.on('error', (error) => {
      this.#lastError = error.message
    })
    socket.on('close', (code, reason) => this.#ended(this.#lastError ?? closeText(code, reason.toString('utf8'))))
  }

  isOpen(): boolean {
    return this.#open
  }

  /** False when the connection has ended, or ends because its peer does not read. */
  send(frame: ServerFrame): boolean {
    if (!this.#open) return false
    const { bufferedBytesMax } = this.#limits
    if (this.#socket.bufferedAmount > bufferedBytesMax) {
      this.#drop(`it does not read what it is sent: more than ${bufferedBytesMax} bytes are waiting`)
      return false
    }
    // An error in sending closes the socket, and that is told by `close`.
    this.#socket.send(JSON.stringify(frame), () => {})
    return true
  }

  /** Whether the peer shows a sign of life from now on within this time. */
  answersWithin(waitMs: number): Promise<boolean> {
    if (!this.#open) return Promise.resolve(false)
    return new Promise((resolve) => {
      const settle = (alive: boolean) => {
        this.#waitingForLife.delete(settle)
        cancel()
        resolve(alive)
      }
      const cancel = this.#clock.after(waitMs, () => settle(false))
      this.#waitingForLife.add(settle)
      this.#socket.ping()
    })
  }

  /** Ends it, saying why. What was sent before still arrives, if the peer reads it. */
  end(code: CloseCode, reason: string): void {
    if (!this.#open) return
    this.#socket.close(code, closeReason(reason))
    // The peer may never answer the close: then it is cut off.
    const stop = this.#clock.after(this.#limits.closeMs, () => this.#socket.terminate())
    this.#socket.once('close', stop)
    this.#ended(reason)
  }

  #drop(reason: string): void {
    this.#socket.terminate()
    this.#ended(reason)
  }

  #ended(reason: string): void {
    if (!this.#open) return
    this.#open = false
    this.#stopBeat()
    for (const answer of [...this.#waitingForLife]) answer(false)
    this.#handlers.onEnd(reason)
  }

  #beat(): void {
    // Beats are counted, not milliseconds: when we ourselves stood still, the peer is not to blame.
    if (this.#silentBeats >= this.#limits.silentBeatsMax) {
      return this.#drop(`it has been silent for ${this.#silentBeats} heartbeats`)
    }
    this.#silentBeats += 1
    this.#socket.ping()
    this.#stopBeat = this.#clock.after(this.#limits.heartbeatMs, () => this.#beat())
  }

  #receive(data: RawData, isBinary: boolean): void {
    if (!this.#admitted()) return
    if (isBinary) return this.end(1003, 'it sent a binary frame; frames are JSON texts')
    this.#handlers.onText(textOf(data))
  }

  /** A frame of any kind is a sign of life, and uses up an allowance: a bucket that time refills. */
  #admitted(): boolean {
    if (!this.#open) return false
    const { frameBurst, framesPerSecond } = this.#limits
    const nowMs = this.#clock.monotonicMs()
    const refilled = this.#allowance + ((nowMs - this.#allowanceAtMs) / 1_000) * framesPerSecond
    this.#allowance = Math.min(frameBurst, refilled) - 1
    this.#allowanceAtMs = nowMs
    if (this.#allowance < 0) {
      this.end(1008, `it sends more than ${framesPerSecond} frames per second`)
      return false
    }
    this.#silentBeats = 0
    for (const answer of [...this.#waitingForLife]) answer(true)
    return true
  }
}

function textOf(data: RawData): string {
  if (Array.isArray(data)) return Buffer.concat(data).toString('utf8')
  return (Buffer.isBuffer(data) ? data : Buffer.from(data)).toString('utf8')
}

/** A close frame has room for 123 bytes; half a character is not UTF-8. */
function closeReason(reason: string): string {
  const bytes = Buffer.from(reason, 'utf8')
  if (bytes.length <= reasonBytesMax) return reason
  return bytes
    .subarray(0, reasonBytesMax)
    .toString('utf8')
    .replace(/\uFFFD+$/, '')
}

function closeText(code: number, reason: string): string {
  if (code === 1006) return 'the connection was cut'
  return reason === '' ? `the process closed the connection (${code})` : `the process closed the connection: ${reason}`
}
