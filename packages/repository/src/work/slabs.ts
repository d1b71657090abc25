/**
 * Owns memory that threads share, taken and given back many times: fresh memory costs page faults, and a bounded number
 * of slabs is what bounds a pipeline's memory (who finds none waits: that is the back-pressure).
 */
import { assert } from '@stillpoint/core/kernel'

export interface Slab {
  /** Shared memory; its content is what the last user left. */
  readonly bytes: Buffer<SharedArrayBuffer>
  /** Gives it back, once. */
  release(): void
}

export interface Slabs {
  readonly slabBytes: number
  /** Those that are taken at this time. */
  readonly taken: number
  /** The next free one, first come, first served. @throws the signal's reason */
  take(signal?: AbortSignal): Promise<Slab>
  /** One without waiting, or undefined. */
  tryTake(): Slab | undefined
}

export function createSlabs(sizes: { readonly slabBytes: number; readonly slabsMax: number }): Slabs {
  const { slabBytes, slabsMax } = sizes
  // Last in, first out: what was used last is in the caches, and slabs beyond what is needed are never touched.
  const free: Buffer<SharedArrayBuffer>[] = []
  const waiting: ((slab: Slab) => void)[] = []
  let made = 0
  let taken = 0

  function handOut(bytes: Buffer<SharedArrayBuffer>): Slab {
    taken += 1
    let isReleased = false
    return {
      bytes,
      release() {
        assert(!isReleased, 'a slab is given back once')
        isReleased = true
        taken -= 1
        const next = waiting.shift()
        if (next === undefined) free.push(bytes)
        else next(handOut(bytes))
      },
    }
  }

  function tryTake(): Slab | undefined {
    const bytes = free.pop()
    if (bytes !== undefined) return handOut(bytes)
    if (made === slabsMax) return undefined
    made += 1
    return handOut(Buffer.from(new SharedArrayBuffer(slabBytes)))
  }

  async function take(signal?: AbortSignal): Promise<Slab> {
    signal?.throwIfAborted()
    const slab = tryTake()
    if (slab !== undefined) return slab
    const given = Promise.withResolvers<Slab>()
    const abort = () => {
      waiting.splice(waiting.indexOf(given.resolve), 1)
      given.reject(signal?.reason)
    }
    waiting.push(given.resolve)
    signal?.addEventListener('abort', abort, { once: true })
    try {
      return await given.promise
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }

  return {
    slabBytes,
    get taken() {
      return taken
    },
    take,
    tryTake,
  }
}
