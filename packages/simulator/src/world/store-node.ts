/**
 * A simulated store and its agent: the store has data, holds that end by its own clock, and writers; the agent runs the
 * production machine. They live on one machine, and the store outlives its agent's crash, and so does a hold.
 */
import {
  decideStore,
  initialStore,
  nextStoreDeadlineMs,
  type Order,
  type StoreAnswer,
  type StoreCall,
  type StoreInput,
  type StoreState,
} from '@stillpoint/core'
import { type Incarnation, participantName } from '@stillpoint/core/kernel'
import { type MarkedState, tick, type VectorClock } from '../checkers/truth.ts'
import type { Machine } from './machine.ts'
import { StorageError } from './repository.ts'
import { treeOfNobody } from './wire.ts'
import type { World } from './world.ts'

export class StoreNode {
  readonly name: string
  readonly actor: number
  readonly machine: Machine
  readonly #world: World
  clock: VectorClock
  tokens = 0
  /** By the store's own means: nobody writes until it ends, and it ends by itself. */
  #hold: { readonly cut: string; readonly life: number; readonly end: () => void } | null = null
  #isBroken = false
  readonly marks = new Map<string, MarkedState>()
  state: StoreState
  #stopTimer: () => void = () => {}

  constructor(world: World, name: string, machine: Machine) {
    this.#world = world
    this.name = name
    this.actor = world.ledger.indexOf(name)
    this.machine = machine
    this.clock = world.ledger.zero()
    this.state = initialStore(participantName(name), `${name}-1` as Incarnation)
  }

  get isHeld(): boolean {
    return this.#hold !== null
  }

  /** A transaction. Answers what its acknowledgement tells the writer. */
  write(learnt: VectorClock, tokens: number): VectorClock {
    if (this.#hold !== null) this.#world.ledger.findings.push(`${this.name} took a write while it was held`)
    this.clock = tick(this.clock, this.actor, learnt)
    this.tokens += tokens
    return this.clock
  }

  restore(tokens: number): void {
    this.tokens = tokens
    this.clock = this.#world.ledger.zero()
  }

  order(order: Order): void {
    this.#take({ type: 'ordered', order, nowMs: this.machine.monotonicMs() })
  }

  disconnected(): void {
    this.#take({ type: 'disconnected', nowMs: this.machine.monotonicMs() })
  }

  crash(): void {
    this.machine.crash()
    this.#stopTimer()
  }

  /** An agent that starts drops what an earlier life of it has left; a hold ends at the store, by its lease. */
  restart(): void {
    this.machine.start()
    this.marks.clear()
    this.state = initialStore(participantName(this.name), `${this.name}-${this.machine.life}` as Incarnation)
  }

  #take(input: StoreInput): void {
    const { state, effects } = decideStore(this.state, input)
    this.state = state
    for (const effect of effects) {
      if (effect.type === 'report') this.#world.links.report(this.name, effect.fact)
      else if (effect.type === 'call') this.#call(effect.ref, effect.call)
    }
    this.#stopTimer()
    const atMs = nextStoreDeadlineMs(this.state)
    if (atMs === null) return
    const { machine } = this
    this.#stopTimer = machine.after(Math.max(0, atMs - machine.monotonicMs()), () =>
      this.#take({ type: 'ticked', nowMs: machine.monotonicMs() }),
    )
  }

  #call(ref: Order['ref'], call: StoreCall): void {
    const { random, durable } = this.#world
    const delayMs = random.below(call.call === 'capture' && durable.storage === 'slow' ? 400 : 15)
    this.machine.after(delayMs, () => {
      try {
        const answer = this.#carryOut(ref.cut, call)
        this.#world.trace(this.name, () => `has done ${call.call}`)
        this.#take({ type: 'answered', ref, answer, nowMs: this.machine.monotonicMs() })
      } catch (error) {
        if (!(error instanceof StorageError)) throw error
        const failure = { code: 'store_failed', message: error.message, retry: 'later' } as const
        this.#take({ type: 'callFailed', ref, call: call.call, failure, nowMs: this.machine.monotonicMs() })
      }
    })
  }

  #carryOut(cut: string, call: StoreCall): StoreAnswer {
    switch (call.call) {
      case 'prepare':
        this.#noteLeftHold(cut)
        return { call: 'prepare', estimateBytes: 1, version: 'simulated', notes: [] }
      case 'quiesce':
        this.quiesce(cut, call.leaseMs)
        return { call: 'quiesce', endsAtMs: this.machine.monotonicMs() + call.leaseMs }
      case 'mark':
        return { call: 'mark', position: this.mark(cut), caveats: [] }
      case 'resume':
        return { call: 'resume', unbroken: this.resume(cut) }
      case 'capture': {
        this.upload(cut)
        return {
          call: 'capture',
          evidence: { tree: treeOfNobody, bytes: 1, files: 1, torn: [], notes: [], channels: {} },
        }
      }
      case 'release':
        this.marks.delete(cut)
        return { call: 'release' }
    }
  }

  /** A newer cut comes only when the older one has been undone, unless the agent has died meanwhile. */
  #noteLeftHold(cut: string): void {
    if (this.#hold === null || this.#hold.life !== this.machine.life) return
    this.#world.ledger.findings.push(`${this.name} is held for ${this.#hold.cut} when ${cut} is prepared (C7)`)
  }

  /** The lease runs by the store's own clock, whatever becomes of the agent. */
  quiesce(cut: string, leaseMs: number): void {
    this.#letGo()
    this.#isBroken = false
    const { timeline, random, scenario, isFaulty } = this.#world
    // Its clock is not the agent's: it may end earlier than the agent believes.
    const endsAtMs = timeline.nowMs + leaseMs * (0.95 + random.below(11) / 100)
    const cancel = timeline.at(endsAtMs, () => this.#breakHold('the lease is over'))
    this.#hold = { cut, life: this.machine.life, end: cancel }
    // Now and then somebody ends all holds by hand, whatever their leases say.
    if (!isFaulty || scenario.shape === 'calm' || !random.chance(100)) return
    timeline.at(timeline.nowMs + random.below(60), () => {
      for (const store of this.#world.stores.values()) store.#breakHold('somebody has ended it')
    })
  }

  #breakHold(why: string): void {
    if (this.#hold === null) return
    this.#world.trace(this.name, () => `ends its hold: ${why}`)
    this.#isBroken = true
    this.#letGo()
  }

  mark(cut: string): Readonly<Record<string, number>> {
    this.marks.set(cut, { actor: this.actor, clock: this.clock, tokens: this.tokens })
    return { writes: this.clock[this.actor] ?? 0 }
  }

  /** Answers whether it was held without a break. */
  resume(cut: string): boolean {
    if (this.#hold !== null && this.#hold.cut !== cut) return false
    const unbroken = this.#hold?.cut === cut && !this.#isBroken
    this.#letGo()
    return unbroken
  }

  upload(cut: string): void {
    const mark = this.marks.get(cut)
    if (mark === undefined) throw new StorageError(`${this.name} has no mark for ${cut}`)
    this.#world.durable.upload(cut, this.name, { mark, recorded: [] })
  }

  /** The connection of whoever held and marked it is gone: so are its holds and marks. */
  forgetClient(): void {
    this.#letGo()
    this.marks.clear()
  }

  #letGo(): void {
    this.#hold?.end()
    this.#hold = null
  }

  /** An agent that has crashed knows nothing of the hold of its earlier life: that one ends at the store, by its lease. */
  get isHeldByEarlierLife(): boolean {
    return this.#hold !== null && this.#hold.life !== this.machine.life
  }

  leftovers(): readonly string[] {
    const found: string[] = []
    if (this.#hold !== null) found.push(`${this.name} is held for ${this.#hold.cut} (C5)`)
    if (this.marks.size > 0) found.push(`${this.name} keeps the mark of ${[...this.marks.keys()].join()} (C7)`)
    if (this.state.work !== null)
      found.push(`the agent of ${this.name} still works for ${this.state.work.ref.cut} (C7)`)
    return found
  }
}
