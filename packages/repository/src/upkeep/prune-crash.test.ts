/** A prune may die anywhere: nothing is lost, and the next one finishes. */
import { spawn } from 'node:child_process'
import { cp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Failure } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { type BlobStore, listAll } from '../blob/blob-store.ts'
import { openLocalStore } from '../blob/local-store.ts'
import { type MemoryObjects, openMemoryStore } from '../blob/memory-store.ts'
import { openRepository } from '../repository.ts'
import { dyingStore } from '../testing/dying-store.ts'
import { contents, everything, fill, inMemory, openMemory } from '../testing/prunable.ts'
import { hasTool, newRepository, password, reopen, restic, scratch, seeded, world } from '../testing/testbed.ts'

describe('a prune that dies', () => {
  test('at any operation leaves every snapshot whole, and the next one finishes', async () => {
    const { objects } = await inMemory()
    const expected = await contents(await openMemory(objects))
    const whole = dyingStore(openMemoryStore(new Map(objects)), Number.POSITIVE_INFINITY)
    await (await openRepository({ store: whole.store, password, ...world })).upkeep.prune(everything)
    const steps = whole.count()
    expect(steps).toBeGreaterThan(30)
    let died = 0
    for (let diesAt = 1; diesAt <= steps; diesAt += 1) {
      const copy: MemoryObjects = new Map(objects)
      const pruning = openRepository({ store: dyingStore(openMemoryStore(copy), diesAt).store, password, ...world })
      const outcome = await pruning
        .then((repository) => repository.upkeep.prune(everything))
        .then(
          () => 'pruned',
          () => 'died',
        )
      if (outcome === 'died') died += 1
      for (const key of copy.keys()) if (key.startsWith('lock/')) copy.delete(key)
      const after = await openMemory(copy)
      expect(await contents(after), `died at ${diesAt}`).toEqual(expected)
      const { used } = await after.upkeep.prune(everything)
      const last = await after.upkeep.prune({ ...everything, dryRun: true })
      expect(last, `died at ${diesAt}`).toMatchObject({ used, unused: { blobs: 0 }, packsDeleted: 0, packsRepacked: 0 })
      expect(await contents(after)).toEqual(expected)
    }
    expect(died).toBeGreaterThan(steps - 3)
  })

  test('does not repeat what was repacked before', async () => {
    const { objects } = await inMemory()
    const isIndex = (key: string) => key.startsWith('index/')
    // Dies at the first deletion of an index file: new packs and indexes are there, the old ones too.
    const store: BlobStore = {
      ...openMemoryStore(objects),
      delete: () => Promise.reject(new Failure({ code: 'storage_failed', message: 'died' })),
    }
    const indexes = [...objects.keys()].filter(isIndex).length
    const dying = await openRepository({ store, password, ...world })
    await expect(dying.upkeep.prune(everything)).rejects.toMatchObject({ message: 'died' })
    expect([...objects.keys()].filter(isIndex).length).toBeGreaterThan(indexes)
    for (const key of objects.keys()) if (key.startsWith('lock/')) objects.delete(key)
    const report = await (await openMemory(objects)).upkeep.prune(everything)
    expect(report).toMatchObject({ packsRepacked: 0, unusedAfterBytes: 0 })
    expect(report.packsDeleted).toBeGreaterThan(0)
  })
})

describe.skipIf(!hasTool('restic'))('in a process of its own [needs restic]', () => {
  test('killed at random moments, nothing is lost and the next prune finishes', async () => {
    const home = await scratch()
    const template = join(home, 'template')
    await fill(await newRepository(template), join(home, 'source'), 400_000)
    const expected = await contents(await reopen(template))
    const random = seeded(11)
    let kills = 0
    for (let round = 0; round < 3; round += 1) {
      const path = join(home, 'repository')
      await rm(path, { recursive: true, force: true })
      await cp(template, path, { recursive: true })
      const killed = await pruneAndKill(path, random.below(60))
      if (killed === 'killed') kills += 1
      expect(await contents(await reopen(path)), `round ${round}, ${killed}`).toEqual(expected)
      if (round % 3 === 0) expect(await restic(path, 'check', '--read-data')).toContain('no errors were found')
      const repository = await reopen(path)
      await repository.upkeep.prune(everything)
      expect(await contents(repository)).toEqual(expected)
      const stored = await listAll(openLocalStore(path), 'pack')
      expect(stored.length).toBe((await repository.check()).packs)
      expect((await repository.check()).unreferencedPacks).toEqual([])
    }
    expect(kills).toBeGreaterThan(0)
  })
})

/** Starts a prune in a process of its own and kills it after the delay. */
function pruneAndKill(path: string, delayMs: number): Promise<'killed' | 'finished'> {
  const script = fileURLToPath(new URL('../testing/prune-once.ts', import.meta.url))
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [script, path], {
      env: { ...process.env, SAVE_PASSWORD: password },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    child.stdout.once('data', () => setTimeout(() => child.kill('SIGKILL'), delayMs))
    child.once('error', reject)
    child.once('close', (code) => resolve(code === 0 ? 'finished' : 'killed'))
  })
}
