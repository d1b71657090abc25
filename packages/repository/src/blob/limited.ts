/**
 * Owns bandwidth limits: a `BlobStore` around another one that keeps within bytes per second, up and down, over all
 * operations of all stores that share a limit. Does not own how fast a single object is sent: an object goes at the
 * speed of the line, and the pause that pays for it comes before the next one.
 */
import { assert, type Clock } from '@stillpoint/core/kernel'
import type { BlobStore } from './blob-store.ts'
import { pause } from './retrying.ts'

/**
 * A token bucket that may go into debt: who takes waits until the debt of those before is paid, so that objects larger
 * than the bucket pass, and none starves. Over any span of t seconds at most rate · t + burst + one object pass.
 */
export interface RateLimit {
  /** Resolves when these bytes may pass. In the order of the calls. @throws the reason of the signal */
  take(bytes: number, signal?: AbortSignal): Promise<void>
}

export interface RateLimitOptions {
  readonly clock: Clock
  readonly bytesPerSecond: number
  /** What may pass at once after a rest. Default: a second's worth. */
  readonly burstBytes?: number
}

export function createRateLimit({ clock, bytesPerSecond, burstBytes = bytesPerSecond }: RateLimitOptions): RateLimit {
  assert(bytesPerSecond > 0 && burstBytes > 0, 'a rate is above 0')
  let tokens = burstBytes
  let filledMs = clock.monotonicMs()
  return {
    async take(bytes, signal) {
      signal?.throwIfAborted()
      const nowMs = clock.monotonicMs()
      tokens = Math.min(burstBytes, tokens + ((nowMs - filledMs) / 1000) * bytesPerSecond)
      filledMs = nowMs
      const debtBytes = -tokens
      // Taken at once, not after the pause: whoever comes next must wait for this one's bytes too.
      tokens -= bytes
      if (debtBytes > 0) {
        const waiting = signal === undefined ? { clock } : { clock, signal }
        await pause((debtBytes / bytesPerSecond) * 1000, waiting)
      }
    },
  }
}

export interface StoreLimits {
  readonly up?: RateLimit
  readonly down?: RateLimit
  readonly signal?: AbortSignal
}

export function limitedStore(store: BlobStore, { up, down, signal }: StoreLimits): BlobStore {
  return {
    ...store,
    async put(object, bytes) {
      await up?.take(bytes.length, signal)
      return store.put(object, bytes)
    },
    async get(object, range) {
      if (range !== undefined) {
        await down?.take(range.length, signal)
        return store.get(object, range)
      }
      // How long it is shows when it is there; who comes next pays.
      await down?.take(0, signal)
      const bytes = await store.get(object)
      await down?.take(bytes.length, signal)
      return bytes
    },
  }
}
