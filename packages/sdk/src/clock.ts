/** The real clock, entropy's stand-in for decisions, and the waits that are built on a clock. */
import { randomInt } from 'node:crypto'
import type { Clock, Random } from '@stillpoint/core/kernel'

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, wake, { keepsAlive = true } = {}) {
    const timer = setTimeout(wake, Math.min(delayMs, timerMsMax))
    if (!keepsAlive) timer.unref()
    return () => clearTimeout(timer)
  },
}

/** Node fires a longer timer at once. Whoever waits longer looks at the clock again when woken. */
export const timerMsMax = 2 ** 31 - 1

export const systemRandom: Random = { uint32: () => randomInt(0, 2 ** 32) }

/** Resolves after `delayMs`, or rejects with the signal's reason. */
export function sleep(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const onAbort = (): void => {
      cancel()
      reject(signal.reason)
    }
    const cancel = clock.after(delayMs, () => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    })
    signal.addEventListener('abort', onAbort, { once: true })
  })
}
