/**
 * Every step at which an operation writes to the disk fails once: the disk is full, it answers EIO (after which fsync
 * has lost the pages), the process dies, the power is cut. Enumerated, not sampled.
 */
import { mkdirSync } from 'node:fs'
import fileSystem from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { isFailure } from '@stillpoint/core/kernel'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BlobStore } from '../blob/blob-store.ts'
import { openLocalStore } from '../blob/local-store.ts'
import { openMemoryStore } from '../blob/memory-store.ts'
import { type Accident, mountDisk, type Step } from './disk.ts'
import { type Before, before, lostSince, wrongAfterSecondRun } from './judge.ts'
import {
  copyPlace,
  makeTemplate,
  type OperationName,
  objectsAt,
  operationNames,
  type Place,
  prepareFor,
  runOperation,
} from './operations.ts'
import { fastScratch, type ScratchPlace } from './places.ts'
import { canRestic, resticFinds } from './restic.ts'

const accidents: Readonly<Record<string, Accident>> = {
  'a full disk': { kind: 'error', errno: 'ENOSPC' },
  EIO: { kind: 'error', errno: 'EIO' },
  death: { kind: 'death' },
  'a power cut': { kind: 'powerCut' },
}
const sampleEvery = 10
/** Begins with damage: restic has something to say before the repair has ended. */
const repairs = new Set<OperationName>(['repairIndex', 'repairPacks', 'repairSnapshots'])

let scratch: ScratchPlace
let plain: Place
beforeAll(async () => {
  scratch = await fastScratch()
  plain = await makeTemplate(join(scratch.path, 'template'))
})
afterAll(() => scratch[Symbol.asyncDispose]())

interface Trial {
  readonly given: Before
  readonly from: Place
  readonly accident: Accident
  readonly at: number
  /** Default: the local backend. */
  readonly open?: (path: string) => BlobStore
}

/** The step at which it happened, and what was wrong then. */
async function tried({ given, from, accident, at, open = openLocalStore }: Trial) {
  const place = copyPlace(from, join(scratch.path, 'tried'))
  const shadow = join(place.home, 'shadow')
  const disk = mountDisk({ path: place.repository, shadow, accident, at })
  let error: unknown
  try {
    await runOperation(given.name, { place, store: open(place.repository) })
  } catch (thrown) {
    error = thrown
  } finally {
    disk.unmount()
  }
  if (disk.happened === undefined) return { step: undefined, wrong: error === undefined ? [] : [describeError(error)] }
  const wrong: string[] = []
  if (!isExpected(error, accident, given.name)) wrong.push(`it ended with ${describeError(error)}`)
  wrong.push(...(await judged(() => lostSince(given, openMemoryStore(objectsAt(place.repository))))))
  // Most second runs are made on what lies there, but in memory: the disk that failed has no more to say.
  const isSample = at % sampleEvery === 1
  if (isSample && canRestic && !repairs.has(given.name)) wrong.push(...(await resticFinds(place.repository)))
  const path = place.repository
  const store = isSample ? openLocalStore(path) : openMemoryStore(objectsAt(path))
  wrong.push(...(await judged(() => wrongAfterSecondRun(given, place, store))))
  if (isSample && canRestic && given.problems === 0) wrong.push(...(await resticFinds(path)))
  return { step: disk.happened, wrong: wrong.map((text) => `step ${at} (${disk.happened}): ${text}`) }
}

/** What cannot even be opened, or run again, is wrong, too. */
async function judged(judge: () => Promise<readonly string[]>): Promise<readonly string[]> {
  try {
    return await judge()
  } catch (error) {
    return [describeError(error)]
  }
}

function isExpected(error: unknown, accident: Accident, name: OperationName): boolean {
  if (accident.kind !== 'error') return error !== undefined
  // Where copying has no room, it deletes first what goes as a whole, and then it goes on.
  if (name === 'prune' && accident.errno === 'ENOSPC' && error === undefined) return true
  return isFailure(error, accident.errno === 'ENOSPC' ? 'no_space' : 'storage_failed')
}

function describeError(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : `no error (${String(error)})`
}

/** Writes without fsync, as one must not: everything under its final name at once. */
function sloppyStore(path: string): BlobStore {
  const store = openLocalStore(path)
  return {
    ...store,
    async put(object, bytes) {
      mkdirSync(dirname(store.locate(object)), { recursive: true })
      const handle = await fileSystem.open(store.locate(object), 'wx')
      try {
        await handle.writeFile(bytes)
      } finally {
        await handle.close()
      }
      return 'created'
    },
  }
}

test('the judge can fail: a store that does not sync loses snapshots in a power cut', async () => {
  const from = copyPlace(plain, join(scratch.path, 'sloppy'))
  const start = openMemoryStore(objectsAt(from.repository))
  const given = await before('prune', start, start)
  const found: string[] = []
  for (let at = 1; at < 40; at += 1) {
    const accident = { kind: 'powerCut' } as const
    const { wrong } = await tried({ given, from, accident, at, open: sloppyStore })
    found.push(...wrong)
  }
  expect(found.join()).toMatch(/object_damaged|is damaged|is gone|unreadable|not there/)
})

describe.each(Object.entries(accidents))('%s at every step', (title, accident) => {
  const counts = new Map<Step, number>()

  test.each(operationNames)('of %s loses nothing, and the next run finishes', async (name) => {
    const from = copyPlace(plain, join(scratch.path, name))
    await prepareFor(name, from)
    const finished = copyPlace(from, join(scratch.path, 'finished'))
    await runOperation(name, { place: finished, store: openLocalStore(finished.repository) })
    const [start, end] = [from, finished].map((place) => openMemoryStore(objectsAt(place.repository)))
    if (start === undefined || end === undefined) throw new Error('two places')
    const given = await before(name, start, end)
    const allWrong: string[] = []
    let at = 1
    for (; allWrong.length < 5; at += 1) {
      const { step, wrong } = await tried({ given, from, accident, at })
      allWrong.push(...wrong)
      if (step === undefined) break
      counts.set(step, (counts.get(step) ?? 0) + 1)
    }
    expect(allWrong).toEqual([])
    expect(at).toBeGreaterThan(10)
  })

  test('counts', () => {
    const total = [...counts.values()].reduce((sum, count) => sum + count, 0)
    console.log(`${title}: ${total} steps: ${[...counts].map(([step, count]) => `${step} ${count}`).join(', ')}`)
    expect(total).toBeGreaterThan(300)
  })
})
