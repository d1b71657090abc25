/**
 * One simulated machine: its clocks, which drift and jump, its pauses, and its lives. What it schedules waits while it
 * is paused and is gone when it crashes.
 */
import type { Clock } from '@stillpoint/core/kernel'
import type { Timeline } from './timeline.ts'

interface Timer {
  readonly dueMs: number
  readonly wake: () => void
  cancel: () => void
}

export class Machine implements Clock {
  readonly name: string
  readonly #timeline: Timeline
  readonly #timers = new Set<Timer>()
  #rate: number
  #offsetMs: number
  #pausedUntilMs = -1
  /** Counts lives: what belongs to an earlier one never happens. */
  life = 1
  wallOffsetMs = 0
  isUp = true

  constructor(name: string, timeline: Timeline, clock: { readonly rate: number; readonly offsetMs: number }) {
    this.name = name
    this.#timeline = timeline
    this.#rate = clock.rate
    this.#offsetMs = clock.offsetMs
  }

  monotonicMs(): number {
    return this.#offsetMs + this.#timeline.nowMs * this.#rate
  }

  wallMs(): number {
    return 1_700_000_000_000 + this.monotonicMs() + this.wallOffsetMs
  }

  after(delayMs: number, wake: () => void): () => void {
    const timer: Timer = { dueMs: this.monotonicMs() + delayMs, wake, cancel: () => {} }
    this.#timers.add(timer)
    this.#arm(timer)
    return () => {
      timer.cancel()
      this.#timers.delete(timer)
    }
  }

  /** Something from outside reaches this machine, unless it has crashed meanwhile; later, if it is paused. */
  reach(delayMs: number, happen: () => void): void {
    const { life } = this
    const arrive = (): void => {
      if (this.life !== life || !this.isUp) return
      if (this.#timeline.nowMs < this.#pausedUntilMs) this.#timeline.at(this.#pausedUntilMs, arrive)
      else happen()
    }
    this.#timeline.at(this.#timeline.nowMs + delayMs, arrive)
  }

  #arm(timer: Timer): void {
    const { life } = this
    const fire = (): void => {
      if (this.life !== life || !this.isUp) return
      if (this.#timeline.nowMs < this.#pausedUntilMs) {
        timer.cancel = this.#timeline.at(this.#pausedUntilMs, fire)
        return
      }
      this.#timers.delete(timer)
      timer.wake()
    }
    // A little later, so that its own clock has really come there when it wakes.
    const atMs = (timer.dueMs - this.#offsetMs) / this.#rate + 0.001
    timer.cancel = this.#timeline.at(atMs, fire)
  }

  /** Whether it has stood still at any time from then on. */
  hasPausedSince(atMs: number): boolean {
    return this.#pausedUntilMs >= atMs
  }

  pause(ms: number): void {
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, this.#timeline.nowMs + ms)
  }

  /** The monotonic clock never goes back: it jumps ahead, as after a suspension. */
  jump(ms: number): void {
    this.#offsetMs += ms
    for (const timer of this.#timers) {
      timer.cancel()
      this.#arm(timer)
    }
  }

  crash(): void {
    this.isUp = false
    this.life += 1
    for (const timer of this.#timers) timer.cancel()
    this.#timers.clear()
  }

  start(): void {
    this.isUp = true
    this.#pausedUntilMs = -1
  }
}
