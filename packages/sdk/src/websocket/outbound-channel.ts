/**
 * The sending end of one FIFO channel over WebSocket, reliable while both incarnations live.
 *
 * Owns: the buffer of messages that the receiver has not handled, and the sessions. Does not own: the socket
 * (outbound-link.ts), stamps and counts (the state machine).
 *
 * Invariants:
 * - O1 A message is counted as sent from the moment it has its stamp, and is then in the buffer until the receiver says
 *   that it has handled it. Loss of a connection loses nothing.
 * - O2 A session belongs to one incarnation of the receiver. Another one gets a new session, in which everything that
 *   is still buffered is sent again with the same message ids. That happens only while the gate is open: between the
 *   sessions no cut may be marked, or the buffered messages would be in no count (C2).
 * - O3 A restore empties the buffer: it belongs to the state that was replaced (C9).
 */
import { randomUUID } from 'node:crypto'
import type { ChannelTraits, Stamp } from '@stillpoint/core'
import {
  type ChannelId,
  channelId,
  Failure,
  type Incarnation,
  type MessageId,
  type ParticipantName,
  type SessionId,
} from '@stillpoint/core/kernel'
import type { Marker, ProtocolShell } from '../gate/protocol-shell.ts'
import { currentWork, type Work } from '../gate/work-context.ts'
import { type EncodedPayload, encodePayload, type Payload } from '../message.ts'
import type { Settings } from '../options.ts'
import { type OutboundLink, outboundLink } from './outbound-link.ts'

export const fifoTraits: ChannelTraits = { fifo: true, volatile: false }

export interface Channel {
  readonly id: ChannelId
  /**
   * Sends one message. Resolves when the message is accepted: counted as sent, and buffered here until the receiver has
   * handled it. It need not have left yet. Waits while the buffer is full or a gate holds it.
   * A handler does not end before its sendings are accepted, awaited or not.
   * @throws Failure `message_too_large`, `payload_invalid`, `channel_full` (too many waiting already),
   *   `generation_over` (a restore came), `closed`
   */
  send(payload: Payload, options?: { readonly id?: string }): Promise<void>
  /** Messages that the receiver has not handled yet. */
  unhandled(): number
  /** Resolves when the receiver has handled everything that was accepted up to now. */
  flushed(): Promise<void>
}

export interface OutboundChannel extends Channel {
  /** The process has joined, or has entered another generation. `keepBuffer` where no restore replaced its state. */
  enterGeneration(keepBuffer: boolean): void
  sendMarker(stamp: Marker): void
  close(): void
}

export interface Entry {
  readonly message: MessageId
  readonly payload: EncodedPayload
  stamp: Stamp | null
}

interface Waiting {
  readonly entry: Entry
  readonly work: Work | null
  readonly resolve: () => void
  readonly reject: (error: Failure) => void
}

export function outboundChannel(options: {
  readonly settings: Settings
  readonly shell: ProtocolShell
  readonly peer: ParticipantName
  readonly url: string
  readonly isJoined: () => boolean
}): OutboundChannel {
  const { settings, shell, peer, isJoined } = options
  const id = channelId(settings.name, peer)
  /** With stamps, in their order. */
  let buffer: Entry[] = []
  /** Accepted before this process knew its generation; stamped in one go when it does. */
  let unstamped: Entry[] = []
  const waiting: Waiting[] = []
  let used = { messages: 0, bytes: 0 }
  let session: SessionId | null = null
  let boundTo: Incarnation | null = null
  let refused: Failure | null = null
  let isClosed = false
  let messageCount = 0
  const flushes: { readonly upTo: Entry; readonly resolve: () => void }[] = []

  const link: OutboundLink = outboundLink({
    settings,
    peer,
    url: options.url,
    session: () =>
      session === null || refused !== null
        ? null
        : { session, generation: shell.state().generation, incarnation: settings.incarnation },
    unhandled: () => buffer,
    opened: bindTo,
    handled: acknowledge,
    refusedAsOlder: (detail) => {
      const hint = 'Nothing is to be done: this service is restored, too, as soon as Stillpoint reaches it.'
      const message = `"${peer}" has been restored, "${settings.name}" has not: ${detail}`
      refuseAll(new Failure({ code: 'generation_older', message, hint, retry: 'later' }))
    },
  })

  function hasRoom(bytes: number): boolean {
    // One message always fits an empty buffer.
    if (used.messages === 0) return true
    return used.messages < settings.bufferMessagesMax && used.bytes + bytes <= settings.bufferBytesMax
  }

  function accept({ entry, work, resolve, reject }: Waiting): void {
    used = { messages: used.messages + 1, bytes: used.bytes + entry.payload.bytes.byteLength }
    if (!isJoined()) {
      unstamped.push(entry)
      resolve()
      return
    }
    stamp(entry, work, resolve, (failure) => {
      release(entry)
      reject(failure)
    })
  }

  function stamp(entry: Entry, work: Work | null, done: () => void, failed: (failure: Failure) => void): void {
    const granted = (stamp: Stamp): void => {
      entry.stamp = stamp
      buffer.push(entry)
      link.transmit(entry)
      done()
    }
    shell.send({ channel: id, message: entry.message, work }, { granted, refused: failed })
  }

  function release({ payload }: Entry): void {
    used = { messages: used.messages - 1, bytes: used.bytes - payload.bytes.byteLength }
  }

  function admitWaiting(): void {
    for (let next = waiting[0]; next !== undefined && hasRoom(next.entry.payload.bytes.byteLength); next = waiting[0]) {
      waiting.shift()
      accept(next)
    }
  }

  function acknowledge(of: SessionId, upTo: number): void {
    if (of !== session) return
    let index = 0
    for (let entry = buffer[0]; entry !== undefined; entry = buffer[index]) {
      if (entry.stamp === null || entry.stamp.seq > upTo) break
      release(entry)
      index += 1
    }
    buffer.splice(0, index)
    settleFlushes()
    admitWaiting()
  }

  function settleFlushes(): void {
    const left = new Set([...buffer, ...unstamped])
    for (let index = flushes.length - 1; index >= 0; index -= 1) {
      const flush = flushes[index]
      if (flush === undefined || left.has(flush.upTo)) continue
      flushes.splice(index, 1)
      flush.resolve()
    }
  }

  function openSession(): void {
    session = randomUUID() as SessionId
    shell.openSession(id, session, fifoTraits)
  }

  /** The receiver has said who it is. `again`: ask it once more, for a new session. */
  function bindTo(incarnation: Incarnation): 'bound' | 'again' | 'later' {
    if (boundTo === null || boundTo === incarnation) {
      boundTo = incarnation
      return 'bound'
    }
    if (shell.state().gate.kind !== 'open') return 'later' // O2
    settings.note(`"${peer}" has been restarted: ${buffer.length} messages are sent to it again`)
    boundTo = incarnation
    const again = buffer
    buffer = []
    openSession()
    for (const entry of again) stampAgain(entry)
    return 'again'
  }

  function stampAgain(entry: Entry): void {
    stamp(
      entry,
      null,
      () => {},
      (failure) => {
        release(entry)
        settings.error(failure, `a message to "${peer}"`)
      },
    )
  }

  function refuseAll(failure: Failure): void {
    refused = failure
    if (buffer.length + unstamped.length > 0) {
      settings.error(failure, `${buffer.length + unstamped.length} messages to "${peer}" are dropped`)
    }
    dropAll(failure)
  }

  function dropAll(failure: Failure): void {
    for (const entry of [...buffer, ...unstamped]) release(entry)
    buffer = []
    unstamped = []
    settleFlushes()
    for (const { reject } of waiting.splice(0)) reject(failure)
  }

  async function send(payload: Payload, { id: chosen }: { readonly id?: string } = {}): Promise<void> {
    messageCount += 1
    const message = checkedMessageId(chosen ?? `${settings.incarnation}.${peer}.${messageCount}`)
    const entry: Entry = { message, payload: encodePayload(payload, settings.messageBytesMax), stamp: null }
    if (isClosed) throw closed(settings.name)
    if (refused !== null) throw refused
    const work = currentWork()
    const accepted = new Promise<void>((resolve, reject) => {
      const request = { entry, work, resolve, reject }
      if (waiting.length === 0 && hasRoom(entry.payload.bytes.byteLength)) accept(request)
      else if (waiting.length < settings.bufferMessagesMax) waiting.push(request)
      else reject(channelFull(peer, waiting.length))
    })
    // W1: the work that sends has not ended before this is decided.
    work?.pending.add(accepted)
    try {
      await accepted
    } finally {
      work?.pending.delete(accepted)
    }
  }

  return {
    id,
    send,
    unhandled: () => used.messages,
    flushed: () =>
      new Promise((resolve) => {
        const upTo = unstamped.at(-1) ?? buffer.at(-1)
        if (upTo === undefined) resolve()
        else flushes.push({ upTo, resolve })
      }),
    enterGeneration(keepBuffer) {
      refused = null
      boundTo = null
      const kept = keepBuffer ? unstamped.splice(0) : []
      // O3. Nothing has a stamp yet where the buffer is kept.
      if (!keepBuffer) {
        dropAll(new Failure({ code: 'generation_over', message: `"${settings.name}" is in a new generation` }))
      }
      openSession()
      for (const entry of kept) stampAgain(entry)
      admitWaiting()
      link.restart()
    },
    sendMarker(stamp) {
      if (stamp.session === session) link.marker(stamp.epoch)
    },
    close() {
      isClosed = true
      link.close()
      dropAll(closed(settings.name))
    },
  }
}

function checkedMessageId(text: string): MessageId {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (text === '' || text.length > 256 || /[\u0000-\u001f\u007f]/.test(text)) {
    const message = 'a message id must have 1 to 256 characters and no control characters'
    throw new Failure({ code: 'payload_invalid', message })
  }
  return text as MessageId
}

function channelFull(peer: string, waiting: number): Failure {
  const message = `"${peer}" is too slow or away: ${waiting} sendings wait for room already`
  const hint = 'Await each send before the next, or raise "bufferMessagesMax".'
  return new Failure({ code: 'channel_full', message, hint, retry: 'later' })
}

function closed(name: string): Failure {
  return new Failure({ code: 'closed', message: `the participant "${name}" was closed` })
}
