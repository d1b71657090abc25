/**
 * The sessions of processes (docs/format/session.md): who is connected by which name, and what passes to and fro.
 *
 * Owns: the greeting, the names, the order of frames and of events. Does not own: the wire (connection.ts), who may
 * connect (request-guard.ts), what orders and facts mean (the coordinator), what the catalog remembers.
 *
 * Invariants:
 * - S1 At most one session per name. Another incarnation takes over only when the first has ended, or does not answer.
 * - S2 Facts and `lost` of a session are told in the order in which they came; nothing of it after its `lost`. They are
 *   told after the call that caused them has returned: whoever sends is never called back from within.
 * - S3 Nothing reaches a process before its welcome. A session is in the directory before its welcome is made, so that
 *   a restore that begins meanwhile is in the welcome or follows it.
 * - S4 A session of an older generation is refused, or goes through a restore first (C9).
 */
import {
  type CutRef,
  type Fact,
  parseFrame,
  type RestoreOffer,
  readProcessFrame,
  type ServerFrame,
  sessionProtocolVersion,
} from '@stillpoint/core'
import {
  assert,
  type Clock,
  describeFailure,
  type Entropy,
  Failure,
  type ParticipantName,
} from '@stillpoint/core/kernel'
import type { WebSocket } from 'ws'
import type { Catalog } from '../catalog/catalog.ts'
import { processesIn, type SystemConfig } from '../config/system-config.ts'
import type { ConnectedProcess, ProcessDirectory, ProcessEvent } from '../coordinator/process-directory.ts'
import { admit, type Hello, refusals } from './admission.ts'
import { type CloseCode, type Connection, type ConnectionLimits, openConnection } from './connection.ts'
import type { LiveEvents } from './live-events.ts'
import type { Log } from './ports.ts'

export interface SessionLimits extends ConnectionLimits {
  /** How long a connection may take to say hello, and how long its hello may be. */
  readonly helloMs: number
  readonly helloBytesMax: number
  /** How long the first of two processes of one name has to answer. */
  readonly probeMs: number
  /** Connections, with and without a session. */
  readonly connectionsMax: number
}

export const defaultSessionLimits: SessionLimits = {
  heartbeatMs: 3_000,
  silentBeatsMax: 3,
  // The longest frames list every message of a channel's state, or what was received out of order.
  frameBytesMax: 32 * 1024 * 1024,
  frameBurst: 2_000,
  framesPerSecond: 500,
  bufferedBytesMax: 16 * 1024 * 1024,
  closeMs: 2_000,
  helloMs: 5_000,
  helloBytesMax: 16 * 1024,
  probeMs: 1_500,
  connectionsMax: 10_000,
}

interface Session {
  readonly id: string
  readonly process: ConnectedProcess
  readonly connection: Connection
  /** Frames that wait for the welcome; null once it has been sent. */
  waiting: ServerFrame[] | null
  /** The cut that the process takes part in, from `prepare` to `release`. */
  cut: { readonly ref: CutRef; readonly over: AbortController } | null
  /** Restores that this session was told of. */
  readonly offered: Set<string>
  /** Ends with the session; its reason is the failure for whatever goes on in its name. */
  readonly over: AbortController
}

/** What may go on in the name of a session by HTTP, and until when. */
export interface Sessions extends ProcessDirectory {
  /** Takes over a socket whose request has been found good. `baseUrl`: where its peer reaches this server. */
  accept(socket: WebSocket, baseUrl: string): void
  /** @throws Failure `session_ended`, `session_foreign`, `cut_not_running` */
  uploadSignal(session: string, participant: ParticipantName, cut: string): AbortSignal
  /** @throws Failure `session_ended`, `session_foreign`, `restore_not_offered` */
  restoreSignal(session: string, participant: ParticipantName, restore: string): AbortSignal
  /** Ends all. */
  close(): void
}

export interface SessionsOptions {
  readonly config: SystemConfig
  readonly catalog: () => Catalog
  readonly clock: Clock
  readonly entropy: Entropy
  readonly events: LiveEvents
  readonly log: Log
  readonly limits: SessionLimits
}

export function createSessions(options: SessionsOptions): Sessions {
  const { config, clock, entropy, limits, log } = options
  const declared = new Set(processesIn(config).map(({ name }) => name))
  const byName = new Map<ParticipantName, Session>()
  const byId = new Map<string, Session>()
  const contended = new Set<ParticipantName>()
  const connections = new Set<Connection>()
  const { emit, subscribe } = createEventQueue()
  let closing = false

  function accept(socket: WebSocket, baseUrl: string): void {
    let state: 'greeting' | 'admitting' | Session = 'greeting'
    const inbox = createInbox()
    const connection = openConnection(socket, {
      clock,
      limits,
      handlers: {
        onText(text) {
          if (state === 'greeting') {
            state = 'admitting'
            cancelHello()
            void greet(text)
          } else if (state === 'admitting') refuse(connection, refusals.impatient())
          else {
            const session = state
            inbox(() => receive(session, text))
          }
        },
        onEnd(reason) {
          cancelHello()
          connections.delete(connection)
          if (typeof state !== 'string') lose(state, reason)
        },
      },
    })
    const cancelHello = clock.after(limits.helloMs, () => refuse(connection, refusals.silent(limits.helloMs)))
    if (closing) return connection.end(1001, 'the server is being stopped')
    if (connections.size >= limits.connectionsMax) return refuse(connection, refusals.tooMany(limits.connectionsMax))
    connections.add(connection)

    async function greet(text: string): Promise<void> {
      try {
        const hello = readHello(text)
        await makeRoom(hello)
        if (!connection.isOpen()) return
        const session = enter(hello, connection)
        state = session
        const admission = await admit(hello, config.system, options.catalog())
        if (!connection.isOpen()) return
        welcome(session, { ...admission, agentUrl: `${baseUrl}/s/${session.id}` })
      } catch (error) {
        const failure = describeFailure(error)
        const level = error instanceof Failure ? 'warn' : 'error'
        log({ level, message: `A process was refused: ${failure.message}`, code: failure.code })
        refuse(connection, error)
      }
    }
  }

  function readHello(text: string): Hello {
    if (Buffer.byteLength(text) > limits.helloBytesMax) throw refusals.notHello('it is too long')
    const version = versionIn(text)
    if (version !== undefined && version !== sessionProtocolVersion) throw refusals.version(version)
    const frame = parseFrame(text, readProcessFrame, 'The first frame of a process')
    if (frame.type !== 'hello') throw refusals.notHello(`it is a "${frame.type}"`)
    if (!declared.has(frame.participant)) throw refusals.undeclared(frame.participant, [...declared], config.path)
    return frame
  }

  /** S1. Answers when the name is free. @throws Failure `participant_connected` */
  async function makeRoom({ participant, incarnation }: Hello): Promise<void> {
    const first = byName.get(participant)
    if (first === undefined) return
    if (first.process.incarnation === incarnation) {
      // The same process again: it has given up a connection that we have not seen end yet.
      return first.connection.end(1008, 'the process has opened another connection')
    }
    if (contended.has(participant)) throw refusals.connected(participant)
    contended.add(participant)
    try {
      if (await first.connection.answersWithin(limits.probeMs)) throw refusals.connected(participant)
      first.connection.end(1008, 'it did not answer, and another process has taken its name')
    } finally {
      contended.delete(participant)
    }
    if (byName.has(participant)) throw refusals.connected(participant)
  }

  function enter({ participant, incarnation }: Hello, connection: Connection): Session {
    assert(!byName.has(participant), `the name ${participant} is free (S1)`)
    const id = new Uint8Array(16)
    entropy.fill(id)
    const session: Session = {
      id: Buffer.from(id).toString('hex'),
      process: { name: participant, incarnation },
      connection,
      waiting: [],
      cut: null,
      offered: new Set(),
      over: new AbortController(),
    }
    byName.set(participant, session)
    byId.set(session.id, session)
    return session
  }

  /** S3: the welcome first, then what has been waiting for it. */
  function welcome(session: Session, fields: Omit<Extract<ServerFrame, { type: 'welcome' }>, 'type' | 'system'>): void {
    const waiting = session.waiting ?? []
    session.waiting = null
    const { name, incarnation } = session.process
    if (fields.restore !== null) session.offered.add(fields.restore.restore)
    session.connection.send({ type: 'welcome', system: config.system, ...fields })
    for (const frame of waiting) {
      if (frame.type === 'restore' && frame.offer.restore === fields.restore?.restore) continue
      session.connection.send(frame)
    }
    log({ level: 'info', message: `Process ${name} has joined`, incarnation })
    options.events.publish({ type: 'processConnected', name, incarnation })
  }

  async function receive(session: Session, text: string): Promise<void> {
    if (!session.connection.isOpen()) return
    const { name, incarnation } = session.process
    try {
      if (session.waiting !== null) throw refusals.impatient()
      const frame = parseFrame(text, readProcessFrame, `A frame of ${name}`)
      switch (frame.type) {
        case 'hello':
          throw refusals.helloAgain()
        case 'fact':
          return emit({ type: 'fact', from: name, incarnation, fact: checkedFact(session, frame.fact) })
        case 'restored':
          if (isStrangeRestore(session, frame.restore)) return
          // Durable first: whoever is told of it may rely on it after a crash.
          await options.catalog().completeRestore(config.system, name, frame.restore)
          if (!session.connection.isOpen()) return
          return emit({ type: 'restored', name, restore: frame.restore })
        case 'restoreFailed': {
          if (isStrangeRestore(session, frame.restore)) return
          const { message } = frame.failure
          log({ level: 'error', message: `Process ${name} cannot be restored: ${message}`, restore: frame.restore })
          return emit({ type: 'restoreFailed', name, restore: frame.restore, message })
        }
      }
    } catch (error) {
      log({ level: 'error', message: `The session of ${name} ends: ${describeFailure(error).message}` })
      refuse(session.connection, error)
    }
  }

  /** C8: an answer to a restore that is over, or never was, changes nothing. */
  function isStrangeRestore(session: Session, restore: string): boolean {
    if (session.offered.has(restore)) return false
    log({ level: 'info', message: `Ignored: ${refusals.notOffered(session.process.name, restore).message}` })
    return true
  }

  function lose(session: Session, reason: string): void {
    const { name, incarnation } = session.process
    byId.delete(session.id)
    if (byName.get(name) === session) byName.delete(name)
    session.over.abort(refusals.ended(name, reason))
    session.cut?.over.abort(session.over.signal.reason)
    if (session.waiting === null) {
      log({ level: 'warn', message: `Process ${name} is gone: ${reason}`, incarnation })
      options.events.publish({ type: 'processLost', name, incarnation, reason })
    }
    emit({ type: 'lost', name, incarnation })
  }

  function post(to: ConnectedProcess, frame: ServerFrame): Session | undefined {
    const session = byName.get(to.name)
    if (session === undefined || session.process.incarnation !== to.incarnation) return undefined
    if (session.waiting !== null) session.waiting.push(frame)
    else if (!session.connection.send(frame)) return undefined
    return session
  }

  /** The session, if it is this participant's. */
  function sessionOf(id: string, participant: ParticipantName): Session {
    const session = byId.get(id)
    if (session === undefined) throw refusals.ended(participant, 'its session is over')
    if (session.process.name !== participant) throw refusals.foreign(participant)
    return session
  }

  return {
    accept,
    subscribe,
    connected: () => [...byName.values()].map(({ process }) => process),
    send(to, order) {
      const session = post(to, { type: 'order', order })
      if (session === undefined) return false
      if (order.type === 'prepare') {
        session.cut?.over.abort(refusals.cutOver(session.cut.ref.cut))
        session.cut = { ref: order.ref, over: new AbortController() }
      } else if (order.type === 'release' && session.cut?.ref.cut === order.ref.cut) {
        session.cut.over.abort(refusals.cutOver(order.ref.cut))
        session.cut = null
      }
      return true
    },
    offerRestore(to: ConnectedProcess, offer: RestoreOffer) {
      const session = post(to, { type: 'restore', offer })
      session?.offered.add(offer.restore)
      return session !== undefined
    },
    uploadSignal(id, participant, cut) {
      const session = sessionOf(id, participant)
      if (session.cut?.ref.cut !== cut) throw refusals.cutOver(cut)
      return session.cut.over.signal
    },
    restoreSignal(id, participant, restore) {
      const session = sessionOf(id, participant)
      if (!session.offered.has(restore)) throw refusals.notOffered(participant, restore)
      return session.over.signal
    },
    close() {
      closing = true
      for (const connection of [...connections]) connection.end(1001, 'the server is being stopped')
    },
  }
}

/** A mark must be of the process that says it: evidence in another's name would be believed. */
function checkedFact({ process }: Session, fact: Fact): Fact {
  const said =
    fact.type === 'ready' ? fact.incarnation : fact.type === 'marked' ? fact.evidence.incarnation : process.incarnation
  if (said !== process.incarnation) throw refusals.otherIncarnation(process.name, said)
  return fact
}

function refuse(connection: Connection, error: unknown): void {
  const failure = describeFailure(error)
  connection.send({ type: 'refused', failure })
  const code: CloseCode = failure.retry === 'later' ? 1013 : failure.code === 'unexpected' ? 1011 : 1008
  connection.end(code, failure.message)
}

/** The version in a hello, before it is read as one of our own. Undefined when it is none at all. */
function versionIn(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && 'version' in value ? value.version : undefined
  } catch {
    // What is wrong with it is said by the reader that comes next.
    return undefined
  }
}

/** Runs one task after the other. A task never throws. */
function createInbox(): (task: () => Promise<void>) => void {
  let last = Promise.resolve()
  return (task) => {
    last = last.then(task)
  }
}

/** S2: events in order, each told after the call that caused it has returned. */
function createEventQueue() {
  const listeners = new Set<(event: ProcessEvent) => void>()
  const queue: ProcessEvent[] = []
  function flush(): void {
    for (let event = queue.shift(); event !== undefined; event = queue.shift()) {
      for (const listener of [...listeners]) listener(event)
    }
  }
  return {
    emit(event: ProcessEvent): void {
      queue.push(event)
      if (queue.length === 1) queueMicrotask(flush)
    },
    subscribe(listener: (event: ProcessEvent) => void): () => void {
      listeners.add(listener)
      return () => {
        listeners.delete(listener)
      }
    },
  }
}
