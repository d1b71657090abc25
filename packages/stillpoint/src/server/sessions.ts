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
  type Order,
  parseFrame,
  type RestoreOffer,
  readProcessFrame,
  type ServerFrame,
  sessionProtocolVersion,
} from '@stillpoint/core'
import { type Clock, describeFailure, type Entropy, Failure, type ParticipantName } from '@stillpoint/core/kernel'
import type { WebSocket } from 'ws'
import type { Catalog } from '../catalog/catalog.ts'
import { processesIn, type SystemConfig } from '../config/system-config.ts'
import type { ConnectedProcess, ProcessDirectory, ProcessEvent } from '../coordinator/process-directory.ts'
import { admit, type Hello, refusals } from './admission.ts'
import { type CloseCode, Connection, type ConnectionLimits } from './connection.ts'
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

export interface SessionsOptions {
  readonly config: SystemConfig
  readonly catalog: () => Catalog
  readonly clock: Clock
  readonly entropy: Entropy
  readonly events: LiveEvents
  readonly log: Log
  readonly limits: SessionLimits
}

/** A connection on its way to a session. */
interface Caller {
  readonly connection: Connection
  readonly baseUrl: string
  state: 'greeting' | 'admitting' | Session
}

export class Sessions implements ProcessDirectory {
  readonly #options: SessionsOptions
  readonly #declared: ReadonlySet<ParticipantName>
  readonly #byName = new Map<ParticipantName, Session>()
  readonly #byId = new Map<string, Session>()
  /** Names that a second process wants, while the first is asked whether it lives. */
  readonly #contended = new Set<ParticipantName>()
  readonly #connections = new Set<Connection>()
  readonly #events = createEventQueue()
  #closing = false

  constructor(options: SessionsOptions) {
    this.#options = options
    this.#declared = new Set(processesIn(options.config).map(({ name }) => name))
  }

  connected(): readonly ConnectedProcess[] {
    return [...this.#byName.values()].map(({ process }) => process)
  }

  subscribe(listener: (event: ProcessEvent) => void): () => void {
    return this.#events.subscribe(listener)
  }

  send(to: ConnectedProcess, order: Order): boolean {
    const session = this.#post(to, { type: 'order', order })
    if (session === undefined) return false
    if (order.type === 'prepare') {
      session.cut?.over.abort(refusals.cutOver(session.cut.ref.cut))
      session.cut = { ref: order.ref, over: new AbortController() }
    } else if (order.type === 'release' && session.cut?.ref.cut === order.ref.cut) {
      session.cut.over.abort(refusals.cutOver(order.ref.cut))
      session.cut = null
    }
    return true
  }

  offerRestore(to: ConnectedProcess, offer: RestoreOffer): boolean {
    const session = this.#post(to, { type: 'restore', offer })
    session?.offered.add(offer.restore)
    return session !== undefined
  }

  /**
   * Until when this session may upload for this cut.
   * @throws Failure `session_ended`, `session_foreign`, `cut_not_running`
   */
  uploadSignal(id: string, participant: ParticipantName, cut: string): AbortSignal {
    const session = this.#sessionOf(id, participant)
    if (session.cut?.ref.cut !== cut) throw refusals.cutOver(cut)
    return session.cut.over.signal
  }

  /**
   * Until when this session may read what this restore brings.
   * @throws Failure `session_ended`, `session_foreign`, `restore_not_offered`
   */
  restoreSignal(id: string, participant: ParticipantName, restore: string): AbortSignal {
    const session = this.#sessionOf(id, participant)
    if (!session.offered.has(restore)) throw refusals.notOffered(participant, restore)
    return session.over.signal
  }

  /** Ends all. */
  close(): void {
    this.#closing = true
    for (const connection of [...this.#connections]) connection.end(1001, 'the server is being stopped')
  }

  /** Takes over a socket whose request has been found good. `baseUrl`: where its peer reaches this server. */
  accept(socket: WebSocket, baseUrl: string): void {
    const { clock, limits } = this.#options
    const inbox = createInbox()
    const handlers = {
      onText: (text: string) => {
        cancelHello()
        if (caller.state === 'greeting') {
          caller.state = 'admitting'
          void this.#greet(caller, text)
        } else if (caller.state === 'admitting') refuse(connection, refusals.impatient())
        else {
          const session = caller.state
          inbox(() => this.#receive(session, text))
        }
      },
      onEnd: (reason: string) => {
        cancelHello()
        this.#connections.delete(connection)
        if (typeof caller.state !== 'string') this.#lose(caller.state, reason)
      },
    }
    const connection = new Connection(socket, { clock, limits, handlers })
    const caller: Caller = { connection, baseUrl, state: 'greeting' }
    const cancelHello = clock.after(limits.helloMs, () => refuse(connection, refusals.silent(limits.helloMs)))
    if (this.#closing) return connection.end(1001, 'the server is being stopped')
    if (this.#connections.size >= limits.connectionsMax) {
      return refuse(connection, refusals.tooMany(limits.connectionsMax))
    }
    this.#connections.add(connection)
  }

  async #greet(caller: Caller, text: string): Promise<void> {
    const { config, catalog, log } = this.#options
    const { connection, baseUrl } = caller
    try {
      const hello = this.#readHello(text)
      await this.#makeRoom(hello)
      if (!connection.isOpen()) return
      const session = this.#enter(hello, connection)
      caller.state = session
      const admission = await admit(hello, config.system, catalog())
      if (!connection.isOpen()) return
      this.#welcome(session, { ...admission, agentUrl: `${baseUrl}/s/${session.id}` })
    } catch (error) {
      const failure = describeFailure(error)
      const level = error instanceof Failure ? 'warn' : 'error'
      log({ level, message: `A process was refused: ${failure.message}`, code: failure.code })
      refuse(connection, error)
    }
  }

  #readHello(text: string): Hello {
    const { config, limits } = this.#options
    if (Buffer.byteLength(text) > limits.helloBytesMax) throw refusals.notHello('it is too long')
    const version = versionIn(text)
    if (version !== undefined && version !== sessionProtocolVersion) throw refusals.version(version)
    const frame = parseFrame(text, readProcessFrame, 'The first frame of a process')
    if (frame.type !== 'hello') throw refusals.notHello(`it is a "${frame.type}"`)
    if (this.#declared.has(frame.participant)) return frame
    throw refusals.undeclared(frame.participant, [...this.#declared], config.path)
  }

  /** S1. Answers when whoever had the name has gone. @throws Failure `participant_connected` */
  async #makeRoom({ participant, incarnation }: Hello): Promise<void> {
    const first = this.#byName.get(participant)
    if (first === undefined) return
    if (first.process.incarnation === incarnation) {
      // The same process again: it has given up a connection that we have not seen end yet.
      return first.connection.end(1008, 'the process has opened another connection')
    }
    if (this.#contended.has(participant)) throw refusals.connected(participant)
    this.#contended.add(participant)
    try {
      const answers = await first.connection.answersWithin(this.#options.limits.probeMs)
      if (answers) throw refusals.connected(participant)
      first.connection.end(1008, 'it did not answer, and another process has taken its name')
    } finally {
      this.#contended.delete(participant)
    }
  }

  /** S1. In one step with its check. @throws Failure `participant_connected`: somebody else was faster */
  #enter({ participant, incarnation }: Hello, connection: Connection): Session {
    if (this.#byName.has(participant)) throw refusals.connected(participant)
    const id = new Uint8Array(16)
    this.#options.entropy.fill(id)
    const session: Session = {
      id: Buffer.from(id).toString('hex'),
      process: { name: participant, incarnation },
      connection,
      waiting: [],
      cut: null,
      offered: new Set(),
      over: new AbortController(),
    }
    this.#byName.set(participant, session)
    this.#byId.set(session.id, session)
    return session
  }

  /** S3: the welcome first, then what has been waiting for it. */
  #welcome(session: Session, fields: Omit<Extract<ServerFrame, { type: 'welcome' }>, 'type' | 'system'>): void {
    const waiting = session.waiting ?? []
    session.waiting = null
    const { name, incarnation } = session.process
    if (fields.restore !== null) session.offered.add(fields.restore.restore)
    session.connection.send({ type: 'welcome', system: this.#options.config.system, ...fields })
    for (const frame of waiting) {
      if (frame.type === 'restore' && frame.offer.restore === fields.restore?.restore) continue
      session.connection.send(frame)
    }
    this.#options.log({ level: 'info', message: `Process ${name} has joined`, incarnation })
    this.#options.events.publish({ type: 'processConnected', name, incarnation })
  }

  async #receive(session: Session, text: string): Promise<void> {
    if (!session.connection.isOpen()) return
    const { name, incarnation } = session.process
    try {
      if (session.waiting !== null) throw refusals.impatient()
      const frame = parseFrame(text, readProcessFrame, `A frame of ${name}`)
      switch (frame.type) {
        case 'hello':
          throw refusals.helloAgain()
        case 'fact':
          return this.#events.emit({ type: 'fact', from: name, incarnation, fact: checkedFact(session, frame.fact) })
        case 'restored':
          if (this.#isStrangeRestore(session, frame.restore)) return
          // Durable first: whoever is told of it may rely on it after a crash.
          await this.#options.catalog().completeRestore(this.#options.config.system, name, frame.restore)
          if (!session.connection.isOpen()) return
          return this.#events.emit({ type: 'restored', name, restore: frame.restore })
        case 'restoreFailed': {
          if (this.#isStrangeRestore(session, frame.restore)) return
          const { message } = frame.failure
          this.#options.log({
            level: 'error',
            message: `Process ${name} cannot be restored: ${message}`,
            restore: frame.restore,
          })
          return this.#events.emit({ type: 'restoreFailed', name, restore: frame.restore, message })
        }
      }
    } catch (error) {
      this.#options.log({ level: 'error', message: `The session of ${name} ends: ${describeFailure(error).message}` })
      refuse(session.connection, error)
    }
  }

  /** C8: an answer to a restore that is over, or never was, changes nothing. */
  #isStrangeRestore(session: Session, restore: string): boolean {
    if (session.offered.has(restore)) return false
    this.#options.log({
      level: 'info',
      message: `Ignored: ${refusals.notOffered(session.process.name, restore).message}`,
    })
    return true
  }

  #lose(session: Session, reason: string): void {
    const { name, incarnation } = session.process
    this.#byId.delete(session.id)
    if (this.#byName.get(name) === session) this.#byName.delete(name)
    session.over.abort(refusals.ended(name, reason))
    session.cut?.over.abort(session.over.signal.reason)
    if (session.waiting === null) {
      this.#options.log({ level: 'warn', message: `Process ${name} is gone: ${reason}`, incarnation })
      this.#options.events.publish({ type: 'processLost', name, incarnation, reason })
    }
    this.#events.emit({ type: 'lost', name, incarnation })
  }

  #post(to: ConnectedProcess, frame: ServerFrame): Session | undefined {
    const session = this.#byName.get(to.name)
    if (session === undefined || session.process.incarnation !== to.incarnation) return undefined
    if (session.waiting !== null) session.waiting.push(frame)
    else if (!session.connection.send(frame)) return undefined
    return session
  }

  /** The session, if it is this participant's. */
  #sessionOf(id: string, participant: ParticipantName): Session {
    const session = this.#byId.get(id)
    if (session === undefined) throw refusals.ended(participant, 'its session is over')
    if (session.process.name !== participant) throw refusals.foreign(participant)
    return session
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
