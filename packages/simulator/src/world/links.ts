/**
 * The connections between participants and their coordinator: orders and facts in order, until the connection breaks.
 * Each end finds out by itself, some time later; a participant joins again, at whoever is the coordinator then.
 *
 * Also knows the partitions, since they cut channels, too.
 */
import type { Fact, Order } from '@stillpoint/core'
import { defined } from '@stillpoint/core/kernel'
import type { World } from './world.ts'

export type Way = 'out' | 'in'

interface Link {
  /** Counts connections: what was sent on an earlier one never arrives. */
  connection: number
  isJoined: boolean
  /** The coordinator believes that it is connected. */
  isKnown: boolean
  lastOutMs: number
  lastInMs: number
  readonly cutUntilMs: { out: number; in: number }
}

/** How long an end waits for a sign of life before it calls the connection lost. */
const silenceMsMax = 250
const rejoinMs = 40
const repeatedPerMille = 25
/** Of orders and facts in a hushed world. */
const slowMsMax = 150

export class Links {
  readonly #world: World
  readonly #links = new Map<string, Link>()

  constructor(world: World, names: readonly string[]) {
    this.#world = world
    for (const name of names) {
      const times = { lastOutMs: 0, lastInMs: 0, cutUntilMs: { out: 0, in: 0 } }
      this.#links.set(name, { connection: 0, isJoined: false, isKnown: false, ...times })
    }
  }

  #link(name: string): Link {
    return defined(this.#links.get(name), name)
  }

  isCut(name: string, way: Way): boolean {
    return this.cutForMs(name, way) > 0
  }

  cutForMs(name: string, way: Way): number {
    return Math.max(0, this.#link(name).cutUntilMs[way] - this.#world.timeline.nowMs)
  }

  wasCutSince(name: string, atMs: number): boolean {
    const { out, in: inward } = this.#link(name).cutUntilMs
    return Math.max(out, inward) > atMs
  }

  isJoined(name: string): boolean {
    return this.#link(name).isJoined && this.#link(name).isKnown
  }

  /** A partition begins: both ends will notice the silence, each in its own time, if it lasts. */
  partition(name: string, way: 'both' | Way, forMs: number): void {
    const { timeline, random } = this.#world
    const link = this.#link(name)
    const untilMs = timeline.nowMs + forMs
    if (way !== 'in') link.cutUntilMs.out = Math.max(link.cutUntilMs.out, untilMs)
    if (way !== 'out') link.cutUntilMs.in = Math.max(link.cutUntilMs.in, untilMs)
    const { connection } = link
    const stillCut = (): boolean =>
      link.connection === connection && (this.isCut(name, 'out') || this.isCut(name, 'in'))
    timeline.at(
      timeline.nowMs + silenceMsMax + random.below(200),
      () => stillCut() && this.#notice(name, 'participant'),
    )
    timeline.at(
      timeline.nowMs + silenceMsMax + random.below(200),
      () => stillCut() && this.#notice(name, 'coordinator'),
    )
  }

  #notice(name: string, end: 'participant' | 'coordinator'): void {
    const link = this.#link(name)
    if (end === 'participant') return this.lose(name)
    if (!link.isKnown) return
    link.isKnown = false
    this.#world.trace('coordinator', () => `loses ${name}`)
    this.#world.coordinator?.lost(name)
    // It closes the connection, which the participant sees as soon as anything comes through.
    const { connection } = link
    const { timeline } = this.#world
    timeline.at(timeline.nowMs + this.cutForMs(name, 'in') + 1, () => {
      if (link.connection === connection) this.lose(name)
    })
  }

  /** This participant sees its connection gone, and joins again as soon as it can. */
  lose(name: string): void {
    const link = this.#link(name)
    if (!link.isJoined) return
    link.isJoined = false
    link.connection += 1
    const { machine } = this.#world.node(name)
    machine.reach(0, () => {
      this.#world.trace(name, () => 'loses its connection')
      this.#world.node(name).disconnected()
    })
    machine.reach(rejoinMs, () => this.join(name))
  }

  /** Its machine has crashed: nothing of it is there to notice. */
  gone(name: string): void {
    const link = this.#link(name)
    link.isJoined = false
    link.connection += 1
    const { timeline, random } = this.#world
    const { connection } = link
    timeline.at(timeline.nowMs + random.below(silenceMsMax), () => {
      if (link.connection === connection) this.#notice(name, 'coordinator')
    })
  }

  /** The coordinator has crashed, or is not the coordinator any more: everybody notices, in their own time. */
  coordinatorGone(): void {
    const { timeline, random } = this.#world
    for (const [name, link] of this.#links) {
      link.isKnown = false
      const { connection } = link
      timeline.at(timeline.nowMs + random.below(silenceMsMax), () => {
        if (link.connection === connection) this.lose(name)
      })
    }
  }

  join(name: string): void {
    const link = this.#link(name)
    const { coordinator, durable } = this.#world
    const { machine } = this.#world.node(name)
    if (link.isJoined || !machine.isUp) return
    if (coordinator === null || this.isCut(name, 'out') || this.isCut(name, 'in')) {
      return machine.reach(rejoinMs, () => this.join(name))
    }
    // The older connection, if the coordinator still believes in it, is replaced.
    if (link.isKnown) coordinator.lost(name)
    link.isJoined = true
    link.isKnown = true
    link.connection += 1
    this.#world.welcome(name, durable.generation, durable.epoch)
    this.#world.trace(name, () => `joins: generation ${durable.generation}, epoch ${durable.epoch}`)
  }

  /** Orders of one connection arrive in order. False when the coordinator knows that nobody is there. */
  order(name: string, order: Order): boolean {
    const link = this.#link(name)
    if (!link.isKnown) return false
    const { connection } = link
    const { scenario, wire } = this.#world
    const carried = scenario.hasShells ? wire.order(order) : order
    link.lastInMs = this.#carry(name, { afterMs: link.lastInMs, way: 'in' }, () => {
      if (link.connection !== connection) return
      this.#world.trace(name, () => describeOrder(order), 'coordinator')
      this.#world.node(name).order(carried)
    })
    return true
  }

  /** What a coordinator that was replaced still sends, on a way that nobody has closed. */
  orderFromThePast(name: string, order: Order): void {
    this.#world.node(name).machine.reach(this.#world.random.below(30), () => {
      this.#world.trace(name, () => `${describeOrder(order)} of the coordinator before`)
      this.#world.node(name).order(order)
    })
  }

  report(name: string, said: Fact): void {
    const link = this.#link(name)
    if (!link.isJoined) return
    const { connection } = link
    const { coordinator, random, scenario, wire } = this.#world
    const fact = scenario.hasShells ? wire.fact(said) : said
    if (random.chance(repeatedPerMille)) this.#reportAgain(name, fact)
    link.lastOutMs = this.#carry(name, { afterMs: link.lastOutMs, way: 'out' }, () => {
      if (link.connection !== connection || !link.isKnown || this.#world.coordinator !== coordinator) return
      this.#world.trace('coordinator', () => fact.type, name)
      coordinator?.fact(name, fact)
    })
  }

  /** Old news, much later, whatever has become of its connection and its cut: it must change nothing (C8). */
  #reportAgain(name: string, fact: Fact): void {
    const { timeline, random } = this.#world
    timeline.at(timeline.nowMs + random.between(100, 700), () => {
      const { coordinator } = this.#world
      if (coordinator === null) return
      coordinator.machine.reach(0, () => {
        this.#world.trace('coordinator', () => `${fact.type} again, of ${fact.ref.cut}`, name)
        coordinator.fact(name, fact)
      })
    })
  }

  /** Answers when it arrives. A partition that ends before anybody noticed has only delayed it. */
  #carry(name: string, { afterMs, way }: { readonly afterMs: number; readonly way: Way }, arrive: () => void): number {
    const { timeline, random, scenario } = this.#world
    const delayMsMax = scenario.isHushed === true ? slowMsMax : Math.max(2, scenario.delayMsMax / 2)
    const delayMs = random.below(delayMsMax) + 0.1 + this.cutForMs(name, way)
    const atMs = Math.max(afterMs, timeline.nowMs + delayMs)
    const machine = way === 'in' ? this.#world.node(name).machine : this.#world.coordinator?.machine
    machine?.reach(atMs - timeline.nowMs, arrive)
    return atMs
  }
}

function describeOrder(order: Order): string {
  return `${order.type} (${order.ref.cut})`
}
