import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { sha256 } from '../format/ids.ts'
import { scratch } from '../testing/testbed.ts'
import { type BlobStore, listAll, type StoredObject } from './blob-store.ts'
import { describeBlobStore, failedChecks, type StoreUnderTest } from './conformance.ts'
import { openLocalStore } from './local-store.ts'
import { type MemoryObjects, openMemoryStore } from './memory-store.ts'

/** The suite is tried on stores in memory: a sound one with one thing broken. */
async function memoryStore(): Promise<StoreUnderTest> {
  const objects: MemoryObjects = new Map()
  return { store: openMemoryStore(objects), reopen: async () => openMemoryStore(objects), dispose: async () => {} }
}

async function localStore(): Promise<StoreUnderTest> {
  const path = await scratch()
  return { store: openLocalStore(path), reopen: async () => openLocalStore(path), dispose: async () => {} }
}

describe('the local store conforms', () => {
  describeBlobStore({ test }, localStore)
})

describe('the store in memory conforms', () => {
  describeBlobStore({ test }, memoryStore)
})

async function* changed(
  list: AsyncIterable<readonly StoredObject[]>,
  change: (batch: readonly StoredObject[], at: number) => readonly StoredObject[],
): AsyncGenerator<readonly StoredObject[]> {
  let at = 0
  for await (const batch of list) {
    yield change(batch, at)
    at += 1
  }
}

/** Ways of being wrong, each of which the suite must find. */
const broken: Readonly<Record<string, (store: BlobStore) => Partial<BlobStore>>> = {
  'put overwrites': (store) => ({
    async put(object, bytes) {
      if ((await store.size(object)) !== undefined) await store.delete(object)
      return store.put(object, bytes)
    },
  }),
  'put says "created" always': (store) => ({
    async put(object, bytes) {
      await store.put(object, bytes)
      return 'created'
    },
  }),
  'put stores nothing': () => ({ put: async () => 'created' }),
  'put loses the last byte': (store) => ({ put: (object, bytes) => store.put(object, bytes.subarray(0, -1)) }),
  'get ignores the range': (store) => ({ get: (object) => store.get(object) }),
  'get is short at the end': (store) => ({
    async get(object, range) {
      const bytes = await store.get(object)
      return range === undefined ? bytes : bytes.subarray(range.offset, range.offset + range.length)
    },
  }),
  'get of what is absent is empty': (store) => ({
    get: (object, range) => store.get(object, range).catch(() => Buffer.alloc(0)),
  }),
  'size is off': (store) => ({ size: async (object) => ((await store.size(object)) ?? -1) + 1 }),
  'list leaves one out': (store) => ({
    list: (kind) => changed(store.list(kind), (batch, at) => (at === 0 ? batch.slice(1) : batch)),
  }),
  'list has one twice, far apart': (store) => ({
    async *list(kind) {
      const all = await listAll(store, kind)
      for (const object of [...all, ...all.slice(0, 1)]) yield [object]
    },
  }),
  'list goes on where one before was left': (store) => {
    const iterators = new Map<string, AsyncIterator<readonly StoredObject[]>>()
    return {
      async *list(kind) {
        const iterator = iterators.get(kind) ?? store.list(kind)[Symbol.asyncIterator]()
        iterators.set(kind, iterator)
        for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value
        iterators.delete(kind)
      },
    }
  },
  'list counts places while objects are deleted': (store) => ({
    async *list(kind) {
      for (let at = 0; ; at += 3) {
        const batch = (await listAll(store, kind)).slice(at, at + 3)
        if (batch.length === 0) return
        yield batch
      }
    },
  }),
  'list is made once': (store) => {
    const lists = new Map<string, Promise<readonly StoredObject[]>>()
    return {
      async *list(kind) {
        const list = lists.get(kind) ?? listAll(store, kind)
        lists.set(kind, list)
        yield await list
      },
    }
  },
  'list mixes kinds': (store) => ({
    async *list(kind) {
      yield* store.list(kind)
      if (kind === 'key') yield* store.list('lock')
    },
  }),
  'delete deletes nothing': () => ({ delete: async () => {} }),
  'delete of what is absent succeeds': (store) => ({ delete: (object) => store.delete(object).catch(() => {}) }),
  'sweep takes packs': (store) => ({
    async sweep() {
      for (const { name } of await listAll(store, 'pack')) await store.delete({ kind: 'pack', name })
      return 0
    },
  }),
  'buffers are shared': (store) => {
    const cache = new Map<string, Buffer>()
    return {
      async get(object, range) {
        if (range !== undefined) return store.get(object, range)
        const found = cache.get(object.name) ?? (await store.get(object))
        cache.set(object.name, found)
        return found
      },
    }
  },
}

describe('the conformance suite finds broken stores', () => {
  test('and passes the sound one', async () => {
    expect(await failedChecks(memoryStore)).toEqual([])
  })
  for (const [name, breaking] of Object.entries(broken)) {
    test(name, async () => {
      const failed = await failedChecks(async () => {
        const sound = await memoryStore()
        const wrap = (store: BlobStore) => ({ ...store, ...breaking(store) })
        return { ...sound, store: wrap(sound.store), reopen: async () => wrap(await sound.reopen()) }
      })
      expect(failed).not.toEqual([])
    })
  }
})

describe('a list of many', () => {
  async function many() {
    const path = await scratch()
    const store = openLocalStore(path)
    await store.prepare()
    const names = Array.from({ length: 1000 }, (_, at) => sha256(Buffer.from(`${at}`)))
    await Promise.all(names.map((name, at) => writeFile(join(path, 'snapshots', name), 'x'.repeat(at % 7))))
    return { path, store, names }
  }

  test('comes in batches, between which everything else gets its turn', async () => {
    const { store, names } = await many()
    let isEnded = false
    let turns = 0
    const count = () => {
      turns += 1
      if (!isEnded) setImmediate(count)
    }
    setImmediate(count)
    let batches = 0
    const listed: StoredObject[] = []
    for await (const batch of store.list('snapshot')) {
      batches += 1
      listed.push(...batch)
    }
    isEnded = true
    expect(listed.map(({ name }) => name).sort()).toEqual([...names].sort())
    expect(new Map(listed.map(({ name, bytes }) => [name, bytes])).get(names[6] ?? '')).toBe(6)
    expect(batches).toBeGreaterThan(10)
    expect(turns).toBeGreaterThanOrEqual(batches - 1)
  })

  test('leaves out what others delete before it comes there', async () => {
    const { path, store, names } = await many()
    const listed: string[] = []
    for await (const batch of store.list('snapshot')) {
      listed.push(...batch.map(({ name }) => name))
      const rest = names.filter((name) => !listed.includes(name))
      await Promise.all(rest.map((name) => rm(join(path, 'snapshots', name), { force: true })))
    }
    expect(listed.length).toBeGreaterThan(0)
    expect(listed.length).toBeLessThan(names.length / 2)
    expect((await readdir(join(path, 'snapshots'))).sort()).toEqual(listed.sort())
  })

  test('that cannot go on says where', async () => {
    const { path, store } = await many()
    await rm(join(path, 'data', 'ff'), { recursive: true })
    await writeFile(join(path, 'data', 'ff'), 'no folder')
    await expect(listAll(store, 'pack')).rejects.toMatchObject({
      code: 'storage_failed',
      message: expect.stringContaining(`listing ${join(path, 'data')}`),
    })
  })
})

describe('what a crash leaves', () => {
  test('temporaries are not listed, and swept', async () => {
    const path = await scratch()
    const store = openLocalStore(path)
    await store.prepare()
    const name = sha256(Buffer.from('x'))
    const folder = join(path, 'data', name.slice(0, 2))
    await writeFile(join(folder, `${name}-tmp-123-1`), 'half')
    await writeFile(join(path, 'snapshots', `${name}-tmp-4711`), 'half')
    await writeFile(join(path, 'snapshots', 'a note of somebody'), 'stays')
    expect(await listAll(store, 'pack')).toEqual([])
    expect(await store.sweep()).toBe(2)
    expect(await readdir(folder)).toEqual([])
    expect(await readdir(join(path, 'snapshots'))).toEqual(['a note of somebody'])
  })

  test('a put finds its way around a temporary of a dead process with the same pid', async () => {
    const path = await scratch()
    const store = openLocalStore(path)
    await store.prepare()
    const object = { kind: 'index', name: sha256(Buffer.from('x')) } as const
    await writeFile(join(path, 'index', `${object.name}-tmp-${process.pid}-1`), 'half')
    expect(await store.put(object, Buffer.from('x'))).toBe('created')
    expect(await store.get(object)).toEqual(Buffer.from('x'))
  })

  test('folders below data are made when other programs have not', async () => {
    const path = await scratch()
    await mkdir(join(path, 'data'))
    const store = openLocalStore(path)
    const object = { kind: 'pack', name: sha256(Buffer.from('x')) } as const
    expect(await store.put(object, Buffer.from('x'))).toBe('created')
  })

  test('a store that is not there is not made by a put', async () => {
    const store = openLocalStore(join(await scratch(), 'absent'))
    const object = { kind: 'pack', name: sha256(Buffer.from('x')) } as const
    await expect(store.put(object, Buffer.from('x'))).rejects.toBeInstanceOf(Failure)
  })
})
