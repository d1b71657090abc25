/**
 * A simulated process: the SDK's own shell (protocol-shell.ts) around the production machine, and an application that
 * moves tokens. What the application has is durable at every event; what the shell has dies with the process.
 *
 * Owns: the application's truth (balance, vector clock) and its marks. Does not own: the network, nor any decision.
 */
import type { ChannelTraits, CutRef, Fact, Order, Origin, Stamp } from '@stillpoint/core'
import { type ChannelId, channelId, defined, type Incarnation, participantName } from '@stillpoint/core/kernel'
import { type Marker, type ProtocolShell, protocolShell } from '../../../sdk/src/gate/protocol-shell.ts'
import type { Work } from '../../../sdk/src/gate/work-context.ts'
import { type Event, type MarkedState, tick, type VectorClock } from '../checkers/truth.ts'
import type { Machine } from './machine.ts'
import { StorageError } from './repository.ts'
import type { StoreShape } from './scenario.ts'
import { treeOfNobody } from './wire.ts'
import type { World } from './world.ts'

export interface Packet {
  readonly id: string
  readonly amount: number
  readonly clock: VectorClock
  readonly kind: 'message' | 'request' | 'reply'
  /** Who asked, and the item that waits there for the reply. */
  readonly asker: { readonly name: string; readonly item: number } | null
  readonly transactional: boolean
}

type Action =
  | { readonly do: 'send' | 'request'; readonly to: string; readonly amount: number }
  | { readonly do: 'write'; readonly store: string; readonly amount: number }
  | { readonly do: 'reply'; readonly to: string; readonly item: number }

interface Handler {
  readonly work: Work
  readonly actions: Action[]
  awaiting: boolean
}

/** How long an application waits for a reply before it goes on without. */
const replyMsMax = 300

export class ProcessNode {
  readonly name: string
  readonly actor: number
  readonly machine: Machine
  readonly #world: World
  balance: number
  clock: VectorClock
  shell: ProtocolShell
  incarnation: Incarnation
  marks = new Map<string, MarkedState>()
  /** Messages that have arrived and that the application has not. */
  readonly inbox = new Set<string>()
  readonly #handlers = new Map<number, Handler>()
  /** Where this process may send, and write. */
  readonly #peers: readonly string[]
  /** Those of its peers who come and go. */
  readonly #guests: ReadonlySet<string>
  readonly #mayAsk: boolean
  readonly #channels: ReadonlyMap<string, ChannelId>
  readonly #stores: readonly StoreShape[]
  /** Whatever belongs to an earlier state of the application never happens. */
  #lives = 0

  constructor(world: World, name: string, options: { readonly machine: Machine; readonly balance: number }) {
    this.#world = world
    this.name = name
    this.actor = world.ledger.indexOf(name)
    this.machine = options.machine
    this.balance = options.balance
    this.clock = world.ledger.zero()
    this.incarnation = `${name}-1` as Incarnation
    const { processes, stores, strangers } = world.scenario
    const self = strangers.find((stranger) => stranger.name === name)
    // A reply needs a way back.
    this.#mayAsk = world.scenario.hasRequests && self?.isKnown !== false
    this.#peers = processes.filter((peer) => peer !== name)
    this.#guests = new Set(self === undefined ? strangers.filter(({ isKnown }) => isKnown).map((one) => one.name) : [])
    const peers = [...this.#peers, ...this.#guests]
    this.#channels = new Map(peers.map((peer) => [peer, channelId(participantName(name), participantName(peer))]))
    this.#stores = stores.filter(({ writers }) => writers === 'unknown' || writers.includes(name))
    this.shell = this.#newShell()
  }

  #newShell(): ProtocolShell {
    const { name, incarnation, machine } = this
    const { life } = machine
    const alive =
      <T>(duty: (value: T) => void) =>
      (value: T): void => {
        if (machine.life === life) duty(value)
      }
    // Whatever speaks to the shell may make it leave something to microtasks: the world lets them run after this event.
    const stirring =
      <T extends readonly unknown[], R>(speak: (...words: T) => R) =>
      (...words: T): R => {
        this.#world.stir()
        return speak(...words)
      }
    const shell = protocolShell({
      name: participantName(name),
      incarnation,
      clock: {
        monotonicMs: () => machine.monotonicMs(),
        wallMs: () => machine.wallMs(),
        after: (delayMs, wake) => machine.after(delayMs, stirring(wake)),
      },
      duties: {
        report: alive((fact: Fact) => this.#world.links.report(name, fact)),
        sendMarker: alive((stamp: Marker) => this.#world.network.sendMarker(name, stamp)),
        markState: alive((ref: CutRef) => this.#markState(ref)),
        capture: alive((ref: CutRef) => this.#capture(ref)),
        dropMark: alive((ref: CutRef) => void this.marks.delete(ref.cut)),
      },
    })
    const { feed, arrive, end, send, openSession, unpark } = shell
    const spoken = { feed: stirring(feed), arrive: stirring(arrive), end: stirring(end), send: stirring(send) }
    return { ...shell, ...spoken, openSession: stirring(openSession), unpark: stirring(unpark) }
  }

  /** Until its first welcome a process knows no generation, and neither sends nor takes anything (J2 of the SDK). */
  get isJoined(): boolean {
    return this.machine.isUp && this.shell.state().generation > 0
  }

  welcome(generation: number, epoch: number): void {
    const wasJoined = this.isJoined
    this.shell.feed({ type: 'generationEntered', generation, epoch })
    if (!wasJoined) this.#world.network.openAll(this.name)
  }

  order(order: Order): void {
    if (order.type === 'quiesce') {
      this.#watchLease(order.leaseMs)
      this.#world.strangers.holdOrdered(order.ref.cut, this.name)
    }
    this.shell.feed({ type: 'ordered', order })
  }

  /** C5, by what it was told and its own clock: no gate is closed much longer than the lease. */
  #watchLease(leaseMs: number): void {
    const slackMs = 150
    const check = (strikes: number): void => {
      const { gate, work } = this.shell.state()
      if (gate.kind !== 'closed' || work?.mark != null) return
      // Another order may have come meanwhile; that one is watched by itself.
      if (work?.hold != null && work.hold.sinceMs > sinceMs) return
      if (strikes < 2) return void this.machine.after(10, () => check(strikes + 1))
      this.#world.ledger.findings.push(`the gate of ${this.name} is closed ${slackMs} ms after its lease (C5)`)
    }
    const sinceMs = this.machine.monotonicMs()
    this.machine.after(leaseMs + slackMs, () => check(0))
  }

  disconnected(): void {
    this.shell.feed({ type: 'disconnected' })
  }

  event(learnt: VectorClock = this.clock): Event {
    this.clock = tick(this.clock, this.actor, learnt)
    return { actor: this.actor, index: defined(this.clock[this.actor], 'its own count') }
  }

  crash(): void {
    this.machine.crash()
    this.shell.close()
    const event = this.event()
    this.#world.network.senderGone(this.name, event)
    for (const id of this.inbox) this.#world.ledger.lost(id, event)
    this.inbox.clear()
    this.#handlers.clear()
    this.marks = new Map()
    this.#lives += 1
  }

  restart(): void {
    this.machine.start()
    this.incarnation = `${this.name}-${this.machine.life}` as Incarnation
    this.shell = this.#newShell()
  }

  /** A restore has replaced the application's state: what ran may do nothing more. */
  restore(state: { readonly balance: number; readonly generation: number; readonly epoch: number }): void {
    this.shell.disown()
    this.#lives += 1
    this.inbox.clear()
    for (const { work } of this.#handlers.values()) this.shell.end(work)
    this.#handlers.clear()
    this.balance = state.balance
    this.clock = this.#world.ledger.zero()
    this.welcome(state.generation, state.epoch)
  }

  #markState(ref: CutRef): void {
    this.marks.set(ref.cut, { actor: this.actor, clock: this.clock, tokens: this.balance })
    this.#world.trace(this.name, () => `takes its mark for ${ref.cut}: ${this.balance} tokens`)
    this.machine.after(this.#world.random.below(6), () => this.shell.feed({ type: 'stateMarked', ref }))
  }

  #capture(ref: CutRef): void {
    const { durable, random } = this.#world
    const delayMs = random.below(durable.storage === 'slow' ? 400 : 20)
    this.machine.after(delayMs, () => {
      const mark = this.marks.get(ref.cut)
      if (mark === undefined) return
      try {
        const recorded = this.shell.recorded(ref).map(({ stamp }) => stamp.message as string)
        durable.upload(ref.cut, this.name, { mark, recorded })
        const evidence = { tree: treeOfNobody, bytes: 1, files: 1, torn: [], notes: [], channels: {} }
        this.shell.feed({ type: 'captured', ref, evidence })
      } catch (error) {
        if (!(error instanceof StorageError)) throw error
        const failure = { code: 'repository_failed', message: error.message, retry: 'later' } as const
        this.shell.feed({ type: 'captureFailed', ref, failure })
      }
    })
  }

  /** A packet comes in from a channel. */
  arrive(packet: Packet, stamp: Stamp, traits: ChannelTraits): void {
    const { transactional, kind, asker } = packet
    const origin: Origin =
      kind === 'reply'
        ? { kind, stamp, traits, awaitedBy: asker !== null && this.#handlers.has(asker.item) ? asker.item : null }
        : { kind: 'message', stamp, traits, expectsReply: kind === 'request', transactional }
    this.shell.arrive({
      origin,
      deliver: (work) => (transactional ? this.#transact(packet, work) : this.#receive(packet, work)),
      refuse: (reason) => {
        this.#world.trace(this.name, () => `refuses ${packet.id}: ${reason}`)
        // Its sender's channel would send it again; whatever that one is, this process will be of its generation.
        if (reason === 'newer-generation') this.machine.after(20, () => this.arrive(packet, stamp, traits))
      },
      body: () => ({ kind, meta: {}, encoding: 'utf8', payload: '' }),
    })
  }

  /** A handler that is a transaction: all that it does, it does at one instant, or not at all. */
  #transact(packet: Packet, work: Work): void {
    const handler: Handler = { work, actions: [], awaiting: false }
    this.#handlers.set(work.item, handler)
    const lives = this.#lives
    const { random } = this.#world
    const after = this.#plan(null).find((action) => action.do === 'send')
    this.machine.after(random.below(random.chance(100) ? 150 : 6), () => {
      if (this.#lives !== lives) return
      this.#take(packet)
      if (after?.do === 'send') this.#send(work, { to: after.to, amount: after.amount, kind: 'message', asker: null })
      this.#act(handler)
    })
  }

  #take(packet: Packet): void {
    this.#world.ledger.received(packet.id, this.event(packet.clock))
    this.inbox.delete(packet.id)
    this.balance += packet.amount
    this.#world.trace(this.name, () => `has ${packet.id}: ${this.balance} tokens`)
  }

  #receive(packet: Packet, work: Work): void {
    this.#take(packet)
    if (packet.kind === 'reply') {
      const waiter = packet.asker === null ? undefined : this.#handlers.get(packet.asker.item)
      if (waiter === undefined) return
      waiter.awaiting = false
      return this.#next(waiter)
    }
    this.#begin(work, packet)
  }

  /** An outsider asks; `answered` gets what this process knows. */
  ask(learnt: () => VectorClock, answered: (clock: VectorClock) => void): void {
    this.shell.arrive({
      origin: { kind: 'outsider', holdable: true, transactional: false },
      deliver: (work) => {
        this.event(learnt())
        answered(this.clock)
        this.#world.trace(this.name, () => 'answers an outsider')
        if (this.#world.scenario.isHushed === true) this.shell.end(work)
        else this.#begin(work, null)
      },
      refuse: () => {},
    })
  }

  ownWork(): void {
    this.shell.arrive({
      origin: { kind: 'process', transactional: this.#world.random.chance(300) },
      deliver: (work) => this.#begin(work, null),
      refuse: () => {},
    })
  }

  /** Its own work is to send something to that one. */
  greet(to: string): void {
    this.shell.arrive({
      origin: { kind: 'process', transactional: false },
      deliver: (work) => this.#begin(work, null, [{ do: 'send', to, amount: 0 }]),
      refuse: () => {},
    })
  }

  #begin(work: Work, packet: Packet | null, actions = this.#plan(packet)): void {
    const handler: Handler = { work, actions, awaiting: false }
    this.#handlers.set(work.item, handler)
    this.#next(handler)
  }

  #plan(packet: Packet | null): Action[] {
    const { random } = this.#world
    const actions: Action[] = []
    if (this.#stores.length > 0 && random.chance(500)) {
      actions.push({ do: 'write', store: random.pick(this.#stores).name, amount: random.below(4) })
    }
    const asker = packet?.kind === 'request' ? packet.asker : null
    if (asker !== null) actions.push({ do: 'reply', to: asker.name, item: asker.item })
    else if (this.#peers.length > 0 && random.chance(packet === null ? 900 : 450)) {
      const isRequest = this.#mayAsk && random.chance(300)
      actions.push({ do: isRequest ? 'request' : 'send', to: this.#pickPeer(), amount: random.between(1, 5) })
    }
    return actions
  }

  #pickPeer(): string {
    const { random, strangers } = this.#world
    const guests = this.#guests.size === 0 ? [] : strangers.there().filter((name) => this.#guests.has(name))
    return guests.length > 0 && random.chance(200) ? random.pick(guests) : random.pick(this.#peers)
  }

  #next(handler: Handler): void {
    const { random } = this.#world
    const lives = this.#lives
    this.machine.after(random.below(random.chance(30) ? 120 : 4), () => {
      if (this.#lives === lives && !handler.awaiting) this.#act(handler)
    })
  }

  #act(handler: Handler): void {
    const { work, actions } = handler
    if (!this.#handlers.has(work.item)) return
    const action = actions.shift()
    if (action === undefined) {
      this.#handlers.delete(work.item)
      return this.shell.end(work)
    }
    switch (action.do) {
      case 'write':
        return this.#write(handler, action.store, action.amount)
      case 'reply': {
        const asker = { name: action.to, item: action.item }
        this.#send(work, { to: action.to, amount: 1, kind: 'reply', asker })
        return this.#next(handler)
      }
      case 'send':
        this.#send(work, { to: action.to, amount: action.amount, kind: 'message', asker: null })
        return this.#next(handler)
      case 'request': {
        handler.awaiting = true
        const asker = { name: this.name, item: work.item }
        this.#send(work, { to: action.to, amount: action.amount, kind: 'request', asker })
        this.machine.after(replyMsMax, () => {
          if (!handler.awaiting) return
          handler.awaiting = false
          this.#next(handler)
        })
      }
    }
  }

  #send(
    work: Work,
    { to, amount: wanted, kind, asker }: Pick<Packet, 'amount' | 'kind' | 'asker'> & { readonly to: string },
  ): void {
    const { ledger, network, random } = this.#world
    const amount = this.#guests.has(to) ? 0 : Math.min(wanted, this.balance)
    this.balance -= amount
    const sent = this.event()
    const id = ledger.sent({ amount, from: this.actor, to: ledger.indexOf(to), sent })
    const packet = {
      id,
      amount,
      clock: this.clock,
      kind,
      asker,
      transactional: kind === 'message' && random.chance(300),
    }
    network.took(this.name, to, id)
    this.shell.send(
      { channel: defined(this.#channels.get(to), to), message: id as never, work },
      {
        granted: (stamp) => network.send(this.name, to, { packet, stamp }),
        refused: () => ledger.lost(id, this.event()),
      },
    )
  }

  /** A transaction of its own, and its acknowledgement. A held store keeps the writer waiting. */
  #write(handler: Handler, store: string, wanted: number): void {
    const amount = Math.min(wanted, this.balance)
    const node = this.#world.storeNode(store)
    const lives = this.#lives
    const tryWrite = (): void => {
      if (this.#lives !== lives || !this.#handlers.has(handler.work.item)) return
      if (node.isHeld) return void this.machine.after(5, tryWrite)
      const paid = Math.min(amount, this.balance)
      this.balance -= paid
      this.event()
      this.event(node.write(this.clock, paid))
      this.#world.trace(this.name, () => `writes ${paid} to ${store}`)
      this.#next(handler)
    }
    tryWrite()
  }

  leftovers(): readonly string[] {
    const { gate, work, heldSends } = this.shell.state()
    const found: string[] = []
    if (gate.kind !== 'open') found.push(`the gate of ${this.name} is ${gate.kind} (C7)`)
    if (work !== null) found.push(`${this.name} still works for ${work.ref.cut} (C7)`)
    if (heldSends.length > 0) found.push(`${this.name} keeps ${heldSends.length} sendings back (C7)`)
    if (this.marks.size > 0) found.push(`${this.name} keeps ${this.marks.size} marks (C7)`)
    return found
  }
}
