/**
 * A store that lies, once, at each call that an operation makes: it stores nothing or half and says "stored", deletes
 * nothing and says "deleted", lists late or what was there before, answers the wrong bytes, times out.
 * Whatever it does: what was there stays whole, and the operation ends well or with a `Failure`.
 */
import { join } from 'node:path'
import { Failure, isFailure } from '@stillpoint/core/kernel'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type BlobStore, listAll, type StoredObject } from '../blob/blob-store.ts'
import { failedChecks } from '../blob/conformance.ts'
import { type MemoryObjects, openMemoryStore } from '../blob/memory-store.ts'
import { type Before, before, lostSince, problemsOf, wrongAfterSecondRun } from './judge.ts'
import {
  copyPlace,
  makeTemplate,
  objectsAt,
  operationNames,
  type Place,
  prepareFor,
  runOperation,
} from './operations.ts'
import { fastScratch, type ScratchPlace } from './places.ts'

const lies = [
  'storesNothing',
  'storesHalf',
  'deletesNothing',
  'listsLate',
  'listsWhatWas',
  'cutsShort',
  'wrongRange',
  'flips',
  'timesOut',
  'answerLost',
] as const
type Lie = (typeof lies)[number]

const callOf: Readonly<Record<Lie, readonly string[]>> = {
  storesNothing: ['put'],
  storesHalf: ['put'],
  deletesNothing: ['delete'],
  listsLate: ['list'],
  listsWhatWas: ['list'],
  cutsShort: ['get'],
  wrongRange: ['get'],
  flips: ['get'],
  timesOut: ['put', 'get', 'list', 'delete', 'size'],
  answerLost: ['put', 'delete'],
}

interface LyingStore {
  readonly store: BlobStore
  /** Calls in which it could have lied. */
  readonly count: () => number
}

const timedOut = () => new Failure({ code: 'storage_failed', message: 'it did not answer in time', retry: 'later' })

/** Lies in the call of that number, from 1; `listsLate` and `listsWhatWas` in all from there on. */
function lyingStore(objects: MemoryObjects, lie: Lie, at: number): LyingStore {
  const store = openMemoryStore(objects)
  const first = new Map([...objects].map(([key, bytes]) => [key, bytes.length]))
  let last = ''
  let count = 0
  const lieNow = (call: string) => {
    if (!callOf[lie].includes(call)) return false
    count += 1
    return lie === 'listsLate' || lie === 'listsWhatWas' ? count >= at : count === at
  }
  async function around<T>(call: string, honest: () => Promise<T>, lying: () => Promise<T>): Promise<T> {
    if (!lieNow(call)) return honest()
    if (lie === 'timesOut') throw timedOut()
    const answer = await lying()
    if (lie === 'answerLost') throw timedOut()
    return answer
  }
  const lying: BlobStore = {
    ...store,
    put: (object, bytes) => {
      last = object.name
      const stored = { storesNothing: undefined, storesHalf: bytes.subarray(0, bytes.length / 2) }
      const instead = lie in stored ? (lie === 'storesHalf' ? stored.storesHalf : undefined) : bytes
      const honest = () => store.put(object, bytes)
      return around('put', honest, async () => (instead === undefined ? 'created' : store.put(object, instead)))
    },
    delete: (object) =>
      around(
        'delete',
        () => store.delete(object),
        async () => {
          if (lie !== 'deletesNothing') await store.delete(object)
        },
      ),
    async *list(kind) {
      const late = async () => (await listAll(store, kind)).filter(({ name }) => name !== last)
      const was = async (): Promise<StoredObject[]> =>
        [...first]
          .filter(([key]) => key.startsWith(`${kind}/`))
          .map(([key, bytes]) => ({ name: key.slice(kind.length + 1), bytes }))
      yield await around('list', () => listAll(store, kind), lie === 'listsWhatWas' ? was : late)
    },
    get: (object, range) =>
      around(
        'get',
        () => store.get(object, range),
        async () => {
          const bytes = await store.get(
            object,
            lie === 'wrongRange' && range !== undefined ? { ...range, offset: Math.max(0, range.offset - 1) } : range,
          )
          if (lie === 'cutsShort') return Buffer.from(bytes.subarray(0, bytes.length / 2))
          if (lie === 'wrongRange' && range === undefined)
            return Buffer.concat([bytes.subarray(1), bytes.subarray(0, 1)])
          if (lie === 'flips') bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 8
          return bytes
        },
      ),
    size: (object) =>
      around(
        'size',
        () => store.size(object),
        () => store.size(object),
      ),
  }
  return { store: lying, count: () => count }
}

let scratch: ScratchPlace
let plain: Place
beforeAll(async () => {
  scratch = await fastScratch()
  plain = await makeTemplate(join(scratch.path, 'template'))
})
afterAll(() => scratch[Symbol.asyncDispose]())

interface Trial {
  readonly given: Before
  readonly start: MemoryObjects
  readonly place: Place
  readonly lie: Lie
  readonly at: number
}

interface Tried {
  readonly end: 'no lie' | 'refused' | 'done'
  readonly wrong: readonly string[]
}

async function tried({ given, start, place, lie, at }: Trial): Promise<Tried> {
  const objects: MemoryObjects = new Map(start)
  const { store, count } = lyingStore(objects, lie, at)
  const wrong: string[] = []
  let isRefused = false
  try {
    await runOperation(given.name, { place, store })
  } catch (error) {
    isRefused = true
    if (!isFailure(error)) wrong.push(`it crashed: ${error instanceof Error ? error.stack : String(error)}`)
  }
  if (count() < at) return { end: 'no lie', wrong }
  const truth = openMemoryStore(objects)
  wrong.push(...(await judged(() => lostSince(given, truth))))
  // Where it said that all went well, a second run must not have had to mend anything; what was not deleted it deletes.
  if (!isRefused && lie !== 'deletesNothing') wrong.push(...(await judged(() => problemsOf(given, truth))))
  wrong.push(...(await judged(() => wrongAfterSecondRun(given, place, truth))))
  if (isRefused) return { end: 'refused', wrong }
  return { end: 'done', wrong }
}

async function judged(judge: () => Promise<readonly string[]>): Promise<readonly string[]> {
  try {
    return await judge()
  } catch (error) {
    return [error instanceof Error ? (error.stack ?? error.message) : String(error)]
  }
}

describe.each(lies)('a store that lies once: %s', (lie) => {
  const ends = { 'no lie': 0, refused: 0, done: 0 }

  test.each(operationNames)('%s loses nothing', async (name) => {
    const from = copyPlace(plain, join(scratch.path, name))
    await prepareFor(name, from)
    const start = objectsAt(from.repository)
    const finished = new Map(start)
    await runOperation(name, { place: from, store: openMemoryStore(finished) })
    const given = await before(name, openMemoryStore(start), openMemoryStore(finished))
    const allWrong: string[] = []
    for (let at = 1; allWrong.length < 5; at += 1) {
      const { end, wrong } = await tried({ given, start, place: from, lie, at })
      ends[end] += 1
      allWrong.push(...wrong.map((text) => `call ${at}: ${text}`))
      if (end === 'no lie') break
    }
    expect(allWrong).toEqual([])
  })

  test('counts', () => {
    const { refused, done } = ends
    console.log(`${lie}: ${refused + done} calls: ${refused} refused, ${done} without harm`)
    expect(refused + done).toBeGreaterThan(10)
  })

  test('the conformance suite finds it', async () => {
    const found = await failedChecks(async () => {
      const objects: MemoryObjects = new Map()
      const open = async () => {
        const { store } = lyingStore(objects, lie, 1)
        return store
      }
      return { store: await open(), reopen: open, dispose: async () => {} }
    })
    expect(found).not.toEqual([])
  })
})
