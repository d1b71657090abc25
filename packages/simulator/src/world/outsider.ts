/** Somebody without the SDK: asks processes, writes to stores that anybody may write, and tells everybody everything. */
import { tick, type VectorClock } from '../checkers/truth.ts'
import type { World } from './world.ts'

export class Outsider {
  readonly name: string
  readonly #world: World
  readonly #actor: number
  clock: VectorClock
  #isWaiting = false

  constructor(world: World, name: string) {
    this.#world = world
    this.name = name
    this.#actor = world.ledger.indexOf(name)
    this.clock = world.ledger.zero()
  }

  live(): void {
    const { timeline, random } = this.#world
    timeline.at(timeline.nowMs + 2 + random.below(this.#world.scenario.isHushed === true ? 4 : 20), () => {
      this.#move()
      this.live()
    })
  }

  #move(): void {
    const { scenario, random, processes } = this.#world
    if (this.#isWaiting) return
    const open = scenario.stores.filter(({ writers }) => writers === 'unknown')
    if (open.length > 0 && (processes.size === 0 || random.chance(500))) {
      const store = this.#world.storeNode(random.pick(open).name)
      if (store.isHeld) return
      this.clock = tick(this.clock, this.#actor)
      this.clock = tick(this.clock, this.#actor, store.write(this.clock, 0))
      return this.#world.trace(store.name, () => `is written by ${this.name}`)
    }
    if (processes.size === 0) return
    const strangers = this.#world.strangers.there()
    const hosts = strangers.length === 0 ? scenario.processes : [...scenario.processes, ...strangers]
    const node = this.#world.processNode(random.pick(hosts))
    if (!node.isJoined) return
    this.#isWaiting = true
    const giveUp = this.#world.timeline.at(this.#world.timeline.nowMs + 400, () => {
      this.#isWaiting = false
    })
    this.clock = tick(this.clock, this.#actor)
    // Asked for when it is answered: a restore meanwhile makes all that was known before it void.
    const learnt = (): VectorClock => this.clock
    node.machine.reach(random.below(5), () =>
      node.ask(learnt, (answer) => {
        giveUp()
        this.#isWaiting = false
        this.clock = tick(this.clock, this.#actor, answer)
      }),
    )
  }
}
