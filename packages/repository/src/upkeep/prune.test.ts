/** Pruning: what it frees, what it keeps, what it refuses. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { type MemoryObjects, openMemoryStore } from '../blob/memory-store.ts'
import { initRepository, type Repository } from '../repository.ts'
import { contents, everything, fill, inMemory, openMemory } from '../testing/prunable.ts'
import {
  clock,
  entropy,
  fingerprint,
  hasTool,
  newRepository,
  password,
  reopen,
  restic,
  scratch,
  scryptCost,
  seeded,
  takeSnapshot,
} from '../testing/testbed.ts'

describe('prune', () => {
  test('frees what nothing refers to, and a second one finds nothing to do', async () => {
    const { objects } = await inMemory()
    const repository = await openMemory(objects)
    const before = await contents(repository)
    const dry = await repository.upkeep.prune({ ...everything, dryRun: true })
    expect(dry).toMatchObject({ isDryRun: true })
    expect(dry.unused.blobs).toBeGreaterThan(0)
    expect(await contents(repository)).toEqual(before)
    const keys = [...objects.keys()]
    const done = await repository.upkeep.prune(everything)
    expect(done).toEqual({ ...dry, isDryRun: false })
    expect([...objects.keys()]).not.toEqual(keys)
    expect(await contents(repository)).toEqual(before)
    const state = [...objects.keys()]
    const again = await repository.upkeep.prune(everything)
    expect(again).toMatchObject({ unused: { blobs: 0, bytes: 0 }, packsRepacked: 0, packsDeleted: 0 })
    expect([...objects.keys()]).toEqual(state)
    expect(again.used).toEqual(done.used)
  })

  test('frees everything where no snapshot is left', async () => {
    const { objects } = await inMemory()
    const repository = await openMemory(objects)
    await repository.upkeep.removeSnapshots((await repository.snapshots()).map(({ id }) => id))
    await repository.upkeep.prune()
    expect([...objects.keys()].filter((key) => /^(pack|index|snapshot|lock)/.test(key))).toEqual([])
  })

  test('tolerates unused data up to the limit, and repacks no more than it may', async () => {
    const { objects } = await inMemory()
    const repository = await openMemory(objects)
    const plan = (options: Parameters<Repository['upkeep']['prune']>[0]) =>
      repository.upkeep.prune({ ...options, dryRun: true })
    const unlimited = await plan({ maxUnused: { kind: 'unlimited' } })
    const none = await plan(everything)
    expect(none.unusedAfterBytes).toBe(0)
    expect(none.packsRepacked).toBeGreaterThan(unlimited.packsRepacked)
    // Trees are repacked in any case.
    expect((await plan({ maxUnused: { kind: 'percent', percent: 100 } })).packsRepacked).toBe(unlimited.packsRepacked)
    expect(await plan({ ...everything, maxRepackBytes: 0 })).toMatchObject({ packsRepacked: 0 })
    const small = await plan({ ...everything, repackSmall: true })
    expect(small.packsKept).toBe(0)
    await repository.upkeep.prune({ ...everything, repackSmall: true })
    expect([...objects.keys()].filter((key) => key.startsWith('pack/'))).toHaveLength(2)
  })

  test('puts many very small packs together, and few of them only where that is asked for', async () => {
    const objects: MemoryObjects = new Map()
    const source = await scratch()
    await initRepository({ store: openMemoryStore(objects), password, entropy, clock, scryptCost })
    const repository = await openMemory(objects)
    const packs = () => [...objects.keys()].filter((key) => key.startsWith('pack/')).length
    for (let day = 0; day < 3; day += 1) {
      await writeFile(join(source, `${day}`), `day ${day}`)
      await takeSnapshot(repository, source)
    }
    const before = await contents(repository)
    expect(packs()).toBe(9) // one of data and two of trees each
    expect(await repository.upkeep.prune({ dryRun: true })).toMatchObject({ packsRepacked: 0 })
    expect(await repository.upkeep.prune({ dryRun: true, repackSmall: true })).toMatchObject({ packsRepacked: 9 })
    expect(await repository.upkeep.prune({ dryRun: true, repackBelowBytes: 10 })).toMatchObject({ packsRepacked: 0 })
    const below = { dryRun: true, repackBelowBytes: 1 << 20 }
    expect(await repository.upkeep.prune(below)).toMatchObject({ packsRepacked: 9 })
    expect(await repository.upkeep.prune({ ...below, repackTreesOnly: true })).toMatchObject({ packsRepacked: 6 })
    await writeFile(join(source, 'one more'), 'day 4')
    await takeSnapshot(repository, source)
    expect(await repository.upkeep.prune()).toMatchObject({ packsRepacked: 12, wasFull: false })
    expect(packs()).toBe(2)
    expect(await contents(repository)).toMatchObject(before)
    for (const again of [{}, { repackSmall: true }, { repackBelowBytes: 1 << 20 }]) {
      expect(await repository.upkeep.prune({ ...again, dryRun: true })).toMatchObject({ packsRepacked: 0 })
    }
  })

  test('refuses while anybody else is at work', async () => {
    const { objects } = await inMemory()
    const [one, other] = [await openMemory(objects), await openMemory(objects)]
    await one.withLock('shared', async () => {
      await expect(other.upkeep.prune()).rejects.toMatchObject({ code: 'repository_locked' })
    })
    await other.upkeep.prune()
  })
})

describe('a damaged repository is refused and left as it is', () => {
  test.each(['pack', 'index', 'snapshot'])('a missing or damaged %s', async (kind) => {
    const { objects } = await inMemory()
    const victims = [...objects.keys()].filter((key) => key.startsWith(`${kind}/`))
    let refused = 0
    for (const victim of victims) {
      for (const damage of ['delete', 'truncate'] as const) {
        const copy: MemoryObjects = new Map(objects)
        if (damage === 'delete') copy.delete(victim)
        else copy.set(victim, Buffer.from(copy.get(victim)?.subarray(0, 50) ?? []))
        const before = [...copy.keys()]
        const pruning = async () => (await openMemory(copy)).upkeep.prune(everything)
        const outcome = await pruning().then(
          () => 'pruned',
          (error: unknown) => (error instanceof Failure ? error.code : String(error)),
        )
        if (outcome === 'pruned') continue
        refused += 1
        expect(outcome).toMatch(/^(prune_refused|object_damaged|object_missing)$/)
        expect([...copy.keys()]).toEqual(before)
      }
    }
    // A pack that no snapshot needs may be missing, and a snapshot that is gone is gone.
    expect(refused).toBeGreaterThan(victims.length * (kind === 'snapshot' ? 0.9 : 0.8))
  })
})

describe.skipIf(!hasTool('restic'))('with the real restic [needs restic]', () => {
  test('what we have pruned is sound for it, and what it wrote can be pruned by us', async () => {
    const home = await scratch()
    const path = join(home, 'repository')
    const source = join(home, 'source')
    const repository = await newRepository(path)
    await fill(repository, source, 400_000)
    await restic(path, 'backup', source)
    await writeFile(join(source, '1'), seeded(9).bytes(3_000_000))
    await restic(path, 'backup', source)
    await restic(path, 'forget', '--keep-last', '1')
    const freed = await repository.upkeep.prune(everything)
    expect(freed.unused.blobs).toBeGreaterThan(0)
    expect(await restic(path, 'check', '--read-data')).toContain('no errors were found')
    expect(await restic(path, 'prune', '--dry-run', '--max-unused', '0')).toContain('unused size after prune: 0 B')
    await restic(path, 'restore', 'latest', '--host', 'test-host', '--target', join(home, 'restored'))
    const restored = await fingerprint(join(home, 'restored', 'files'))
    expect(Object.keys(restored)).toEqual(Object.keys(await fingerprint(source)))
    expect(await restic(path, 'prune', '--max-unused', '0', '--repack-small')).toContain('done')
    expect((await (await reopen(path)).check({ readData: true })).problems).toEqual([])
  })
})
