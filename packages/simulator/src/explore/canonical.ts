/**
 * One string per state, equal for states that have the same future. Every object is written once, in terms of the
 * numbers of the objects in it (hash consing), so what two states share costs nothing: exact, without collisions, and
 * quick.
 *
 * What two states may differ in and still be one, each because nothing that moves or judges can tell:
 * - the order in which a map or set was filled;
 * - the order of neighbouring notes of one kind and different participants in the coordinator's list (`steps`): the
 *   verdict reads them as sets between one kind and the next (`checkOrder`), and the coordinator asks only whether one is
 *   there;
 * - the order of the coordinator's records: `recoverCut` looks for each by its kind and participant;
 * - whether it was the order or a *planned* sender's message that made a process enter, and which planned senders it
 *   heard while it was held: the verdict asks for senders outside the plan only (`strangersHeard`). In a world that has
 *   such a sender these fields are written;
 * - by what a drain was ended, which no rule reads;
 * - after the outcome, what the world knows of the truth: only the instant of a seal reads it.
 *
 * Which fields these are, the explorer says (`unread`); it is checked by exploring worlds with and without.
 */

import type { CoordinatorStep } from '@stillpoint/core'

/** Fields on which nothing depends in a world without processes outside the plan. */
export const fieldsOfStrangers = ['enteredBy', 'enteredFrom', 'heardWhileHeld', 'by', 'from'] as const
/** Fields on which nothing ever depends. */
export const fieldsUnread = ['endedBy'] as const
/** Fields on which nothing depends once an outcome is persisted: only a seal reads them, and none may follow. */
export const fieldsOfTruth = ['knows', 'balance', 'marked'] as const

/** Numbers for the parts of one exploration's worlds. Objects must never change once they have been seen. */
export class Canon {
  readonly #numbers = new Map<string, number>()
  readonly #known = new WeakMap<object, number>()
  readonly #unread: ReadonlySet<string>

  constructor(unread: readonly string[] = []) {
    this.#unread = new Set(unread)
  }

  /** @param parts always as many, in the same order */
  keyOf(parts: readonly unknown[]): string {
    const codes: number[] = []
    for (const part of parts) {
      const number = typeof part === 'object' && part !== null ? this.#number(part) : this.#intern(String(part))
      codes.push(number & 0x7fff, number >>> 15)
    }
    return String.fromCharCode(...codes)
  }

  #number(part: object): number {
    const known = this.#known.get(part)
    if (known !== undefined) return known
    const number = this.#intern(this.#write(part))
    this.#known.set(part, number)
    return number
  }

  #write(part: object): string {
    if (Array.isArray(part)) return `[${part.map((one) => this.#text(one)).join(',')}]`
    if (part instanceof Map) return `m${[...part].map(([key, one]) => `${String(key)}:${this.#text(one)}`).sort()}`
    if (part instanceof Set) return `s${[...part].map(String).sort()}`
    let text = '{'
    for (const [key, value] of Object.entries(part)) {
      if (this.#unread.has(key)) continue
      text += `${key}:${key === 'steps' ? this.#notes(value as Iterable<CoordinatorStep>) : this.#text(value)},`
    }
    return text
  }

  /** The coordinator's notes, by participant between one kind and the next. One participant's own keep their order. */
  #notes(notes: Iterable<CoordinatorStep>): string {
    const runs: CoordinatorStep[][] = []
    for (const note of notes) {
      const run = runs.at(-1)
      if (run?.[0]?.step === note.step) run.push(note)
      else runs.push([note])
    }
    const byName = (a: CoordinatorStep, b: CoordinatorStep): number =>
      a.participant < b.participant ? -1 : Number(a.participant > b.participant)
    return runs.map((run) => `(${run.sort(byName).map((note) => this.#text(note))})`).join('')
  }

  /** A list whose order says nothing. */
  unordered(list: readonly object[]): string {
    return list
      .map((one) => this.#text(one))
      .sort()
      .join(',')
  }

  #text(value: unknown): string {
    if (typeof value === 'object' && value !== null) return `#${this.#number(value)}`
    return typeof value === 'string' ? JSON.stringify(value) : String(value)
  }

  #intern(text: string): number {
    const known = this.#numbers.get(text)
    if (known !== undefined) return known
    this.#numbers.set(text, this.#numbers.size)
    return this.#numbers.size - 1
  }
}
