/**
 * The shell around `decideProcess`: it feeds inputs, carries out effects in order and keeps one timer.
 *
 * Owns: the machine's state, the pieces of work by their `ItemId` (payloads stay with the adapters, in closures), the
 * recordings of each cut, and the parking of work during a restore. Does not own: sockets, hooks, the application.
 *
 * Invariants:
 * - H1 Inputs are decided one at a time; effects are carried out in the order of the decisions, before `feed` returns
 *   to anybody outside. The application's code runs in microtasks, never inside that loop, so that a sending asked for
 *   by the application is stamped (or held) when the call returns.
 * - H2 A piece of work keeps what a recording needs until no cut can ask for it any more (C2).
 * - H3 While a restore runs, nothing is handed over but its replays and the replies to them.
 */
import {
  type ChannelId,
  type ChannelTraits,
  type CutRef,
  decideProcess,
  type Fact,
  type ItemId,
  initialProcess,
  nextProcessDeadlineMs,
  type Origin,
  type ProcessEffect,
  type ProcessInput,
  type ProcessState,
  type RecordedMessage,
  type RefusalReason,
  type Stamp,
} from '@stillpoint/core'
import {
  type Clock,
  defined,
  Failure,
  type Incarnation,
  type MessageId,
  type ParticipantName,
  type SessionId,
} from '@stillpoint/core/kernel'
import { settlePending, type Work } from './work-context.ts'

/** What a recording stores besides the stamp. */
export type RecordBody = Pick<RecordedMessage, 'kind' | 'meta' | 'encoding' | 'payload'>

export interface Arrival {
  readonly origin: Origin
  /** A recorded message that a restore hands over: it runs although others are parked. */
  readonly replay?: boolean
  /** Hand it to the application. Whoever is called must `end` the work, once. */
  readonly deliver: (work: Work) => void
  readonly refuse: (reason: RefusalReason) => void
  /** The payload, for a recording. Called at most once per cut, while or after the work runs. */
  readonly body?: () => RecordBody
}

export interface SendAnswer {
  readonly granted: (stamp: Stamp) => void
  readonly refused: (failure: Failure) => void
}

export interface RecordedEntry {
  readonly channel: ChannelId
  readonly stamp: Stamp
  readonly body: RecordBody
}

export type Marker = Pick<Stamp, 'generation' | 'epoch' | 'channel' | 'session'>

/** What the machine asks of the rest of the participant. */
export interface ShellDuties {
  readonly report: (fact: Fact) => void
  readonly sendMarker: (stamp: Marker) => void
  readonly markState: (ref: CutRef) => void
  readonly capture: (ref: CutRef) => void
  readonly dropMark: (ref: CutRef) => void
}

/** Ticks at least this far apart, once a deadline has passed. */
const tickMsMin = 50

type WithoutTime<T> = T extends { readonly nowMs: number } ? Omit<T, 'nowMs'> : T

export interface ProtocolShell {
  readonly state: () => ProcessState
  readonly nowMs: () => number
  readonly feed: (input: WithoutTime<ProcessInput>) => void
  readonly arrive: (arrival: Arrival) => ItemId
  /** Ends a piece of work, once what it sends has been taken over (W1). */
  readonly end: (work: Work) => void
  readonly openSession: (channel: ChannelId, session: SessionId, traits: ChannelTraits) => void
  readonly send: (
    request: { readonly channel: ChannelId; readonly message: MessageId; readonly work: Work | null },
    answer: SendAnswer,
  ) => void
  readonly recorded: (ref: CutRef) => readonly RecordedEntry[]
  /** The state has been or will be replaced: work that runs now may send nothing any more. */
  readonly disown: () => void
  /** From now on only replays run. */
  readonly park: () => void
  readonly running: () => number
  readonly unpark: () => void
  readonly onIdle: (listener: () => void) => void
  readonly close: () => void
}

export function protocolShell(options: {
  readonly name: ParticipantName
  readonly incarnation: Incarnation
  readonly clock: Clock
  readonly duties: ShellDuties
}): ProtocolShell {
  const { name, incarnation, clock, duties } = options
  let state = initialProcess({ name, incarnation, generation: 0, epoch: 0 })
  let itemCount = 0
  let restores = 0
  let sendCount = 0
  const items = new Map<ItemId, Arrival>()
  /** Ended while a mark was being taken, which may still declare them open and record them (H2). */
  const ended = new Set<ItemId>()
  const executing = new Set<ItemId>()
  const sends = new Map<number, SendAnswer>()
  const recordings = new Map<string, RecordedEntry[]>()
  const idleListeners: (() => void)[] = []
  let parked: ItemId[] | null = null
  const effects: ProcessEffect[] = []
  let isCarryingOut = false
  let timer: { readonly atMs: number; readonly cancel: () => void } | null = null
  let lastTickMs = Number.NEGATIVE_INFINITY
  let isClosed = false

  function feed(input: WithoutTime<ProcessInput>): void {
    const step = decideProcess(state, { ...input, nowMs: clock.monotonicMs() } as ProcessInput)
    state = step.state
    effects.push(...step.effects)
    if (isCarryingOut) return
    isCarryingOut = true
    try {
      for (let effect = effects.shift(); effect !== undefined; effect = effects.shift()) carryOut(effect)
    } finally {
      isCarryingOut = false
    }
    forgetEnded()
    armTimer()
  }

  function carryOut(effect: ProcessEffect): void {
    switch (effect.type) {
      case 'report':
        return duties.report(effect.fact)
      case 'deliver':
        return deliver(effect.item)
      case 'refuse':
        return refuse(effect.item, effect.reason)
      case 'send':
        return takeSend(effect.send).granted(effect.stamp)
      case 'sendRefused':
        return takeSend(effect.send).refused(generationOver(name))
      case 'record':
        return keep(effect.ref, effect.item, effect.channel)
      case 'sendMarker':
        return duties.sendMarker(effect.stamp)
      case 'markState':
        return duties.markState(effect.ref)
      case 'capture':
        return duties.capture(effect.ref)
      case 'dropMark':
        recordings.delete(effect.ref.cut)
        return duties.dropMark(effect.ref)
    }
  }

  function takeSend(send: number): SendAnswer {
    const answer = defined(sends.get(send), `sending ${send}`)
    sends.delete(send)
    return answer
  }

  function deliver(item: ItemId): void {
    const arrival = defined(items.get(item), `item ${item}`)
    const isReply = arrival.origin.kind === 'reply'
    if (parked !== null && !isReply && arrival.replay !== true) {
      parked.push(item)
      return
    }
    // The machine does not count replies as running: they are over when they have been handed over.
    if (isReply) items.delete(item)
    else executing.add(item)
    const work: Work = { item, restores, pending: new Set(), ended: false }
    queueMicrotask(() => arrival.deliver(work))
  }

  function refuse(item: ItemId, reason: RefusalReason): void {
    const arrival = items.get(item)
    items.delete(item)
    arrival?.refuse(reason)
  }

  function keep(ref: CutRef, item: ItemId, channel: ChannelId): void {
    const { origin, body } = defined(items.get(item), `recorded item ${item}`)
    if (origin.kind !== 'message' && origin.kind !== 'reply') return
    const entry = { channel, stamp: origin.stamp, body: defined(body, 'the payload of a coloured message')() }
    const known = recordings.get(ref.cut)
    if (known === undefined) recordings.set(ref.cut, [entry])
    else known.push(entry)
  }

  function forgetEnded(): void {
    if (ended.size === 0 || state.work?.entering != null) return
    for (const item of ended) items.delete(item)
    ended.clear()
  }

  function armTimer(): void {
    const atMs = isClosed ? null : nextProcessDeadlineMs(state)
    if (timer !== null && timer.atMs === atMs) return
    timer?.cancel()
    timer = null
    if (atMs === null) return
    // A deadline that a tick has not moved must not become a busy loop.
    const delayMs = atMs <= lastTickMs ? tickMsMin : Math.max(1, Math.ceil(atMs - clock.monotonicMs()))
    const cancel = clock.after(delayMs, () => {
      timer = null
      lastTickMs = clock.monotonicMs()
      feed({ type: 'ticked' })
    })
    timer = { atMs, cancel }
  }

  function finish(item: ItemId): void {
    executing.delete(item)
    ended.add(item)
    feed({ type: 'finished', item })
    if (executing.size === 0) for (const listener of idleListeners.splice(0)) listener()
  }

  return {
    state: () => state,
    nowMs: () => clock.monotonicMs(),
    feed,
    arrive(arrival) {
      itemCount += 1
      const item = itemCount
      items.set(item, arrival)
      feed({ type: 'arrived', item, origin: arrival.origin })
      return item
    },
    end(work) {
      // An application that never takes "no room" for an answer would hold its gate; the gate's deadline ends that.
      void settlePending(work).then(() => {
        if (work.ended) return
        work.ended = true
        finish(work.item)
      })
    },
    openSession(channel, session, traits) {
      feed({ type: 'sessionOpened', channel, session, traits })
    },
    send({ channel, message, work }, answer) {
      // C9: what a handler of the time before a restore still wants to say is of the state that was replaced.
      if (work !== null && work.restores !== restores) return answer.refused(generationOver(name))
      sendCount += 1
      sends.set(sendCount, answer)
      const request = { send: sendCount, channel, message, byItem: work?.item ?? null }
      feed({ type: 'sendRequested', request })
    },
    recorded: (ref) => recordings.get(ref.cut) ?? [],
    disown() {
      restores += 1
    },
    park() {
      parked ??= []
    },
    running: () => executing.size,
    unpark() {
      const waiting = parked ?? []
      parked = null
      for (const item of waiting) {
        const arrival = defined(items.get(item), `parked item ${item}`)
        const { origin } = arrival
        const isColoured = origin.kind === 'message' || origin.kind === 'reply'
        // Work without colour began to wait in the old generation and runs in the new one.
        if (!isColoured || origin.stamp.generation === state.generation) {
          deliver(item)
          continue
        }
        arrival.refuse('older-generation')
        finish(item)
      }
    },
    onIdle(listener) {
      if (executing.size === 0) listener()
      else idleListeners.push(listener)
    },
    close() {
      isClosed = true
      armTimer()
    },
  }
}

function generationOver(name: ParticipantName): Failure {
  const message = `"${name}" has been restored since this work began: what it sends belongs to the state that was replaced`
  return new Failure({
    code: 'generation_over',
    message,
    hint: 'Let the work end. It is started again where it was recorded.',
  })
}
