/** The rolling check of data: budgets reach everything, counts are exact, and what is remembered survives. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type MemoryObjects, openMemoryStore } from '../blob/memory-store.ts'
import { initRepository, openRepository } from '../repository.ts'
import { placesFor } from '../testing/pack-places.ts'
import { clock, entropy, password, scratch, scryptCost, world } from '../testing/testbed.ts'
import { type CoverageStore, openCoverageFile } from './coverage-file.ts'
import { coverageOf, packsInBudget, parseReadBudget } from './read-coverage.ts'
import { createReadTimes } from './read-times.ts'

async function loaded(store: CoverageStore): Promise<ReadonlyMap<string, number>> {
  const times = new Map<string, number>()
  await store.load((name, readMs) => times.set(name, readMs))
  return times
}

const packsArbitrary = fc
  .uniqueArray(fc.tuple(fc.integer({ min: 0, max: 1e6 }), fc.integer({ min: 1, max: 1000 })), {
    selector: ([name]) => name,
    minLength: 1,
    maxLength: 40,
  })
  .map((packs) => packs.map(([name, bytes]) => ({ name: name.toString(16).padStart(64, '0'), bytes })))

describe('budgets', () => {
  test('are read', () => {
    expect(parseReadBudget('10G')).toEqual({ kind: 'bytes', bytes: 10 * 2 ** 30 })
    expect(parseReadBudget('5m')).toEqual({ kind: 'bytes', bytes: 5 * 2 ** 20 })
    expect(parseReadBudget('2.5%')).toEqual({ kind: 'percent', percent: 2.5 })
    expect(parseReadBudget('1h30min')).toEqual({ kind: 'time', durationMs: 5_400_000 })
    expect(parseReadBudget('45s')).toEqual({ kind: 'time', durationMs: 45_000 })
    for (const text of ['', '0', '0%', '101%', '0s', '-1', '1x', '30', ' 5%'].filter((each) => each !== '30')) {
      expect(() => parseReadBudget(text), text).toThrow('is no budget')
    }
  })

  test('any of them, again and again, reads everything, and nothing twice before all was read', () => {
    const budget = fc.oneof(
      fc.integer({ min: 1, max: 5000 }).map((bytes) => ({ kind: 'bytes', bytes }) as const),
      fc.integer({ min: 1, max: 100 }).map((percent) => ({ kind: 'percent', percent }) as const),
    )
    fc.assert(
      fc.property(packsArbitrary, budget, (packs, each) => {
        const places = placesFor(packs)
        const times = createReadTimes(places)
        const never = () => packs.length - [...times.all].length
        let nowMs = 1_000
        for (let round = 0; never() > 0; round += 1) {
          const read = [...packsInBudget(places, each, times)]
          expect(read.length).toBeGreaterThan(0)
          expect(round).toBeLessThan(packs.length)
          expect(read.slice(0, never()).every((place) => times.of(place) === undefined)).toBe(true)
          const bytes = read.reduce((sum, place) => sum + (places.packAt(place)?.bytes ?? Number.NaN), 0)
          if (each.kind === 'bytes' && read.length > 1) expect(bytes).toBeLessThanOrEqual(each.bytes)
          nowMs += 1_000
          for (const place of read) times.set(places.packAt(place)?.name ?? '', nowMs)
        }
        const question = { times, nowMs, withinMs: nowMs }
        expect(coverageOf(places, question)).toMatchObject({ packsNever: 0, packsWithin: packs.length })
      }),
    )
  })
})

test('counts are exact, and of the packs that are there', () => {
  const packs = [1, 2, 3, 4].map((at) => ({ name: `${at}`.padStart(64, '0'), bytes: at * 100 }))
  const name = (at: number) => `${at}`.padStart(64, '0')
  const places = placesFor(packs)
  const times = createReadTimes(places)
  for (const [at, readMs] of [
    [1, 900],
    [2, 400],
    [3, 500],
    [4, 700],
    [9, 1],
  ] as const) {
    times.set(name(at), readMs)
  }
  times.forget(name(4))
  expect([...times.all]).toEqual([
    [name(1), 900],
    [name(2), 400],
    [name(3), 500],
  ])
  expect(coverageOf(places, { times, nowMs: 1_000, withinMs: 500 })).toEqual({
    withinMs: 500,
    packs: 4,
    bytes: 1000,
    packsWithin: 2,
    bytesWithin: 400,
    packsNever: 1,
    bytesNever: 400,
    oldestMs: 400,
  })
  expect(coverageOf(placesFor([]), { times, nowMs: 1, withinMs: 1 }).oldestMs).toBeUndefined()
})

describe('what is remembered', () => {
  const name = 'ab'.repeat(32)

  test('survives, and nothing else lies beside it', async () => {
    const path = join(await scratch(), 'deep', 'coverage')
    const store = openCoverageFile({ path, clock })
    expect(await loaded(store)).toEqual(new Map())
    const nowMs = Math.floor(clock.wallMs() / 1000) * 1000
    await store.save(new Map([[name, nowMs]]))
    expect(await loaded(store)).toEqual(new Map([[name, nowMs]]))
    expect(await readdir(join(path, '..'))).toEqual(['coverage'])
  })

  test('damaged lines and times to come count as never', async () => {
    const path = join(await scratch(), 'coverage')
    const store = openCoverageFile({ path, clock })
    await store.save(new Map([[name, 1_000_000]]))
    const text = await readFile(path, 'utf8')
    await writeFile(
      path,
      `${text}${'cd'.repeat(32)} 99999999999\n${'ef'.repeat(32)} 12x\nrubbish\n${'01'.repeat(32)} 12`,
    )
    expect(await loaded(store)).toEqual(
      new Map([
        [name, 1_000_000],
        ['01'.repeat(32), 12_000],
      ]),
    )
    await writeFile(path, `another program\n${name} 1\n`)
    expect(await loaded(store)).toEqual(new Map())
  })
})

describe('a check with a budget', () => {
  async function bench() {
    const objects: MemoryObjects = new Map()
    const store = openMemoryStore(objects)
    await initRepository({ store, password, entropy, clock, scryptCost })
    const repository = await openRepository({ store, password, ...world })
    for (let at = 0; at < 4; at += 1) {
      const save = await repository.startSave()
      await save.saveBytes(Buffer.alloc(50_000, `content ${at}`))
      await save.finish()
    }
    const path = join(await scratch(), 'coverage')
    return { objects, repository, coverage: openCoverageFile({ path, clock }) }
  }

  test('goes round all packs, each run where the last one ended', async () => {
    const { repository, coverage } = await bench()
    const readBudget = { kind: 'bytes', bytes: 1 } as const
    for (let run = 1; run <= 4; run += 1) {
      const report = await repository.check({ readBudget, coverage })
      expect(report).toMatchObject({ packsRead: 1, problems: [] })
      expect(report.coverage).toMatchObject({ packs: 4, packsWithin: run, packsNever: 4 - run })
    }
    expect((await repository.check({ coverage })).coverage).toMatchObject({ packsNever: 0 })
    await expect(repository.check({ readBudget })).rejects.toMatchObject({ code: 'options_invalid' })
    const timed = await repository.check({ readBudget: { kind: 'time', durationMs: 60_000 }, coverage })
    expect(timed.packsRead).toBe(4)
    const short = await repository.check({ readBudget: { kind: 'time', durationMs: 0.001 }, coverage })
    expect(short.packsRead).toBeGreaterThan(0)
  })

  test('what is damaged is not remembered as read; what an abort left is', async () => {
    const { objects, repository, coverage } = await bench()
    const [key] = [...objects.keys()].filter((each) => each.includes('pack') || each.startsWith('data'))
    const bytes = objects.get(key ?? '')
    if (bytes === undefined) throw new Error(`no pack: ${[...objects.keys()]}`)
    bytes[40] = (bytes[40] ?? 0) ^ 1
    const report = await repository.check({ readData: true, coverage })
    expect(report.problems).toHaveLength(1)
    expect(report.coverage).toMatchObject({ packsWithin: 3, packsNever: 1 })
    await coverage.save(new Map())
    const controller = new AbortController()
    const aborted = repository.check({
      readData: true,
      coverage,
      signal: controller.signal,
      onProgress: ({ stage, done }) => {
        if (stage === 'data' && done === 2) controller.abort(new Error('stop'))
      },
    })
    await expect(aborted).rejects.toThrow('stop')
    expect((await loaded(coverage)).size).toBeGreaterThan(0)
  })
})
