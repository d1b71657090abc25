/**
 * HTTP calls to other processes: stamped, counted, and their replies taken in through the gate.
 *
 * Owns: one volatile session per peer, and what becomes of calls that failed. A failed call keeps its number. It is
 * reported as uncertain at once, and then *given up* at the receiver (a `void` request with the same stamp): the receiver
 * counts the number as received without handing anything over, or knows it already, and a late arrival is refused as a
 * duplicate. So a hole in the numbers does not stay in every later cut, and a call that its caller took for failed is
 * never begun after that (C2).
 *
 * Invariants:
 * - P1 A session is replaced only while none of its calls is on its way: a call under way is always in some count.
 */
import { randomUUID } from 'node:crypto'
import type { Stamp } from '@stillpoint/core'
import {
  type ChannelId,
  channelId,
  Failure,
  type Incarnation,
  type MessageId,
  type ParticipantName,
  participantName,
  type SessionId,
} from '@stillpoint/core/kernel'
import { exponentialBackoff } from '../backoff.ts'
import { sleep } from '../clock.ts'
import type { ProtocolShell } from '../gate/protocol-shell.ts'
import { currentWork, type Work } from '../gate/work-context.ts'
import type { Settings } from '../options.ts'
import {
  headersOf,
  httpTraits,
  readHeaders,
  refusedHeader,
  replyLabel,
  requestLabel,
  type StampedHeaders,
  voidHeader,
} from './stamp-headers.ts'

export interface HttpClient {
  /**
   * `fetch` to another process. Redirects are not followed: the second request would carry the first one's number.
   * @throws what `fetch` throws, and Failure `generation_older` | `peer_not_restored` | `generation_over` | `stamp_refused`
   */
  fetch(peer: string, url: string | URL, init?: RequestInit): Promise<Response>
  /** Sessions of the old generation are over. */
  enterGeneration(): void
  close(): void
}

interface Peer {
  readonly name: ParticipantName
  readonly channel: ChannelId
  session: SessionId | null
  boundTo: Incarnation | null
  underWay: number
  failed: number
  /** The receiver is another incarnation now, or too many numbers are uncertain. */
  isStale: boolean
  idle: (() => void)[]
}

const failedMax = 32
/** How long a call waits for others to end before a session is replaced under them. */
const replaceMsMax = 2_000
const voidAttemptsMax = 8

export function httpClient(options: {
  readonly settings: Settings
  readonly shell: ProtocolShell
  readonly isJoined: () => boolean
}): HttpClient {
  const { settings, shell, isJoined } = options
  const peers = new Map<ParticipantName, Peer>()
  const stopped = new AbortController()
  let messageCount = 0

  function peerOf(name: ParticipantName): Peer {
    const known = peers.get(name)
    if (known !== undefined) return known
    const channel = channelId(settings.name, name, requestLabel)
    const peer: Peer = { name, channel, session: null, boundTo: null, underWay: 0, failed: 0, isStale: false, idle: [] }
    peers.set(name, peer)
    return peer
  }

  async function readySession(peer: Peer): Promise<void> {
    if (peer.session !== null && peer.isStale && peer.underWay > 0) {
      await new Promise<void>((resolve) => {
        const cancel = settings.clock.after(replaceMsMax, resolve)
        peer.idle.push(() => {
          cancel()
          resolve()
        })
      })
    }
    if (peer.session !== null && !(peer.isStale && peer.underWay === 0)) return // P1
    peer.session = randomUUID() as SessionId
    peer.boundTo = null
    peer.failed = 0
    peer.isStale = false
    shell.openSession(peer.channel, peer.session, httpTraits)
  }

  /** The call's number. Held while the gate holds it; a handler that does not wait for it does not end before it. */
  async function stamped(peer: Peer, work: Work | null): Promise<Stamp> {
    messageCount += 1
    const message = `${settings.incarnation}.${peer.name}.h${messageCount}` as MessageId
    const given = readySession(peer).then(
      () =>
        new Promise<Stamp>((resolve, reject) => {
          const granted = (stamp: Stamp): void => {
            peer.underWay += 1
            resolve(stamp)
          }
          shell.send({ channel: peer.channel, message, work }, { granted, refused: reject })
        }),
    )
    work?.pending.add(given)
    try {
      return await given
    } finally {
      work?.pending.delete(given)
    }
  }

  async function call(name: string, url: string | URL, init: RequestInit = {}): Promise<Response> {
    // Before it has joined, this process is an outsider like any other: no colour, held by those who take part in a cut.
    if (!isJoined()) return fetch(url, init)
    const peer = peerOf(participantName(name))
    const token = await settings.readToken()
    const work = currentWork()
    const stamp = await stamped(peer, work)
    const target = { peer, stamp, url: new URL(url), token }
    try {
      const headers = new Headers(init.headers)
      for (const [header, value] of Object.entries(headersOf('request', own(stamp), token))) headers.set(header, value)
      let response: Response
      try {
        response = await fetch(url, { ...init, headers, redirect: 'manual' })
      } catch (error) {
        giveUp(target)
        throw error
      }
      return await take(target, response, work)
    } finally {
      peer.underWay -= 1
      if (peer.underWay === 0) for (const wake of peer.idle.splice(0)) wake()
    }
  }

  const own = (stamp: Stamp): StampedHeaders => ({ stamp, incarnation: settings.incarnation })

  type Target = { readonly peer: Peer; readonly stamp: Stamp; readonly url: URL; readonly token: string }

  async function take(target: Target, response: Response, work: Work | null): Promise<Response> {
    const { peer, token } = target
    const refusal = response.headers.get(refusedHeader)
    if (refusal !== null) {
      await response.body?.cancel()
      if (refusal !== 'duplicate') giveUp(target)
      throw refusedBy(peer.name, settings.name, refusal)
    }
    const reply = readHeaders('reply', (header) => response.headers.get(header), token)
    if (reply === null) {
      // Handled by somebody who does not count: not joined yet, or a proxy in between.
      giveUp(target)
      return response
    }
    bind(peer, reply.incarnation)
    await new Promise<void>((resolve, reject) => {
      shell.arrive({
        origin: {
          kind: 'reply',
          stamp: checkedReply(reply.stamp, peer, settings.name),
          traits: httpTraits,
          awaitedBy: work === null || work.ended ? null : work.item,
        },
        // Evidence only: after a restore nobody waits for it, so its body is not kept.
        body: () => ({ kind: 'reply', meta: { status: String(response.status) }, encoding: 'utf8', payload: '' }),
        refuse: (reason) => {
          // Nobody will read it, and its connection is wanted for other calls.
          response.body?.cancel().catch((error) => settings.error(error, `a reply of "${peer.name}"`))
          reject(refusedBy(peer.name, settings.name, reason))
        },
        deliver: () => resolve(),
      })
    })
    return response
  }

  function bind(peer: Peer, incarnation: Incarnation): void {
    if (peer.boundTo !== null && peer.boundTo !== incarnation) peer.isStale = true
    else peer.boundTo = incarnation
  }

  function giveUp(target: Target): void {
    const { peer, stamp } = target
    const { channel, session, seq } = stamp
    if (stamp.generation !== shell.state().generation) return
    shell.feed({ type: 'sendUncertain', channel, session, seq })
    peer.failed += 1
    if (peer.failed >= failedMax) peer.isStale = true
    void sayVoid(target)
  }

  /** Until the receiver knows, or is gone, or has shown that it never will. */
  async function sayVoid({ peer, stamp, url, token }: Target): Promise<void> {
    const backoff = exponentialBackoff({ firstMs: 50, lastMs: 5_000, random: settings.random })
    const headers = { ...headersOf('void', own(stamp), token), [voidHeader]: '1' }
    for (let attempt = 1; attempt <= voidAttemptsMax; attempt += 1) {
      try {
        const signal = AbortSignal.any([stopped.signal, AbortSignal.timeout(10_000)])
        const response = await fetch(new URL('/', url), { method: 'POST', headers, redirect: 'manual', signal })
        await response.body?.cancel()
        if (response.status === 204 && response.headers.get(voidHeader) !== null) return takeVoid(peer, response, token)
        await sleep(settings.clock, backoff.next(), stopped.signal)
      } catch {
        // The peer is away, which is why the call failed in the first place; closed: nobody counts any more.
        if (stopped.signal.aborted) return
        await sleep(settings.clock, backoff.next(), stopped.signal).catch(() => {
          // Closed while it waited: the next condition ends the loop.
        })
      }
      if (stopped.signal.aborted || stamp.session !== peer.session) return
    }
    peer.isStale = true
  }

  /** The receiver may have replied: that reply has a number too, and will never come. */
  function takeVoid(peer: Peer, response: Response, token: string): void {
    try {
      const reply = readHeaders('reply', (header) => response.headers.get(header), token)
      if (reply === null) return
      shell.arrive({
        origin: {
          kind: 'reply',
          stamp: checkedReply(reply.stamp, peer, settings.name),
          traits: httpTraits,
          awaitedBy: null,
        },
        body: () => ({ kind: 'reply', meta: { void: 'true' }, encoding: 'utf8', payload: '' }),
        refuse: () => {},
        deliver: () => {},
      })
    } catch (error) {
      settings.error(error, `a reply of "${peer.name}"`)
    }
  }

  return {
    fetch: call,
    enterGeneration() {
      for (const peer of peers.values()) peer.session = null
    },
    close: () => stopped.abort(new Failure({ code: 'closed', message: 'the participant was closed' })),
  }
}

function checkedReply(stamp: Stamp, peer: Peer, self: ParticipantName): Stamp {
  if (stamp.channel === channelId(peer.name, self, replyLabel)) return stamp
  const message = `"${peer.name}" answered with the channel ${stamp.channel}`
  const hint = `Is ${JSON.stringify(peer.name)} the name of the service at this address?`
  throw new Failure({ code: 'stamp_refused', message, hint })
}

function refusedBy(peer: string, self: string, reason: string): Failure {
  switch (reason) {
    case 'older-generation':
      return new Failure({
        code: 'generation_older',
        message: `"${peer}" has been restored, "${self}" has not: the call is refused`,
        retry: 'later',
      })
    case 'newer-generation':
      return new Failure({
        code: 'peer_not_restored',
        message: `"${peer}" has not been restored yet: the call is refused`,
        retry: 'later',
      })
    case 'too-large':
      return new Failure({
        code: 'message_too_large',
        message: `"${peer}" refuses the request for its size`,
        hint: 'Raise "messageBytesMax" of the receiver.',
      })
    case 'signature':
      return new Failure({
        code: 'stamp_refused',
        message: `"${peer}" refuses the signature of "${self}"`,
        hint: 'Both services need the same token.',
      })
    default:
      return new Failure({ code: 'peer_refused', message: `"${peer}" refuses the call: ${reason}`, retry: 'later' })
  }
}
