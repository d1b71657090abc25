/**
 * How long to wait before the next attempt: exponential, with full jitter above a floor, so that services that lost the
 * same server do not come back in step.
 */
import type { Random } from '@stillpoint/core/kernel'

export interface Backoff {
  /** Delay before the next attempt, milliseconds. */
  next(): number
  /** After a success: the next failure starts from the beginning. */
  reset(): void
}

export function exponentialBackoff(options: {
  readonly firstMs: number
  readonly lastMs: number
  readonly random: Random
}): Backoff {
  const { firstMs, lastMs, random } = options
  let attempt = 0
  return {
    next() {
      const ceilingMs = Math.min(lastMs, firstMs * 2 ** attempt)
      if (ceilingMs < lastMs) attempt += 1
      return ceilingMs / 2 + (ceilingMs / 2) * (random.uint32() / 2 ** 32)
    },
    reset() {
      attempt = 0
    },
  }
}
