/** Pruning where there is no room: on a disk that is really full. */
import { readdir, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { restics, type SmallDisk, smallDisk } from '@stillpoint/testbed'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import type { BlobStore } from '../blob/blob-store.ts'
import { openLocalStore } from '../blob/local-store.ts'
import { type MemoryObjects, openMemoryStore } from '../blob/memory-store.ts'
import { initRepository, openRepository, type Repository } from '../repository.ts'
import { dyingStore } from '../testing/dying-store.ts'
import { contents, everything, inMemory, openMemory } from '../testing/prunable.ts'
import {
  clock,
  entropy,
  password,
  resticOf,
  scratch,
  scryptCost,
  seeded,
  takeSnapshot,
  world,
} from '../testing/testbed.ts'
import type { PruneOptions } from './prune.ts'

const mib = 1 << 20
const packBytes = 4 * mib
const disk = await smallDisk(24 * mib)
afterAll(() => disk?.remove())

describe.skipIf(disk === undefined)('a full disk [needs root to mount]', () => {
  let source: string
  beforeEach(async () => {
    source = await scratch()
    for (const name of await readdir(mounted().path)) await rm(join(mounted().path, name), { recursive: true })
    await mounted().resize(24 * mib)
  })

  function mounted(): SmallDisk {
    if (disk === undefined) throw new Error('no disk')
    return disk
  }

  const place = () => join(mounted().path, 'repository')
  const open = () => openRepository({ store: openLocalStore(place()), password, ...world, packBytes })

  async function made(): Promise<Repository> {
    await initRepository({ store: openLocalStore(place()), password, entropy, clock, scryptCost })
    return open()
  }

  const random = seeded(11)
  const write = (name: string, bytes: number) => writeFile(join(source, name), random.bytes(bytes))

  /** Leaves so many bytes free. */
  async function fillUp(freeBytes: number): Promise<void> {
    const { blocks, bfree, bsize } = await statfs(mounted().path)
    await mounted().resize((blocks - bfree) * bsize + freeBytes)
  }

  async function freeBytes(): Promise<number> {
    const { bfree, bsize } = await statfs(mounted().path)
    return bfree * bsize
  }

  const snapshot = async (repository: Repository) => (await takeSnapshot(repository, source)).id

  test('packs that go as a whole make room for copying the rest, in rounds', async () => {
    const repository = await made()
    await write('gone', 6 * mib)
    const first = await snapshot(repository)
    await rm(join(source, 'gone'))
    // Less than a pack: what is needed and what is not lie in one.
    for (const name of ['a', 'kept']) await write(name, 1.5 * mib)
    const second = await snapshot(repository)
    await write('a', 16 << 10)
    await snapshot(repository)
    await repository.upkeep.removeSnapshots([first, second])
    const before = await contents(repository)
    const planned = await repository.upkeep.prune({ ...everything, dryRun: true })
    expect(planned.repackRemoves.bytes).toBeGreaterThan(mib)
    expect(planned.wasFull).toBe(false)
    await fillUp(64 << 10)
    const report = await repository.upkeep.prune(everything)
    expect(report).toMatchObject({ isDryRun: false, wasFull: true })
    expect(report.unusedAfterBytes).toBe(0)
    expect(report.toDelete.bytes + report.repackRemoves.bytes).toBe(
      planned.toDelete.bytes + planned.repackRemoves.bytes,
    )
    expect(await freeBytes()).toBeGreaterThan(7 * mib)
    expect(await contents(repository)).toEqual(before)
    expect(await repository.upkeep.prune(everything)).toMatchObject({ unused: { bytes: 0 }, wasFull: false })
    expect(await contents(await open())).toEqual(before)
    for (const restic of restics.filter(({ isHere }) => isHere)) {
      expect(await resticOf(restic)(place(), 'check', '--read-data')).toContain('no errors were found')
    }
  })

  test('what only copying would free stays, and it says what to do', async () => {
    const repository = await made()
    // Less than a pack: what is needed and what is not lie in one.
    for (const name of ['a', 'kept']) await write(name, 1.5 * mib)
    const id = await snapshot(repository)
    await write('a', 16 << 10)
    await snapshot(repository)
    await repository.upkeep.removeSnapshots([id])
    const before = await contents(repository)
    await fillUp(64 << 10)
    // The tree of the first snapshot goes.
    const first = await repository.upkeep.prune(everything)
    expect(first).toMatchObject({ wasFull: true, packsRepacked: 0 })
    expect(first.unusedAfterBytes).toBeGreaterThan(mib)
    for (const bytes of [8 << 10, 64 << 10, 512 << 10]) {
      await fillUp(bytes)
      await expect(repository.upkeep.prune(everything), `${bytes} free`).rejects.toMatchObject({
        code: 'no_space',
        hint: expect.stringContaining('Forget more'),
      })
      expect(await contents(await open())).toEqual(before)
    }
    await fillUp(2 * mib)
    expect(await repository.upkeep.prune(everything)).toMatchObject({ wasFull: false, unusedAfterBytes: 0 })
    expect(await contents(await open())).toEqual(before)
  })

  test('without room for an index file, each is replaced in its place, when that is asked for', async () => {
    const repository = await made()
    for (let at = 0; at < 400; at += 1) await writeFile(join(source, `${at}`), `content ${at}`)
    await write('a', 3 * mib)
    const id = await snapshot(repository)
    await write('a', 64 << 10)
    await snapshot(repository)
    await repository.upkeep.removeSnapshots([id])
    const before = await contents(repository)
    // Enough for a lock, and not for an index of 400 blobs.
    await fillUp(8192)
    await expect(repository.upkeep.prune({ maxRepackBytes: 0 })).rejects.toMatchObject({ code: 'no_space' })
    expect(await contents(await open())).toEqual(before)
    const report = await repository.upkeep.prune({ withoutRoom: true })
    expect(report).toMatchObject({ packsRepacked: 0 })
    expect(report.toDelete.bytes).toBeGreaterThan(100)
    expect(await contents(await open())).toEqual(before)
    await fillUp(0)
    await expect(repository.upkeep.prune()).rejects.toMatchObject({ code: 'no_space' })
  })
})

describe('an index file that is replaced in its place', () => {
  /** Refuses to store so many index files. */
  async function refusing(
    times: number,
  ): Promise<{ readonly repository: Repository; readonly objects: MemoryObjects }> {
    const { objects } = await inMemory()
    const store = openMemoryStore(objects)
    let left = times
    const put: BlobStore['put'] = async (object, bytes) => {
      if (object.kind !== 'index' || left === 0) return store.put(object, bytes)
      left -= 1
      throw new Failure({ code: 'no_space', message: 'no room for an index' })
    }
    return { repository: await openRepository({ store: { ...store, put }, password, ...world }), objects }
  }

  test('is put back where its successor cannot be written', async () => {
    const { repository, objects } = await refusing(1)
    const before = await contents(repository)
    const indexes = () => [...objects.keys()].filter((key) => key.startsWith('index/')).length
    await expect(repository.upkeep.prune({ withoutRoom: true })).rejects.toMatchObject({ code: 'no_space' })
    expect(indexes()).toBeGreaterThan(0)
    expect(await contents(await openMemory(objects))).toEqual(before)
    await repository.upkeep.prune({ withoutRoom: true })
    expect(await contents(await openMemory(objects))).toEqual(before)
  })

  test('is made anew by a repair where it could not be put back, either', async () => {
    const { repository, objects } = await refusing(2)
    const before = await contents(repository)
    await expect(repository.upkeep.prune({ withoutRoom: true })).rejects.toMatchObject({
      code: 'no_space',
      hint: expect.stringContaining('repair index'),
    })
    const opened = await openRepository({ store: openMemoryStore(objects), password, ...world, forRepair: true })
    await opened.upkeep.repairIndex()
    expect(await contents(await openMemory(objects))).toEqual(before)
    await (await openMemory(objects)).upkeep.prune(everything)
    expect(await contents(await openMemory(objects))).toEqual(before)
  })
})

describe('a prune without room that dies at any operation', () => {
  /** Has room for no more than it has now. */
  function cappedStore(objects: MemoryObjects): BlobStore {
    const store = openMemoryStore(objects)
    const bytes = () => [...objects.values()].reduce((sum, { length }) => sum + length, 0)
    const lockBytes = 2_000
    const bytesMax = bytes() + lockBytes
    const put: BlobStore['put'] = async (object, content) => {
      if (bytes() + content.length <= bytesMax) return store.put(object, content)
      throw new Failure({ code: 'no_space', message: `${object.kind} has no room` })
    }
    return { ...store, put }
  }

  /** What is left by a prune that dies at each operation in turn. */
  async function* deaths(objects: MemoryObjects, options: PruneOptions): AsyncGenerator<MemoryObjects> {
    const at = async (diesAt: number, copy: MemoryObjects) => {
      const dying = dyingStore(cappedStore(copy), diesAt)
      const repository = await openRepository({ store: dying.store, password, ...world })
      const report = await repository.upkeep.prune(options)
      return { report, steps: dying.count() }
    }
    const { report, steps } = await at(Number.POSITIVE_INFINITY, new Map(objects))
    expect(report.wasFull).toBe(options.withoutRoom !== true)
    expect(steps).toBeGreaterThan(30)
    for (let diesAt = 1; diesAt <= steps; diesAt += 1) {
      const copy: MemoryObjects = new Map(objects)
      await at(diesAt, copy).catch(() => undefined) // where it dies is not what is asked
      for (const key of [...copy.keys()].filter((name) => name.startsWith('lock/'))) copy.delete(key)
      yield copy
    }
  }

  /** What goes as a whole, and what has to be copied. */
  async function given() {
    const { objects, source } = await inMemory()
    const repository = await openMemory(objects)
    await writeFile(join(source, 'gone'), seeded(7).bytes(400_000))
    const { id } = await takeSnapshot(repository, source)
    await repository.upkeep.removeSnapshots([id])
    return { objects, expected: await contents(repository) }
  }

  test('in rounds, it leaves every snapshot whole, and the next one finishes', async () => {
    const { objects, expected } = await given()
    for await (const left of deaths(objects, everything)) {
      expect(await contents(await openMemory(left))).toEqual(expected)
      await (await openMemory(left)).upkeep.prune(everything)
      expect(await contents(await openMemory(left))).toEqual(expected)
    }
  })

  test('in place, it leaves what a repair of the index makes whole', async () => {
    const { objects, expected } = await given()
    let broken = 0
    for await (const left of deaths(objects, { withoutRoom: true })) {
      const isWhole = await contents(await openMemory(left)).then(
        () => true,
        () => false, // it cannot be read, or check finds problems
      )
      if (!isWhole) {
        broken += 1
        await expect((await openMemory(left)).upkeep.prune()).rejects.toMatchObject({ code: expect.any(String) })
        const repairing = { store: openMemoryStore(left), password, ...world, forRepair: true }
        await (await openRepository(repairing)).upkeep.repairIndex()
      }
      expect(await contents(await openMemory(left))).toEqual(expected)
    }
    expect(broken).toBeGreaterThan(0)
  })
})
