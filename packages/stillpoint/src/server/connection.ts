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

export interface Connection {
  /** False when the connection has ended, or ends because its peer does not read. */
  send(frame: ServerFrame): boolean
  /** Whether the peer shows a sign of life from now on within this time. */
  answersWithin(waitMs: number): Promise<boolean>
  /** Ends it, saying why. What was sent before still arrives, if the peer reads it. */
  end(code: CloseCode, reason: string): void
  isOpen(): boolean
}

/** Codes of RFC 6455, section 7.4.1. */
export type CloseCode = 1001 | 1003 | 1008 | 1011 | 1013
const reasonBytesMax = 123

export function openConnection(
  socket: WebSocket,
  { clock, limits, handlers }: { clock: Clock; limits: ConnectionLimits; handlers: ConnectionHandlers },
): Connection {
  let open = true
  let lastError: string | undefined
  let silentBeats = 0
  let allowance = limits.frameBurst
  let allowanceAtMs = clock.monotonicMs()
  let stopBeat = clock.after(limits.heartbeatMs, beat)
  const waitingForLife = new Set<(alive: boolean) => void>()

  function ended(reason: string): void {
    if (!open) return
    open = false
    stopBeat()
    for (const answer of waitingForLife) answer(false)
    waitingForLife.clear()
    handlers.onEnd(reason)
  }

  function end(code: CloseCode, reason: string): void {
    if (!open) return
    socket.close(code, closeReason(reason))
    // The peer may never answer the close: then it is cut off.
    const stop = clock.after(limits.closeMs, () => socket.terminate())
    socket.once('close', stop)
    ended(reason)
  }

  function drop(reason: string): void {
    socket.terminate()
    ended(reason)
  }

  function beat(): void {
    // Beats are counted, not milliseconds: when we ourselves stood still, the peer is not to blame.
    if (silentBeats >= limits.silentBeatsMax) return drop(`it has been silent for ${silentBeats} heartbeats`)
    silentBeats += 1
    socket.ping()
    stopBeat = clock.after(limits.heartbeatMs, beat)
  }

  function heard(): void {
    silentBeats = 0
    for (const answer of waitingForLife) answer(true)
    waitingForLife.clear()
  }

  /** A bucket of allowances: refilled by time, emptied by frames. */
  function isAllowed(): boolean {
    const nowMs = clock.monotonicMs()
    const refilled = allowance + ((nowMs - allowanceAtMs) / 1_000) * limits.framesPerSecond
    allowance = Math.min(limits.frameBurst, refilled) - 1
    allowanceAtMs = nowMs
    if (allowance >= 0) return true
    end(1008, `it sends more than ${limits.framesPerSecond} frames per second`)
    return false
  }

  socket.on('message', (data: RawData, isBinary: boolean) => {
    if (!open || !isAllowed()) return
    heard()
    if (isBinary) return end(1003, 'it sent a binary frame; frames are JSON texts')
    handlers.onText(textOf(data))
  })
  socket.on('ping', () => {
    if (open && isAllowed()) heard()
  })
  socket.on('pong', () => {
    if (open && isAllowed()) heard()
  })
  // Always followed by `close`, which has no words for what happened.
  socket.on('error', (error) => {
    lastError = error.message
  })
  socket.on('close', (code, reason) => ended(lastError ?? closeText(code, reason.toString('utf8'))))

  return {
    send(frame) {
      if (!open) return false
      if (socket.bufferedAmount > limits.bufferedBytesMax) {
        drop(`it does not read what it is sent: more than ${limits.bufferedBytesMax} bytes are waiting`)
        return false
      }
      // An error in sending closes the socket, and that is told by `close`.
      socket.send(JSON.stringify(frame), () => {})
      return true
    },
    answersWithin(waitMs) {
      if (!open) return Promise.resolve(false)
      return new Promise((resolve) => {
        const settle = (alive: boolean) => {
          waitingForLife.delete(settle)
          cancel()
          resolve(alive)
        }
        const cancel = clock.after(waitMs, () => settle(false))
        waitingForLife.add(settle)
        socket.ping()
      })
    },
    end,
    isOpen: () => open,
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
