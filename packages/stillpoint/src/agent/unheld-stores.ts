/**
 * Stores whose writers nobody can hold (a directory without hooks), marked at one instant all the same: while every
 * other store and process of the cut is held, they only have to be seen standing still.
 *
 * Why it is right. Held participants do not change between the last hold acknowledged and the first `resume`, and all
 * marks are taken in between (C3, C4). One unheld store whose mark is exact at an instant t of that window makes the cut
 * a cut at t. Several unheld stores need a common t: each is marked, all wait for each other, each is marked again; equal
 * positions before and after the meeting show that each was as marked at the instant of the meeting (the double collect
 * of Afek et al., "Atomic Snapshots of Shared Memory", JACM 40(4), 1993).
 *
 * Owns: this argument, and the answers to `quiesce` and `resume` that follow from it. Does not own: whether a mark is
 * exact; the source says so in its caveats, and a caveat bars the verdict `consistent`.
 */
import { type Clock, type CutId, Failure, type ParticipantName } from '@stillpoint/core/kernel'
import type { CaptureReport, CaptureSink, Hold, HoldReport, Mark, SourceSession } from '../sources/source.ts'

export class UnheldStores {
  readonly #clock: Clock
  readonly #names = new Set<ParticipantName>()
  readonly #met = Promise.withResolvers<void>()
  readonly #arrived = new Set<ParticipantName>()

  constructor(clock: Clock) {
    this.#clock = clock
    // Rejected for those who wait; nobody may be waiting.
    this.#met.promise.catch(() => undefined)
  }

  /** Before any mark of the cut. A session that can hold is answered as it is. */
  join(name: ParticipantName, session: SourceSession): SourceSession {
    if (session.traits.hold === 'writes') return session
    this.#names.add(name)
    return new UnheldSession(this, { name, session, clock: this.#clock })
  }

  isAlone(): boolean {
    return this.#names.size === 1
  }

  /** Answers when all unheld stores of the cut have been marked once. */
  async meet(name: ParticipantName, signal: AbortSignal): Promise<void> {
    this.#arrived.add(name)
    if (this.#arrived.size === this.#names.size) this.#met.resolve()
    const onAbort = () => this.#met.reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      signal.throwIfAborted()
      await this.#met.promise
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** One that could not be marked ends the attempt: the others need not wait for it. */
  giveUp(reason: unknown): void {
    this.#met.reject(reason)
  }
}

interface UnheldOptions {
  readonly name: ParticipantName
  readonly session: SourceSession
  readonly clock: Clock
}

class UnheldSession implements SourceSession {
  readonly traits: SourceSession['traits']
  readonly #stores: UnheldStores
  readonly #name: ParticipantName
  readonly #session: SourceSession
  readonly #clock: Clock
  #mark: Promise<Mark> | undefined
  #isMarked = false

  constructor(stores: UnheldStores, { name, session, clock }: UnheldOptions) {
    this.#stores = stores
    this.#name = name
    this.#session = session
    this.#clock = clock
    this.traits = session.traits
  }

  /** Nobody is held. What is acknowledged is that the lease's time has begun, in which the mark must be taken. */
  async quiesce(cut: CutId, leaseMs: number, signal: AbortSignal): Promise<Hold> {
    signal.throwIfAborted()
    return { cut, endsAtMs: this.#clock.monotonicMs() + leaseMs }
  }

  mark(cut: CutId, signal: AbortSignal): Promise<Mark> {
    this.#mark ??= this.#markStill(cut, signal)
    return this.#mark
  }

  async resume(): Promise<HoldReport> {
    return this.#isMarked
      ? { unbroken: true }
      : { unbroken: false, detail: 'it was not marked while the others were held' }
  }

  async capture(cut: CutId, sink: CaptureSink, signal: AbortSignal): Promise<CaptureReport> {
    const report = await this.#session.capture(cut, sink, signal)
    return {
      ...report,
      notes: [...report.notes, 'its writers were not held: it stood still at the instant of the mark'],
    }
  }

  prepare(cut: CutId, signal: AbortSignal) {
    return this.#session.prepare(cut, signal)
  }

  async release(cut: CutId): Promise<void> {
    await this.#session.release(again(cut))
    await this.#session.release(cut)
  }

  checkTarget(...parameters: Parameters<SourceSession['checkTarget']>) {
    return this.#session.checkTarget(...parameters)
  }

  restore(...parameters: Parameters<SourceSession['restore']>) {
    return this.#session.restore(...parameters)
  }

  verify(...parameters: Parameters<SourceSession['verify']>) {
    return this.#session.verify(...parameters)
  }

  close(): Promise<void> {
    return this.#session.close()
  }

  async #markStill(cut: CutId, signal: AbortSignal): Promise<Mark> {
    try {
      const mark = await this.#session.mark(cut, signal)
      if (!this.#stores.isAlone()) {
        await this.#stores.meet(this.#name, signal)
        const second = await this.#session.mark(again(cut), signal)
        await this.#session.release(again(cut))
        if (!samePosition(mark, second)) throw movedOn(this.#name)
      }
      this.#isMarked = true
      return mark
    } catch (error) {
      this.#stores.giveUp(error)
      throw error
    }
  }
}

/** A source's marks are idempotent per cut: the second one of a double collect has an id of its own. */
function again(cut: CutId): CutId {
  return `${cut}-again` as CutId
}

function samePosition(one: Mark, other: Mark): boolean {
  const keys = new Set([...Object.keys(one.position), ...Object.keys(other.position)])
  return [...keys].every((key) => one.position[key] === other.position[key])
}

function movedOn(name: ParticipantName): Failure {
  return new Failure({
    code: 'hold_unavailable',
    message: `"${name}" changed while the other stores that cannot be held were marked`,
    hint: 'Give it commands that stop and resume its writers, or take the snapshot when it is quiet.',
    retry: 'later',
  })
}
