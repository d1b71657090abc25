/** Repairing: the index, packs and snapshots, alone and with the real restic as the judge. */
import { chmod, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { restics } from '@stillpoint/testbed'
import { describe, expect, test } from 'vitest'
import { type BlobStore, listAll } from '../blob/blob-store.ts'
import { openLocalStore } from '../blob/local-store.ts'
import { type MemoryObjects, openMemoryStore } from '../blob/memory-store.ts'
import { openRepository, openVault, type Repository } from '../repository.ts'
import { entriesByPack } from '../testing/index-entries.ts'
import { contents, fill, inMemory, openMemory } from '../testing/prunable.ts'
import { newRepository, password, reopen, resticOf, scratch, world } from '../testing/testbed.ts'

const forRepair = (store: BlobStore): Promise<Repository> =>
  openRepository({ store, password, ...world, forRepair: true })
const keysOf = (objects: MemoryObjects, kind: string) => [...objects.keys()].filter((key) => key.startsWith(`${kind}/`))

describe('repair index', () => {
  test.each([
    [
      'one damaged file',
      (objects: MemoryObjects) => objects.set(keysOf(objects, 'index')[1] ?? '', Buffer.from('no index')),
    ],
    ['one missing file', (objects: MemoryObjects) => objects.delete(keysOf(objects, 'index')[0] ?? '')],
    [
      'all of them',
      (objects: MemoryObjects) => {
        for (const key of keysOf(objects, 'index'))
          objects.set(key, objects.get(key)?.subarray(0, 40) ?? Buffer.alloc(0))
      },
    ],
  ])('%s', async (_, damage) => {
    const { objects } = await inMemory()
    const expected = await contents(await openMemory(objects))
    damage(objects)
    const repository = await forRepair(openMemoryStore(objects))
    const before = [...objects.keys()]
    const dry = await repository.upkeep.repairIndex({ dryRun: true })
    expect([...objects.keys()]).toEqual(before)
    const report = await repository.upkeep.repairIndex()
    expect(report).toMatchObject({ damagedFiles: dry.damagedFiles, packsRead: dry.packsRead, unreadablePacks: [] })
    expect(report.packsRead.length).toBeGreaterThan(0)
    expect(await contents(await openMemory(objects))).toEqual(expected)
    const again = await repository.upkeep.repairIndex()
    expect(again).toMatchObject({ filesWritten: 0, filesRemoved: 0, packsRead: [] })
    await repository.upkeep.repairIndex({ readAllPacks: true })
    expect(await contents(await openMemory(objects))).toEqual(expected)
  })

  test('a damaged index is refused without being asked to repair', async () => {
    const { objects } = await inMemory()
    objects.set(keysOf(objects, 'index')[0] ?? '', Buffer.from('no index'))
    await expect(openMemory(objects)).rejects.toMatchObject({ code: 'object_damaged' })
  })

  test('dies at any operation and loses nothing', async () => {
    const { objects } = await inMemory()
    const expected = await contents(await openMemory(objects))
    for (const key of keysOf(objects, 'index').slice(1)) objects.set(key, Buffer.from('damaged'))
    for (let diesAt = 1, died = true; died; diesAt += 1) {
      const copy: MemoryObjects = new Map(objects)
      died = await repairDying(copy, diesAt)
      for (const key of keysOf(copy, 'lock')) copy.delete(key)
      await (await forRepair(openMemoryStore(copy))).upkeep.repairIndex()
      expect(await contents(await openMemory(copy)), `died at ${diesAt}`).toEqual(expected)
      expect(diesAt).toBeLessThan(200)
    }
  })
})

async function repairDying(objects: MemoryObjects, diesAt: number): Promise<boolean> {
  const store = openMemoryStore(objects)
  let count = 0
  const step = () => {
    count += 1
    if (count >= diesAt) throw new Failure({ code: 'storage_failed', message: 'died' })
  }
  const dying: BlobStore = {
    ...store,
    put: async (object, bytes) => {
      step()
      return store.put(object, bytes)
    },
    delete: async (object) => {
      step()
      return store.delete(object)
    },
  }
  const repository = await forRepair(dying)
  return repository.upkeep.repairIndex().then(
    () => false,
    () => true,
  )
}

describe('lost packs', () => {
  test('repair index drops them, repair snapshots leaves out what was in them, and a prune works again', async () => {
    const { objects } = await inMemory()
    const before = await contents(await openMemory(objects))
    let repairs = 0
    for (const victim of keysOf(objects, 'pack')) {
      const copy: MemoryObjects = new Map(objects)
      copy.delete(victim)
      const repository = await forRepair(openMemoryStore(copy))
      const { missingPacks } = await repository.upkeep.repairIndex()
      expect(missingPacks).toEqual([victim.slice('pack/'.length)])
      const dry = await repository.upkeep.repairSnapshots({ dryRun: true })
      const repaired = await repository.upkeep.repairSnapshots({ forget: true })
      expect(repaired.map(({ outcome }) => outcome)).toEqual(dry.map(({ outcome }) => outcome))
      for (const { outcome, changes } of repaired) {
        expect(changes.length > 0).toBe(outcome !== 'whole')
        if (outcome === 'repaired') repairs += 1
      }
      const sound = await openMemory(copy)
      const after = await contents(sound)
      expect(Object.keys(after).length).toBeLessThanOrEqual(Object.keys(before).length)
      for (const snapshot of await sound.snapshots()) {
        if (snapshot.original !== undefined) expect(snapshot.tags).toEqual(['test', 'repaired'])
      }
      await sound.upkeep.prune({ maxUnused: { kind: 'bytes', bytes: 0 } })
      expect(await contents(sound)).toEqual(after)
    }
    expect(repairs).toBeGreaterThan(0)
  })

  test('what is not lost stays to the byte: an unread file keeps its content', async () => {
    const { objects } = await inMemory()
    const repository = await openMemory(objects)
    const repaired = await repository.upkeep.repairSnapshots({ forget: true })
    expect(repaired.every(({ outcome, newId }) => outcome === 'whole' && newId === undefined)).toBe(true)
  })
})

describe('repair packs', () => {
  test('salvages all but the damaged blob, and keeps a copy', async () => {
    const { objects } = await inMemory()
    const vault = await openVault({ store: openMemoryStore(objects), password, ...world })
    const [id, entries] = [...(await entriesByPack(vault))].find(([, all]) => all.length >= 3) ?? []
    const victim = entries?.[1]
    if (id === undefined || entries === undefined || victim === undefined) throw new Error('no pack of three blobs')
    const bytes = Buffer.from(objects.get(`pack/${id}`) ?? [])
    bytes[victim.offset + 20] = (bytes[victim.offset + 20] ?? 0) ^ 1
    objects.set(`pack/${id}`, bytes)
    const repository = await openMemory(objects)
    const copies: Uint8Array[] = []
    const [repaired] = await repository.upkeep.repairPacks([id], {
      saveCopy: async (_, copy) => void copies.push(copy),
    })
    expect(repaired).toEqual({ id, salvagedBlobs: entries.length - 1, lostBlobs: 1, wasMissing: false })
    expect(copies).toEqual([bytes])
    expect(objects.has(`pack/${id}`)).toBe(false)
    const { problems } = await repository.check({ readData: true })
    expect(problems.every(({ message }) => message.includes(victim.id))).toBe(true)
    await repository.upkeep.repairSnapshots({ forget: true })
    expect((await (await openMemory(objects)).check({ readData: true })).problems).toEqual([])
  })

  test('a pack that is nowhere is refused', async () => {
    const { objects } = await inMemory()
    const repository = await openMemory(objects)
    for (const id of ['f'.repeat(64), 'abc', '../x']) {
      await expect(repository.upkeep.repairPacks([id])).rejects.toMatchObject({ code: 'pack_absent' })
    }
  })
})

for (const program of restics)
  describe.skipIf(!program.isHere)(`with the real ${program.name} [needs ${program.name}]`, () => {
    const restic = resticOf(program)
    test('what we have repaired is sound for it: ours and its own', async () => {
      const home = await scratch()
      const path = join(home, 'repository')
      const source = join(home, 'source')
      await fill(await newRepository(path), source)
      await writeFile(join(source, 'more'), 'more')
      await restic(path, 'backup', source)
      const store = openLocalStore(path)
      for (const { name } of await listAll(store, 'index')) {
        const file = store.locate({ kind: 'index', name })
        await chmod(file, 0o600)
        await truncate(file, 30)
      }
      const [pack] = (await listAll(store, 'pack')).map(({ name }) => name).sort()
      await rm(store.locate({ kind: 'pack', name: pack ?? '' }))
      await expect(reopen(path)).rejects.toMatchObject({ code: 'object_damaged' })
      const repository = await forRepair(store)
      await repository.upkeep.repairIndex()
      await repository.upkeep.repairSnapshots({ forget: true })
      expect(await restic(path, 'check', '--read-data')).toContain('no errors were found')
      await restic(path, 'backup', source)
      await repository.upkeep.prune()
      expect(await restic(path, 'check', '--read-data')).toContain('no errors were found')
    })
  })
