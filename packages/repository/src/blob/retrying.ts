/**
 * Owns repeating what failed for a while: a `BlobStore` around another one. This is the one place that retries storage.
 *
 * Invariants: 1. only failures that say `retry: 'later'` are repeated, at most `attemptsMax` times in all. 2. After an
 * attempt whose outcome is not known, what is found there counts as ours only if its content is what we were storing;
 * whether it is durable is the store's promise for all that it shows. 3. Pauses double, and half of each is chance, so
 * that many clients of a server that comes back do not come back together. 4. A list that failed half-way begins anew, for
 * no store says where one goes on; what was handed over before is left out then. So it has each object once, and, as
 * every list, may have what was deleted while it went on. To hold it back until it is whole would take memory for all.
 */
import { type Clock, isFailure, type Random } from '@stillpoint/core/kernel'
import type { BlobStore, ObjectKind, ObjectName, StoredObject } from './blob-store.ts'
import { createNameSet } from './name-set.ts'

export interface RetryOptions {
  readonly clock: Clock
  readonly random: Random
  /** The first one included. Default: 6. */
  readonly attemptsMax?: number
  /** Pause after the first failure. Default: 250 ms. */
  readonly pauseMs?: number
  /** No pause is longer. Default: 15 s. */
  readonly pauseMsMax?: number
  /** Ends pauses; its reason is thrown. */
  readonly signal?: AbortSignal
  /** Told of every failure that is going to be tried again. */
  readonly onRetry?: (retry: RetryNote) => void
}

export interface RetryNote {
  readonly doing: string
  /** How many attempts have failed. */
  readonly failures: number
  readonly pauseMs: number
  readonly error: unknown
}

export const defaultRetry = { attemptsMax: 6, pauseMs: 250, pauseMsMax: 15_000 } as const

export function retryingStore(store: BlobStore, options: RetryOptions): BlobStore {
  const again = <T>(doing: string, attempt: (failures: number) => Promise<T>) => repeat(options, doing, attempt)
  const at = (verb: string, object: ObjectName) => `${verb} ${store.locate(object)}`
  return {
    traits: store.traits,
    locate: (object) => store.locate(object),
    prepare: () => again('preparing', () => store.prepare()),
    put: (object, bytes) =>
      again(at('writing', object), async (failures) => {
        const outcome = await store.put(object, bytes)
        if (outcome === 'created' || failures === 0) return outcome
        // Invariant 2: an earlier attempt may have got through, and its answer been lost; or it was a rival's.
        return (await store.get(object)).equals(bytes) ? 'created' : 'exists'
      }),
    get: (object, range) => again(at('reading', object), () => store.get(object, range)),
    size: (object) => again(at('looking at', object), () => store.size(object)),
    list: (kind) => listAgain(store, kind, options),
    delete: (object) =>
      again(at('deleting', object), (failures) =>
        store.delete(object).catch((error: unknown) => {
          // An earlier attempt may have got through. Gone is what was asked for.
          if (failures === 0 || !isFailure(error, 'object_missing')) throw error
        }),
      ),
    sweep: () => again('sweeping', () => store.sweep()),
  }
}

async function repeat<T>(options: RetryOptions, doing: string, attempt: (failures: number) => Promise<T>): Promise<T> {
  for (let failures = 0; ; failures += 1) {
    options.signal?.throwIfAborted()
    try {
      return await attempt(failures)
    } catch (error) {
      await pauseOrGiveUp(options, { doing, failures: failures + 1, error })
    }
  }
}

/** Invariant 4. */
async function* listAgain(
  store: BlobStore,
  kind: ObjectKind,
  options: RetryOptions,
): AsyncGenerator<readonly StoredObject[]> {
  const handedOver = createNameSet()
  for (let failures = 0; ; failures += 1) {
    options.signal?.throwIfAborted()
    try {
      for await (const batch of store.list(kind)) yield batch.filter(({ name }) => handedOver.add(name))
      return
    } catch (error) {
      await pauseOrGiveUp(options, { doing: `listing every ${kind}`, failures: failures + 1, error })
    }
  }
}

/** @throws the error, where it is not to be tried again; the reason of the signal */
async function pauseOrGiveUp(options: RetryOptions, failed: Omit<RetryNote, 'pauseMs'>): Promise<void> {
  const { failures, error } = failed
  const attemptsMax = options.attemptsMax ?? defaultRetry.attemptsMax
  if (!isFailure(error) || error.retry === 'never' || failures >= attemptsMax) throw error
  const pauseMs = pauseAfter(failures, options)
  options.onRetry?.({ ...failed, pauseMs })
  await pause(pauseMs, options)
}

/** Doubling, half of it by chance ("equal jitter"; M. Brooker, "Exponential Backoff And Jitter", 2015). */
function pauseAfter(failures: number, options: RetryOptions): number {
  const firstMs = options.pauseMs ?? defaultRetry.pauseMs
  const fullMs = Math.min(firstMs * 2 ** (failures - 1), options.pauseMsMax ?? defaultRetry.pauseMsMax)
  return fullMs / 2 + (options.random.uint32() / 2 ** 32) * (fullMs / 2)
}

export interface Pausing {
  readonly clock: Clock
  readonly signal?: AbortSignal
}

/** @throws the reason of the signal */
export function pause(pauseMs: number, { clock, signal }: Pausing): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      cancel()
      reject(signal?.reason)
    }
    const cancel = clock.after(pauseMs, () => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    })
    if (signal?.aborted) onAbort()
    else signal?.addEventListener('abort', onAbort, { once: true })
  })
}
