/** A repository behind a cache: what is still read from the store, and what a cache must not hide. */
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Failure } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { openRepository } from '../repository.ts'
import { contents, everything, inMemory } from '../testing/prunable.ts'
import { password, scratch, takeSnapshot, world } from '../testing/testbed.ts'
import type { BlobStore } from './blob-store.ts'
import { type MemoryObjects, openMemoryStore } from './memory-store.ts'

function watched(objects: MemoryObjects): { readonly store: BlobStore; readonly reads: string[] } {
  const reads: string[] = []
  const store = openMemoryStore(objects)
  return {
    reads,
    store: {
      ...store,
      get(object, range) {
        reads.push(object.kind)
        return store.get(object, range)
      },
    },
  }
}

async function subject() {
  const { objects, source } = await inMemory()
  const directory = join(await scratch(), 'cache')
  const problems: Failure[] = []
  const open = async () => {
    const { store, reads } = watched(objects)
    const cache = { directory, onProblem: (failure: Failure) => problems.push(failure) }
    return { repository: await openRepository({ store, password, ...world, cache }), reads }
  }
  return { objects, source, directory, open, problems }
}

const filesIn = async (directory: string) =>
  (await readdir(directory, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile()).length

describe('a repository behind a cache', () => {
  test('is listed and walked, and an unchanged tree saved again, without reading again what is known', async () => {
    const { source, open, problems } = await subject()
    const list = async () => {
      const { repository, reads } = await open()
      const snapshots = await repository.snapshots()
      for (const { tree } of snapshots) for await (const _ of repository.upkeep.walk(tree, {}));
      return { repository, reads, snapshots }
    }
    const first = await list()
    expect(new Set(first.reads)).toEqual(new Set(['config', 'key', 'index', 'snapshot', 'pack']))
    const second = await list()
    expect(second.snapshots).toEqual(first.snapshots)
    expect([...new Set(second.reads)].sort()).toEqual(['config', 'key'])
    second.reads.length = 0
    await takeSnapshot(second.repository, source)
    // The new root alone: its pack when it is sealed, and the looks at what was stored, past the cache.
    expect(second.reads.sort()).toEqual(['index', 'pack', 'snapshot'])
    expect(problems).toEqual([])
  })

  test('is checked itself: what is kept hides no damage', async () => {
    const { objects, open } = await subject()
    for (const kind of ['index', 'snapshot', 'pack']) {
      const { repository } = await open()
      for (const { tree } of await repository.snapshots()) await repository.readTree(tree)
      expect((await repository.check()).problems).toEqual([])
      const damaged = [...objects].filter(([key]) => key.startsWith(`${kind}/`))
      for (const [key, bytes] of damaged)
        objects.set(key, Buffer.from(bytes.map((byte, at) => (at === 40 ? ~byte : byte))))
      const { problems } = await repository.check({ readData: true })
      expect({ kind, found: problems.length > 0 }).toEqual({ kind, found: true })
      for (const [key, bytes] of damaged) objects.set(key, bytes)
    }
  })

  test('is not pruned where an index file is damaged, though a sound copy is kept', async () => {
    const { objects, open } = await subject()
    const { repository } = await open()
    const [[key, bytes] = ['', Buffer.alloc(0)]] = [...objects].filter(([name]) => name.startsWith('index/'))
    objects.set(key, bytes.subarray(1))
    await expect(repository.upkeep.prune(everything)).rejects.toMatchObject({ code: 'object_damaged' })
    await expect((await open()).repository.upkeep.prune(everything)).rejects.toMatchObject({ code: 'object_damaged' })
  })

  test('is pruned: the cache forgets what is gone, and nothing is lost', async () => {
    const { open, directory } = await subject()
    const { repository } = await open()
    const before = await contents(repository)
    const kept = await filesIn(directory)
    await repository.upkeep.prune(everything)
    const after = await open()
    expect(await contents(after.repository)).toEqual(before)
    for (const { tree } of await after.repository.snapshots()) await after.repository.readTree(tree)
    expect(await filesIn(directory)).toBeLessThanOrEqual(kept)
    const other = await open()
    expect(await contents(other.repository)).toEqual(before)
  })

  test('whose directory cannot be made is used without one', async () => {
    const { objects } = await inMemory()
    const file = join(await scratch(), 'file')
    await writeFile(file, '')
    const problems: Failure[] = []
    const cache = { directory: join(file, 'below'), onProblem: (failure: Failure) => problems.push(failure) }
    const repository = await openRepository({ store: openMemoryStore(objects), password, ...world, cache })
    expect(await repository.snapshots()).toHaveLength(2)
    expect(problems.map(({ code }) => code)).toEqual(['storage_failed'])
  })
})
