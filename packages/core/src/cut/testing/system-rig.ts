/**
 * All machines of one system around one coordinator, with shells that answer at once. A test stops it wherever it likes
 * and does harm there. Nothing is random: orders and facts are delivered in the order in which they were given.
 */
import { assert, defined } from '../../kernel/assert.ts'
import type { CutId, ParticipantName } from '../../kernel/ids.ts'
import type { Certificate } from '../certificate.ts'
import { beginCut, decideCoordinator, nextCoordinatorDeadlineMs } from '../coordinator.ts'
import type { CoordinatorInput, CoordinatorState, CutOutcome, CutRecord, Decision } from '../coordinator-state.ts'
import type { Fact, Order, Stamp } from '../messages.ts'
import { type DeclaredStore, makePlan, type Plan, type PlanRequest } from '../plan.ts'
import { decideProcess, nextProcessDeadlineMs } from '../process.ts'
import { initialProcess, type ProcessEffect, type ProcessInput, type ProcessState } from '../process-state.ts'
import { decideStore, initialStore, type StoreAnswer, type StoreInput, type StoreState } from '../store.ts'
import type { Verdict } from '../verdict.ts'
import { channel, incarnationOf, loose, messageId, nameOf, sessionOf, treeOf } from './process-rig.ts'

export interface SystemShape {
  readonly processes: readonly string[]
  readonly stores: readonly Omit<DeclaredStore, 'source'>[]
  readonly request?: Partial<PlanRequest>
}

export const mixed: SystemShape = {
  processes: ['a', 'b'],
  stores: [
    { name: 'own', writers: ['a'] },
    { name: 'both', writers: ['a', 'b'] },
    { name: 'any', writers: 'unknown' },
  ],
}

export function planOf({ processes, stores, request }: SystemShape): Plan {
  return makePlan({
    system: 'test',
    cut: 'cut-1' as CutId,
    epoch: 1,
    generation: 1,
    fencing: 1,
    processes: processes.map((name) => ({ name, incarnation: incarnationOf(`${name}-1`) })),
    stores: stores.map((store) => ({ ...store, source: 'model' })),
    ...request,
  })
}

interface StoreNode {
  state: StoreState
  /** What the store itself knows, whatever the protocol believes. */
  isHeld: boolean
  hasMark: boolean
}

export class System {
  nowMs = 0
  readonly plan: Plan
  coordinator: CoordinatorState
  readonly processes = new Map<ParticipantName, ProcessState>()
  readonly stores = new Map<ParticipantName, StoreNode>()
  readonly orders: { to: ParticipantName; order: Order }[] = []
  readonly facts: { from: ParticipantName; fact: Fact }[] = []
  readonly network: { to: ParticipantName; stamp: Stamp }[] = []
  readonly records: CutRecord[] = []
  readonly outcomes: CutOutcome[] = []
  readonly seals: { certificate: Certificate; verdict: Verdict }[] = []
  /** The seal is asked for and not answered yet. */
  isSealing = false
  readonly lost = new Set<ParticipantName>()
  #items = 0

  constructor(shape: SystemShape = mixed) {
    this.plan = planOf(shape)
    for (const participant of this.plan.participants) {
      const { name } = participant
      const incarnation = incarnationOf(`${name}-1`)
      if (participant.kind === 'store')
        this.stores.set(name, { state: initialStore(name, incarnation), isHeld: false, hasMark: false })
      else this.processes.set(name, initialProcess({ name, incarnation, generation: 1, epoch: 0 }))
    }
    for (const from of this.processes.keys()) {
      for (const to of this.processes.keys()) {
        if (from === to) continue
        const opened = { channel: channel(from, to), session: sessionOf(from, to), traits: loose }
        this.tellProcess(from, { type: 'sessionOpened', ...opened })
      }
    }
    const decision = beginCut(this.plan, 'digest', 0)
    this.coordinator = decision.state
    this.#apply(decision)
  }

  /** Continues with another coordinator, which found these records. */
  recover(decision: Decision): void {
    this.orders.length = 0
    this.facts.length = 0
    this.isSealing = false
    this.#apply(decision)
  }

  tell(input: CoordinatorInput): Decision {
    const decision = decideCoordinator(this.coordinator, input)
    this.#apply(decision)
    return decision
  }

  report(from: string, fact: Fact): Decision {
    return this.tell({ type: 'factReceived', from: nameOf(from), fact, nowMs: this.nowMs })
  }

  #apply({ state, effects, records }: Decision): void {
    this.coordinator = state
    this.records.push(...records)
    for (const effect of effects) {
      if (effect.type === 'order') {
        if (!this.lost.has(effect.to)) this.orders.push({ to: effect.to, order: effect.order })
      } else if (effect.type === 'seal') {
        this.seals.push(effect)
        this.isSealing = true
      } else if (effect.type === 'ended') this.outcomes.push(effect.outcome)
    }
  }

  tellProcess(name: ParticipantName, input: ProcessInput): void {
    const { state, effects } = decideProcess(defined(this.processes.get(name), name), input)
    this.processes.set(name, state)
    for (const effect of effects) this.#carryOut(name, effect)
  }

  #carryOut(name: ParticipantName, effect: ProcessEffect): void {
    switch (effect.type) {
      case 'report':
        if (!this.lost.has(name)) this.facts.push({ from: name, fact: effect.fact })
        return
      case 'deliver':
        return this.tellProcess(name, { type: 'finished', item: effect.item, nowMs: this.nowMs })
      case 'send': {
        const to = nameOf(effect.stamp.channel.split('→')[1] ?? '')
        this.network.push({ to, stamp: effect.stamp })
        return
      }
      case 'markState':
        return this.tellProcess(name, { type: 'stateMarked', ref: effect.ref, nowMs: this.nowMs })
      case 'capture': {
        const evidence = { tree: treeOf(`tree-${name}`), bytes: 1, files: 1, torn: [], notes: [], channels: {} }
        return this.tellProcess(name, { type: 'captured', ref: effect.ref, evidence })
      }
      default:
        return
    }
  }

  send(from: string, to: string): void {
    this.#items += 1
    const request = {
      send: this.#items,
      channel: channel(from, to),
      message: messageId(`m${this.#items}`),
      byItem: null,
    }
    this.tellProcess(nameOf(from), { type: 'sendRequested', request, nowMs: this.nowMs })
  }

  /** All that is in flight arrives. */
  deliver(): void {
    for (const { to, stamp } of this.network.splice(0)) {
      this.#items += 1
      const origin = { kind: 'message', stamp, traits: loose, expectsReply: false, transactional: false } as const
      this.tellProcess(to, { type: 'arrived', item: this.#items, origin, nowMs: this.nowMs })
    }
  }

  tellStore(name: ParticipantName, input: StoreInput): void {
    const node = defined(this.stores.get(name), name)
    const { state, effects } = decideStore(node.state, input)
    node.state = state
    for (const effect of effects) {
      if (effect.type === 'report') this.facts.push({ from: name, fact: effect.fact })
      if (effect.type !== 'call') continue
      const answer = this.#call(name, node, effect.call.call)
      this.tellStore(name, { type: 'answered', ref: effect.ref, answer, nowMs: this.nowMs })
    }
  }

  #call(name: ParticipantName, node: StoreNode, call: StoreAnswer['call']): StoreAnswer {
    switch (call) {
      case 'prepare':
        return { call, estimateBytes: 1, version: 'model 1', notes: [] }
      case 'quiesce':
        node.isHeld = true
        return { call, endsAtMs: this.nowMs + this.plan.deadlines.leaseMs }
      case 'mark':
        node.hasMark = true
        return { call, position: { lsn: 1 }, caveats: [] }
      case 'resume': {
        const unbroken = node.isHeld
        node.isHeld = false
        return { call, unbroken }
      }
      case 'capture': {
        const evidence = { tree: treeOf(`tree-${name}`), bytes: 1, files: 1, torn: [], notes: [], channels: {} }
        return { call, evidence }
      }
      case 'release':
        node.hasMark = false
        return { call }
    }
  }

  /** Delivers one order, or else one fact, or else the answer of the seal. Answers false when nothing is under way. */
  step(): boolean {
    const order = this.orders.shift()
    if (order !== undefined) {
      const input = { type: 'ordered', order: order.order, nowMs: this.nowMs } as const
      if (this.stores.has(order.to)) this.tellStore(order.to, input)
      else this.tellProcess(order.to, input)
      return true
    }
    const news = this.facts.shift()
    if (news !== undefined) {
      this.report(news.from, news.fact)
      return true
    }
    if (!this.isSealing) return false
    this.isSealing = false
    this.tell({ type: 'sealed', nowMs: this.nowMs })
    return true
  }

  run(steps = 1_000): void {
    for (let count = 0; count < steps; count += 1) if (!this.step()) return
  }

  runUntil(isThere: (system: System) => boolean): void {
    for (let count = 0; count < 1_000; count += 1) {
      if (isThere(this)) return
      if (!this.step()) break
    }
    assert(isThere(this), `the system came to rest in ${this.coordinator.phase}`)
  }

  /** The connection of a participant is gone, for both ends. */
  lose(name: string): Decision {
    const participant = nameOf(name)
    this.lost.add(participant)
    for (const queue of [this.orders, this.facts]) {
      const kept = queue.filter((one) => ('to' in one ? one.to : one.from) !== participant)
      queue.splice(0, queue.length, ...(kept as never[]))
    }
    if (this.stores.has(participant)) this.tellStore(participant, { type: 'disconnected', nowMs: this.nowMs })
    else this.tellProcess(participant, { type: 'disconnected', nowMs: this.nowMs })
    return this.tell({ type: 'participantLost', name: participant, reason: 'connection lost', nowMs: this.nowMs })
  }

  /** Nobody answers until the coordinator's deadline has come. */
  timeOut(): Decision {
    this.nowMs = nextCoordinatorDeadlineMs(this.coordinator) ?? this.nowMs
    return this.tell({ type: 'ticked', nowMs: this.nowMs })
  }

  /** Time passes for the participants, until none of them wants a timer. */
  passTime(ms: number): void {
    this.nowMs += ms
    for (const name of this.processes.keys()) {
      for (let ticks = 0; ticks < 5; ticks += 1) {
        const at = nextProcessDeadlineMs(defined(this.processes.get(name), name))
        if (at !== null && at <= this.nowMs) this.tellProcess(name, { type: 'ticked', nowMs: this.nowMs })
      }
    }
    for (const name of this.stores.keys()) this.tellStore(name, { type: 'ticked', nowMs: this.nowMs })
  }

  /** What of a cut is left at the participants (C7). */
  leftovers(): readonly string[] {
    const found: string[] = []
    for (const [name, { gate, work, heldSends, waiting }] of this.processes) {
      if (gate.kind !== 'open') found.push(`${name}: gate ${gate.kind}`)
      if (work !== null) found.push(`${name}: works for ${work.ref.cut}`)
      if (heldSends.length + waiting.length > 0) found.push(`${name}: holds messages`)
    }
    for (const [name, { state, isHeld, hasMark }] of this.stores) {
      if (isHeld) found.push(`${name}: held`)
      if (hasMark) found.push(`${name}: mark pinned`)
      if (state.work !== null) found.push(`${name}: works for ${state.work.ref.cut}`)
    }
    return found
  }
}

/** A certificate that is `consistent`: of a whole system, with messages received and in flight. */
export function sealedSystem(shape: SystemShape = mixed): System {
  const system = new System(shape)
  if (system.processes.size > 1) {
    for (let count = 0; count < 3; count += 1) system.send('a', 'b')
    system.send('b', 'a')
    system.deliver()
    // Two more that are in flight at the cut.
    system.send('a', 'b')
    system.send('a', 'b')
  }
  system.runUntil(({ coordinator }) => coordinator.phase === 'collect' || coordinator.phase === 'ended')
  system.deliver()
  system.run()
  return system
}
