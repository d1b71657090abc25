/**
 * Owns giving the event loop its turn in loops of system calls, and of work that has all it needs in memory: signals, the
 * refreshing of locks and the answers of other threads wait for it.
 */
import { setImmediate } from 'node:timers/promises'
import type { Clock } from '@stillpoint/core/kernel'

export interface Turns {
  /** Whether the last turn was so long ago that one should be given now, by awaiting `give`. */
  readonly isDue: boolean
  give(): Promise<void>
}

/** @param turnMs shorter where other threads wait for what this one has for them */
export function createTurns(clock: Clock, turnMs = 20): Turns {
  let lastMs = clock.monotonicMs()
  return {
    get isDue() {
      return clock.monotonicMs() - lastMs >= turnMs
    },
    async give() {
      await setImmediate()
      lastMs = clock.monotonicMs()
    },
  }
}
