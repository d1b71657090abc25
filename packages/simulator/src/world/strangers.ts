/**
 * The processes that join and leave while cuts are taken: like any other, around the production machine, but a plan may
 * have been made without them, or all plans are (ADR 0008).
 *
 * Owns: when each is there, and who of them a plan names. Does not own: what they do (process-node.ts).
 */
import type { CutId } from '@stillpoint/core/kernel'
import { ProcessNode } from './process-node.ts'
import type { Stranger } from './scenario.ts'
import type { World } from './world.ts'

export class Strangers {
  readonly #world: World
  readonly #all: readonly Stranger[]
  readonly #names: ReadonlySet<string>
  /** The generation of each one's state: what it knew of an older one was undone. */
  readonly #generations = new Map<string, number>()
  #heldFor: CutId | null = null

  constructor(world: World) {
    this.#world = world
    this.#all = world.scenario.strangers
    this.#names = new Set(this.#all.map(({ name }) => name))
  }

  get names(): ReadonlySet<string> {
    return this.#names
  }

  /** Those who are there: joined, or about to. */
  there(): readonly string[] {
    if (this.#all.length === 0) return []
    return this.#all.map(({ name }) => name).filter((name) => this.#world.processNode(name).machine.isUp)
  }

  /** Those whom a plan that is made now names. */
  declared(): readonly string[] {
    if (this.#all.length === 0) return []
    const { links } = this.#world
    return this.#all.filter(({ name, isDeclared }) => isDeclared && links.isJoined(name)).map(({ name }) => name)
  }

  /** Puts them into their world, where none of them is there yet. */
  live(): void {
    const { timeline, processes } = this.#world
    for (const { name, stays } of this.#all) {
      const node = new ProcessNode(this.#world, name, { machine: this.#world.newMachine(name), balance: 0 })
      processes.set(name, node)
      node.machine.crash()
      for (const { fromMs, forMs } of stays) {
        timeline.at(fromMs, () => this.#come(node))
        if (forMs !== null) timeline.at(fromMs + forMs, () => this.#leave(node))
      }
    }
  }

  /** `holder` is told to hold. */
  holdOrdered(cut: CutId, holder: string): void {
    if (this.#all.length === 0 || this.#heldFor === cut || this.#names.has(holder)) return
    this.#heldFor = cut
    const { timeline, scenario } = this.#world
    for (const { name, afterHold } of this.#all) {
      const node = this.#world.processNode(name)
      const atMs = timeline.nowMs + (afterHold?.afterMs ?? 0)
      if (afterHold === null || node.machine.isUp || atMs >= scenario.healMs) continue
      timeline.at(atMs, () => this.#come(node, holder))
      timeline.at(Math.min(atMs + afterHold.forMs, scenario.healMs), () => this.#leave(node))
    }
  }

  #come(node: ProcessNode, greeted?: string): void {
    if (node.machine.isUp) return
    const { durable, ledger, links } = this.#world
    if (this.#generations.get(node.name) !== durable.generation) node.clock = ledger.zero()
    node.restart()
    this.#world.trace(node.name, () => 'comes')
    links.join(node.name)
    if (greeted !== undefined && node.isJoined) node.greet(greeted)
  }

  #leave(node: ProcessNode): void {
    if (!node.machine.isUp) return
    this.#world.trace(node.name, () => 'leaves')
    this.#generations.set(node.name, this.#world.durable.generation)
    this.#world.troubled()
    node.crash()
    this.#world.links.gone(node.name)
  }
}
