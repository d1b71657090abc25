/** Writes down what really happens in a world, for the judges. The protocol never reads it. */
import type { Stamp } from '@stillpoint/core'
import { defined } from '@stillpoint/core/kernel'
import type { Event, Told, VectorClock } from '../checkers/truth.ts'

export class Ledger {
  readonly actors: readonly string[]
  readonly messages = new Map<string, Told>()
  /** What went wrong before any cut could show it: handled twice, or in another generation. */
  readonly findings: string[] = []
  tokens: number
  /** The stamps with which messages have left. */
  readonly #stamps: (readonly [Pick<Stamp, 'channel' | 'session' | 'seq'>, string])[] = []
  readonly #indexes: ReadonlyMap<string, number>
  #count = 0

  constructor(actors: readonly string[], tokens: number) {
    this.actors = actors
    this.tokens = tokens
    this.#indexes = new Map(actors.map((name, index) => [name, index]))
  }

  indexOf(name: string): number {
    return defined(this.#indexes.get(name), name)
  }

  zero(): VectorClock {
    return this.actors.map(() => 0)
  }

  sent(message: Pick<Told, 'amount' | 'from' | 'to' | 'sent'>): string {
    this.#count += 1
    const id = `m${this.#count}`
    this.messages.set(id, { id, received: [], lost: null, ...message })
    return id
  }

  /** A message has left with its stamp. */
  stamped(id: string, stamp: Pick<Stamp, 'channel' | 'session' | 'seq'>): void {
    this.#stamps.push([stamp, id])
  }

  /** The messages of these numbers, each as `channel session number`. */
  sentAs(numbers: Iterable<string>): ReadonlySet<string> {
    const wanted = new Set(numbers)
    const ids = new Set<string>()
    if (wanted.size === 0) return ids
    for (const [{ channel, session, seq }, id] of this.#stamps) {
      if (wanted.has(`${channel} ${session} ${seq}`)) ids.add(id)
    }
    return ids
  }

  received(id: string, event: Event): void {
    const told = this.messages.get(id)
    if (told === undefined) {
      this.findings.push(`${id} is handled in a generation that it is not of (C9)`)
      return
    }
    told.received.push(event)
    if (told.received.length > 1) this.findings.push(`${id} is handled ${told.received.length} times (C2)`)
  }

  /** What the network has lost is lost with its session, too, once that is over: then nothing can bring it any more. */
  lost(id: string, where: Event | 'network'): void {
    const told = this.messages.get(id)
    if (told === undefined || told.received.length > 0) return
    if (told.lost === null || told.lost === 'network') told.lost = where
  }

  isOpen(id: string): boolean {
    const told = this.messages.get(id)
    return told !== undefined && told.received.length === 0 && told.lost === null
  }

  /** A restore: nothing of the time before it is part of what is judged from here on. */
  restart(tokens: number): void {
    this.messages.clear()
    this.#stamps.length = 0
    this.tokens = tokens
  }

  amountOf(id: string): number {
    return defined(this.messages.get(id), id).amount
  }
}
