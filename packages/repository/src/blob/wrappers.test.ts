/** Retry, limits and fault injection, on stores in memory and on a clock that the tests turn. */
import { type Clock, Failure, isFailure } from '@stillpoint/core/kernel'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { sha256 } from '../format/ids.ts'
import { seeded } from '../testing/world.ts'
import { type BlobStore, configObject, listAll, type ObjectName } from './blob-store.ts'
import { describeBlobStore, failedChecks, type StoreUnderTest } from './conformance.ts'
import { type FaultKind, faultyStore, type InjectedFault, type StoreOperation } from './faulty.ts'
import { createRateLimit, limitedStore } from './limited.ts'
import { type MemoryObjects, openMemoryStore } from './memory-store.ts'
import { type RetryNote, retryingStore } from './retrying.ts'

/** A clock on which every pause ends at once, and time has passed. */
function quickClock(): Clock & { readonly pauses: number[] } {
  let nowMs = 0
  const pauses: number[] = []
  return {
    pauses,
    monotonicMs: () => nowMs,
    wallMs: () => nowMs,
    after(delayMs, wake) {
      let isCancelled = false
      pauses.push(delayMs)
      const atMs = nowMs + delayMs
      queueMicrotask(() => {
        if (isCancelled) return
        nowMs = Math.max(nowMs, atMs)
        wake()
      })
      return () => {
        isCancelled = true
      }
    },
  }
}

const object = (text: string): ObjectName => ({ kind: 'pack', name: sha256(Buffer.from(text)) })
const later = () => new Failure({ code: 'storage_failed', message: 'not now', retry: 'later' })

/** A store of which the first `count` calls of `put` fail, before or after they were carried out. */
function failingPuts(
  store: BlobStore,
  count: number,
  when: 'before' | 'after',
  error: () => Failure = later,
): BlobStore {
  let left = count
  return {
    ...store,
    async put(name, bytes) {
      const fails = left > 0
      left -= 1
      if (fails && when === 'before') throw error()
      const outcome = await store.put(name, bytes)
      if (fails) throw error()
      return outcome
    },
  }
}

describe('retrying', () => {
  const around = (store: BlobStore, more: { readonly attemptsMax?: number; readonly signal?: AbortSignal } = {}) => {
    const clock = quickClock()
    const notes: RetryNote[] = []
    const random = seeded(7)
    return {
      clock,
      notes,
      store: retryingStore(store, { clock, random, onRetry: (note) => notes.push(note), ...more }),
    }
  }

  test('a put that fails for a while succeeds, after pauses that double', async () => {
    const { store, clock, notes } = around(failingPuts(openMemoryStore(), 4, 'before'))
    expect(await store.put(object('a'), Buffer.from('a'))).toBe('created')
    expect(notes.map(({ failures }) => failures)).toEqual([1, 2, 3, 4])
    for (const [at, pauseMs] of clock.pauses.entries()) {
      expect(pauseMs).toBeGreaterThanOrEqual(125 * 2 ** at)
      expect(pauseMs).toBeLessThan(250 * 2 ** at)
    }
  })

  test('no pause is longer than the longest', async () => {
    const { store, clock } = around(failingPuts(openMemoryStore(), 11, 'before'), { attemptsMax: 12 })
    await store.put(object('a'), Buffer.from('a'))
    expect(Math.max(...clock.pauses)).toBeLessThanOrEqual(15_000)
  })

  test('it gives up after so many attempts, with the last failure', async () => {
    const { store, notes } = around(failingPuts(openMemoryStore(), 100, 'before'), { attemptsMax: 3 })
    await expect(store.put(object('a'), Buffer.from('a'))).rejects.toMatchObject({ code: 'storage_failed' })
    expect(notes).toHaveLength(2)
  })

  test('what would fail again is not tried again', async () => {
    const denied = () => new Failure({ code: 'storage_denied', message: 'no' })
    const { store, notes } = around(failingPuts(openMemoryStore(), 1, 'before', denied))
    await expect(store.put(object('a'), Buffer.from('a'))).rejects.toMatchObject({ code: 'storage_denied' })
    expect(notes).toEqual([])
  })

  test('our own defects are not tried again', async () => {
    const broken = { ...openMemoryStore(), get: () => Promise.reject(new TypeError('a defect')) }
    const { store, notes } = around(broken)
    await expect(store.get(object('a'))).rejects.toThrow(TypeError)
    expect(notes).toEqual([])
  })

  test('a put whose answer was lost is ours: created', async () => {
    const { store } = around(failingPuts(openMemoryStore(), 1, 'after'))
    expect(await store.put(object('a'), Buffer.from('a'))).toBe('created')
  })

  test("a rival's object is not taken for ours: exists", async () => {
    const objects: MemoryObjects = new Map()
    const inner = openMemoryStore(objects)
    let attempts = 0
    const raced: BlobStore = {
      ...inner,
      async put(name, bytes) {
        attempts += 1
        if (attempts > 1) return inner.put(name, bytes)
        await inner.put(name, Buffer.from('of the rival'))
        throw later()
      },
    }
    const { store } = around(raced)
    expect(await store.put(configObject, Buffer.from('ours'))).toBe('exists')
    expect(await store.get(configObject)).toEqual(Buffer.from('of the rival'))
  })

  test('a delete whose answer was lost has deleted; one of what never was there has not', async () => {
    const inner = openMemoryStore()
    await inner.put(object('a'), Buffer.from('a'))
    const lossy = faultyStore(inner, { random: seeded(1), rates: { answerLost: 1 } })
    const { store } = around(lossy)
    await store.delete(object('a'))
    expect(await inner.size(object('a'))).toBeUndefined()
    await expect(store.delete(object('b'))).rejects.toMatchObject({ code: 'object_missing' })
  })

  describe('a list', () => {
    const texts = Array.from({ length: 10 }, (_, at) => `${at}`)
    const names = texts.map((text) => object(text).name).sort()

    /** Lists of ten objects, of which each fails as soon as it has handed over so many batches as its number says. */
    async function failingLists(
      batches: readonly number[],
      error: () => Failure = later,
      more: Parameters<typeof around>[1] = {},
    ) {
      const inner = openMemoryStore()
      for (const text of texts) await inner.put(object(text), Buffer.from(text))
      let turn = 0
      const failing: BlobStore = {
        ...inner,
        async *list(kind) {
          const batchesMax = batches[turn] ?? Number.POSITIVE_INFINITY
          turn += 1
          let handedOver = 0
          for await (const batch of inner.list(kind)) {
            if (handedOver === batchesMax) throw error()
            handedOver += 1
            yield batch
          }
        },
      }
      return { inner, turns: () => turn, ...around(failing, more) }
    }

    test('that fails half-way begins anew, and has each object once', async () => {
      const { store, notes, turns } = await failingLists([0, 1, 3, 2])
      const listed = await listAll(store, 'pack')
      expect(listed.map(({ name }) => name).sort()).toEqual(names)
      expect([turns(), notes.length]).toEqual([5, 4])
    })

    test('is not held back until it is whole', async () => {
      const { store, turns } = await failingLists([2])
      const seen: number[] = []
      for await (const batch of store.list('pack')) for (const _ of batch) seen.push(turns())
      expect(seen).toEqual([1, 1, 1, 1, 1, 1, 2, 2, 2, 2])
    })

    test('has what was deleted or stored between its attempts, or has it not, but nothing else and nothing twice', async () => {
      const { store, inner } = await failingLists([2])
      const seen: string[] = []
      for await (const batch of store.list('pack')) {
        seen.push(...batch.map(({ name }) => name))
        if (seen.length !== 3) continue
        for (const name of seen) await inner.delete({ kind: 'pack', name })
        await inner.put(object('new'), Buffer.from('new'))
      }
      expect(seen.sort()).toEqual([...names, object('new').name].sort())
    })

    test('that goes on failing fails after so many attempts', async () => {
      const { store, turns } = await failingLists([1, 1, 1, 1], later, { attemptsMax: 3 })
      await expect(listAll(store, 'pack')).rejects.toMatchObject({ code: 'storage_failed', message: 'not now' })
      expect(turns()).toBe(3)
    })

    test('that would fail again is not tried again', async () => {
      const { store, turns } = await failingLists([1], () => new Failure({ code: 'storage_denied', message: 'no' }))
      await expect(listAll(store, 'pack')).rejects.toMatchObject({ code: 'storage_denied' })
      expect(turns()).toBe(1)
    })

    test('is not tried again where its taker fails', async () => {
      const { store, turns } = await failingLists([])
      const cause = later()
      const taking = async () => {
        for await (const _ of store.list('pack')) throw cause
      }
      await expect(taking()).rejects.toBe(cause)
      expect(turns()).toBe(1)
    })

    test('ends its pause with an abort', async () => {
      const cause = new Failure({ code: 'interrupted', message: 'stop' })
      const abort = new AbortController()
      const { inner } = await failingLists([])
      const failing: BlobStore = {
        ...inner,
        async *list(kind) {
          yield* inner.list(kind)
          throw later()
        },
      }
      const never: Clock = { monotonicMs: () => 0, wallMs: () => 0, after: () => () => {} }
      const options = { clock: never, random: seeded(1), signal: abort.signal, onRetry: () => abort.abort(cause) }
      await expect(listAll(retryingStore(failing, options), 'pack')).rejects.toBe(cause)
    })
  })

  test('an abort ends the pause', async () => {
    const cause = new Failure({ code: 'interrupted', message: 'stop' })
    const abort = new AbortController()
    const never: Clock = { monotonicMs: () => 0, wallMs: () => 0, after: () => () => {} }
    const options = { clock: never, random: seeded(1), signal: abort.signal, onRetry: () => abort.abort(cause) }
    const store = retryingStore(failingPuts(openMemoryStore(), 1, 'before'), options)
    await expect(store.put(object('a'), Buffer.from('a'))).rejects.toBe(cause)
  })
})

describe('a retrying store over one that fails by chance conforms', () => {
  let seed = 0
  async function stormy(): Promise<StoreUnderTest> {
    const objects: MemoryObjects = new Map()
    seed += 1
    const random = seeded(seed)
    // That a delete failed and the next one finds nothing may mean that it was done: then it counts as done.
    const spares = (operation: StoreOperation, what: ObjectName | undefined) =>
      operation === 'delete' && what !== undefined && !objects.has(`${what.kind}/${what.name}`)
    const open = async () => {
      const rates = { refused: 0.25, answerLost: 0.25 }
      const faulty = faultyStore(openMemoryStore(objects), { random, rates, spares })
      return retryingStore(faulty, { clock: quickClock(), random, attemptsMax: 40 })
    }
    return { store: await open(), reopen: open, dispose: async () => {} }
  }
  describeBlobStore({ test }, stormy)

  test('for many seeds', async () => {
    const wrong: Record<number, readonly string[]> = {}
    for (let round = 0; round < 30; round += 1) {
      const first = seed + 1
      const failed = await failedChecks(stormy)
      if (failed.length > 0) wrong[first] = failed
    }
    expect(wrong).toEqual({})
  })
})

describe('faulty', () => {
  test.each<FaultKind>(['bitFlipped', 'cutShort', 'lied', 'listedLate'])(
    'the suite finds a store that is silently wrong: %s',
    async (fault) => {
      const found = await failedChecks(async () => {
        const objects: MemoryObjects = new Map()
        const random = seeded(3)
        const open = async () => faultyStore(openMemoryStore(objects), { random, rates: { [fault]: 1 } })
        return { store: await open(), reopen: open, dispose: async () => {} }
      })
      expect(found).not.toEqual([])
    },
  )

  test('a seed is a run', async () => {
    const runOf = async (seed: number) => {
      const faults: InjectedFault[] = []
      const options = {
        random: seeded(seed),
        rates: { refused: 0.5 },
        onFault: (fault: InjectedFault) => void faults.push(fault),
      }
      const store = faultyStore(openMemoryStore(), options)
      for (let at = 0; at < 50; at += 1) {
        await store.put(object(`${at}`), Buffer.from(`${at}`)).catch((error: unknown) => {
          if (!isFailure(error, 'storage_failed')) throw error
        })
      }
      return faults
    }
    expect(await runOf(5)).toEqual(await runOf(5))
    expect(await runOf(5)).not.toEqual(await runOf(6))
  })

  test('the beginning of a list whose answer is lost is handed over', async () => {
    const inner = openMemoryStore()
    for (let at = 0; at < 5; at += 1) await inner.put(object(`${at}`), Buffer.from(`${at}`))
    const store = faultyStore(inner, { random: seeded(1), rates: { answerLost: 1 } })
    const seen: string[] = []
    const listing = async () => {
      for await (const batch of store.list('pack')) seen.push(...batch.map(({ name }) => name))
    }
    await expect(listing()).rejects.toMatchObject({ code: 'storage_failed', retry: 'later' })
    expect(seen).toHaveLength(2)
  })

  test('spared operations have no faults', async () => {
    const store = faultyStore(openMemoryStore(), {
      random: seeded(1),
      rates: { refused: 1 },
      spares: (what) => what === 'put',
    })
    expect(await store.put(object('a'), Buffer.from('a'))).toBe('created')
    await expect(store.get(object('a'))).rejects.toMatchObject({ code: 'storage_failed' })
  })
})

describe('limits', () => {
  test('bytes per second are kept, whatever the sizes', async () => {
    const sizes = fc.array(fc.integer({ min: 0, max: 5_000 }), { minLength: 1, maxLength: 40 })
    await fc.assert(
      fc.asyncProperty(sizes, fc.integer({ min: 1, max: 2_000 }), async (bytes, bytesPerSecond) => {
        const clock = quickClock()
        const limit = createRateLimit({ clock, bytesPerSecond, burstBytes: 1_000 })
        let passed = 0
        for (const size of bytes) {
          await limit.take(size)
          passed += size
          const allowed = (clock.monotonicMs() / 1000) * bytesPerSecond + 1_000 + size
          expect(passed).toBeLessThanOrEqual(allowed + 1e-6)
        }
        // And no slower: a limit that never lets anything through would keep it too.
        expect((clock.monotonicMs() / 1000) * bytesPerSecond).toBeLessThanOrEqual(passed + 1e-6)
      }),
    )
  })

  test('concurrent takers share one limit', async () => {
    const clock = quickClock()
    const limit = createRateLimit({ clock, bytesPerSecond: 1_000 })
    await Promise.all(Array.from({ length: 11 }, () => limit.take(1_000)))
    expect(Math.max(...clock.pauses)).toBeCloseTo(9_000)
  })

  test('a limited store conforms, and is limited in both directions', async () => {
    const clock = quickClock()
    const objects: MemoryObjects = new Map()
    const up = createRateLimit({ clock, bytesPerSecond: 1e6 })
    const down = createRateLimit({ clock, bytesPerSecond: 1e6 })
    const open = async () => limitedStore(openMemoryStore(objects), { up, down })
    expect(
      await failedChecks(async () => {
        objects.clear()
        return { store: await open(), reopen: open, dispose: async () => {} }
      }),
    ).toEqual([])
    const store = await open()
    const bytes = Buffer.alloc(3_000_000)
    const startMs = clock.monotonicMs()
    for (let at = 0; at < 3; at += 1) await store.put({ kind: 'pack', name: sha256(Buffer.from(`${at}`)) }, bytes)
    expect(clock.monotonicMs() - startMs).toBeGreaterThan(4_900)
    const readMs = clock.monotonicMs()
    for (let at = 0; at < 3; at += 1) await store.get({ kind: 'pack', name: sha256(Buffer.from(`${at}`)) })
    expect(clock.monotonicMs() - readMs).toBeGreaterThan(4_900)
  })

  test('an abort ends the wait', async () => {
    const cause = new Failure({ code: 'interrupted', message: 'stop' })
    const abort = new AbortController()
    const never: Clock = { monotonicMs: () => 0, wallMs: () => 0, after: () => () => {} }
    const limit = createRateLimit({ clock: never, bytesPerSecond: 1 })
    await limit.take(100)
    const waiting = limit.take(1, abort.signal)
    abort.abort(cause)
    await expect(waiting).rejects.toBe(cause)
  })
})
