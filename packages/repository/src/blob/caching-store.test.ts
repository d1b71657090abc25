import { mkdir, readdir, readFile, stat, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure, isFailure } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { sha256 } from '../format/ids.ts'
import { clock, entropy, scratch } from '../testing/testbed.ts'
import { type BlobStore, listAll, type ObjectKind, type ObjectName } from './blob-store.ts'
import { type DirectoryCache, openDirectoryCache, removeUnusedCaches } from './caching-directory.ts'
import { type CachingOptions, cachingStore } from './caching-store.ts'
import { describeBlobStore } from './conformance.ts'
import { type MemoryObjects, openMemoryStore } from './memory-store.ts'

const repositoryId = sha256(Buffer.from('repository'))
const everyPackHoldsTrees = () => 1000

interface Seen {
  readonly reads: string[]
}

/** A store that says what was read from it. */
function watched(store: BlobStore, { reads }: Seen): BlobStore {
  return {
    ...store,
    get(object, range) {
      reads.push(range === undefined ? object.kind : `${object.kind} ${range.offset}+${range.length}`)
      return store.get(object, range)
    },
  }
}

const openCache = (directory: string, onProblem?: (failure: Failure) => void): Promise<DirectoryCache> =>
  openDirectoryCache({ directory, repositoryId, clock, entropy, ...(onProblem === undefined ? {} : { onProblem }) })

const contentOf = (text: string) => Buffer.from(text.repeat(50))
const objectOf = (kind: ObjectKind, text: string): ObjectName => ({ kind, name: sha256(contentOf(text)) })

async function subject(options: Partial<CachingOptions> & { readonly withDirectory?: boolean } = {}) {
  const objects: MemoryObjects = new Map()
  const seen: Seen = { reads: [] }
  const path = await scratch()
  const { withDirectory = true, ...rest } = options
  const open = async () => {
    const directory = withDirectory ? { directory: await openCache(path) } : {}
    return cachingStore(watched(openMemoryStore(objects), seen), {
      ...directory,
      treePackBytes: everyPackHoldsTrees,
      ...rest,
    })
  }
  return { objects, seen, path, open, store: await open() }
}

const fileOf = (path: string, folder: string, { name }: ObjectName) =>
  join(path, repositoryId, folder, name.slice(0, 2), name)

describe('a store with a cache in a directory', () => {
  describeBlobStore({ test }, async () => {
    const { store, open } = await subject()
    return { store, reopen: open, dispose: async () => {} }
  })
})

describe('a store with a cache in memory only', () => {
  describeBlobStore({ test }, async () => {
    const { store, open } = await subject({ withDirectory: false })
    return { store, reopen: open, dispose: async () => {} }
  })
})

describe('what is kept', () => {
  test('indexes, snapshots and packs of trees are read once, by all who open the cache; data, keys and locks always', async () => {
    const { objects, seen, open } = await subject({ treePackBytes: (name) => (name < '8' ? 500 : undefined) })
    const all = ['index', 'snapshot', 'key', 'lock'].map((kind) => objectOf(kind as ObjectKind, kind))
    for (const object of all) objects.set(`${object.kind}/${object.name}`, contentOf(object.kind))
    const texts = Array.from({ length: 8 }, (_, at) => `pack ${at}`)
    const packs = texts.map((text) => objectOf('pack', text))
    for (const [at, text] of texts.entries()) objects.set(`pack/${packs[at]?.name}`, contentOf(text))
    for (let turn = 0; turn < 3; turn += 1) {
      const store = await open()
      for (const object of all) expect(await store.get(object)).toEqual(contentOf(object.kind))
      for (const [at, text] of texts.entries()) {
        const pack = packs[at] ?? objectOf('pack', '')
        for (let offset = 0; offset < 3; offset += 1) {
          expect(await store.get(pack, { offset, length: 9 })).toEqual(contentOf(text).subarray(offset, offset + 9))
        }
      }
    }
    const trees = packs.filter(({ name }) => name < '8').length
    const count = (what: string) => seen.reads.filter((read) => read === what).length
    expect(['index', 'snapshot', 'key', 'lock', 'pack'].map(count)).toEqual([1, 1, 3, 3, trees])
    expect(seen.reads.filter((read) => read.startsWith('pack '))).toHaveLength((packs.length - trees) * 9)
    expect(trees).toBeGreaterThan(0)
  })

  test('what is written need not be read back', async () => {
    const { store, seen, open } = await subject()
    await store.put(objectOf('index', 'new'), contentOf('new'))
    expect(await (await open()).get(objectOf('index', 'new'))).toEqual(contentOf('new'))
    expect(seen.reads).toEqual([])
  })

  test('a list forgets what is gone, and the cache bytes of it', async () => {
    const { store, objects, path } = await subject()
    const [gone, stays] = [objectOf('snapshot', 'gone'), objectOf('snapshot', 'stays')]
    await store.put(gone, contentOf('gone'))
    await store.put(stays, contentOf('stays'))
    objects.delete(`snapshot/${gone.name}`)
    expect((await listAll(store, 'snapshot')).map(({ name }) => name)).toEqual([stays.name])
    await expect(stat(fileOf(path, 'snapshots', gone))).rejects.toThrow('ENOENT')
    await stat(fileOf(path, 'snapshots', stays))
    await expect(store.get(gone)).rejects.toThrow(Failure)
  })

  test('a list that ends early forgets nothing, nor does one what is kept while it goes on', async () => {
    const { store, objects, path } = await subject()
    const texts = Array.from({ length: 7 }, (_, at) => `snapshot ${at}`)
    for (const text of texts) await store.put(objectOf('snapshot', text), contentOf(text))
    for (const key of objects.keys())
      if (key !== `snapshot/${objectOf('snapshot', 'snapshot 0').name}`) objects.delete(key)
    for await (const batch of store.list('snapshot')) if (batch.length > 0) break
    for (const text of texts) await stat(fileOf(path, 'snapshots', objectOf('snapshot', text)))
    const since = objectOf('snapshot', 'since')
    for await (const _ of store.list('snapshot')) await store.put(since, contentOf('since'))
    await stat(fileOf(path, 'snapshots', since))
    await stat(fileOf(path, 'snapshots', objectOf('snapshot', 'snapshot 0')))
    await expect(stat(fileOf(path, 'snapshots', objectOf('snapshot', 'snapshot 1')))).rejects.toThrow('ENOENT')
  })

  test('without a directory a pack is fetched as a whole only when it is read again and again', async () => {
    const { store, objects, seen } = await subject({ withDirectory: false })
    const pack = objectOf('pack', 'trees')
    objects.set(`pack/${pack.name}`, contentOf('trees'))
    for (let turn = 0; turn < 10; turn += 1) {
      expect(await store.get(pack, { offset: turn, length: 5 })).toEqual(contentOf('trees').subarray(turn, turn + 5))
    }
    expect(seen.reads).toEqual(['pack 0+5', 'pack 1+5', 'pack 2+5', 'pack 3+5', 'pack'])
  })

  test('memory is bounded: the packs that were used last stay, larger ones are not kept', async () => {
    const { store, objects, seen } = await subject({
      memoryBytesMax: 500,
      treePackBytes: (name) => objects.get(`pack/${name}`)?.length,
    })
    const texts = ['one', 'two', 'six', 'much too large']
    for (const text of texts) objects.set(`pack/${objectOf('pack', text).name}`, contentOf(text))
    const read = (text: string) => store.get(objectOf('pack', text), { offset: 1, length: 2 })
    for (const text of ['one', 'two', 'one', 'six', 'one', 'much too large', 'much too large']) await read(text)
    expect(seen.reads).toEqual(['pack', 'pack', 'pack', 'pack 1+2', 'pack 1+2'])
  })

  test('of more packs than fit into memory, those that were sound are read in parts, and one that is cut off anew', async () => {
    const path = await scratch()
    const directory = await openCache(path)
    const whole: string[] = []
    const objects: MemoryObjects = new Map()
    const seen: Seen = { reads: [] }
    const store = cachingStore(watched(openMemoryStore(objects), seen), {
      directory: {
        ...directory,
        async get(object) {
          const kept = await directory.get(object)
          if (kept !== undefined) whole.push(object.name)
          return kept
        },
      },
      treePackBytes: () => contentOf('one').length,
      memoryBytesMax: 2 * contentOf('one').length,
    })
    const packs = ['one', 'two', 'six'].map((text) => ({ text, object: objectOf('pack', text) }))
    for (const { text, object } of packs) objects.set(`pack/${object.name}`, contentOf(text))
    for (let turn = 0; turn < 5; turn += 1) {
      for (const { text, object } of packs) {
        const part = await store.get(object, { offset: 10 + turn, length: 20 })
        expect(part).toEqual(contentOf(text).subarray(10 + turn, 30 + turn))
      }
    }
    expect(seen.reads).toEqual(['pack', 'pack', 'pack'])
    expect(whole).toEqual([])
    const [first] = packs
    const { object } = first ?? expect.fail()
    await truncate(fileOf(path, 'data', object), 30)
    expect(await store.get(object, { offset: 10, length: 20 })).toHaveLength(20)
    expect(await store.get(object, { offset: 100, length: 20 })).toEqual(contentOf('one').subarray(100, 120))
    expect(await readFile(fileOf(path, 'data', object))).toEqual(contentOf('one'))
  })

  test('packs in memory are given up when all packs are listed', async () => {
    const { store, objects, seen } = await subject({ memoryBytesMax: 1000, withDirectory: false })
    const pack = objectOf('pack', 'trees')
    objects.set(`pack/${pack.name}`, contentOf('trees'))
    const read = () => store.get(pack, { offset: 1, length: 5 })
    for (let turn = 0; turn < 7; turn += 1) await read()
    expect(seen.reads.filter((what) => what === 'pack')).toHaveLength(1)
    await listAll(store, 'snapshot')
    await read()
    expect(seen.reads.filter((what) => what === 'pack')).toHaveLength(1)
    await listAll(store, 'pack')
    expect(await read()).toEqual(contentOf('trees').subarray(1, 6))
    expect(seen.reads.filter((what) => what === 'pack')).toHaveLength(2)
  })

  test('callers at the same time share one fetch', async () => {
    const { store, objects, seen } = await subject()
    const pack = objectOf('pack', 'shared')
    objects.set(`pack/${pack.name}`, contentOf('shared'))
    const read = (offset: number) => store.get(pack, { offset, length: 3 })
    const got = await Promise.all(Array.from({ length: 20 }, (_, at) => read(at)))
    expect(got.every((bytes, at) => bytes.equals(contentOf('shared').subarray(at, at + 3)))).toBe(true)
    expect(seen.reads).toEqual(['pack'])
  })
})

describe('a damaged cache', () => {
  test.each(['index', 'snapshot'] as const)('of an %s is repaired, not believed', async (kind) => {
    const { store, path, seen } = await subject()
    const object = objectOf(kind, 'sound')
    await store.put(object, contentOf('sound'))
    const file = fileOf(path, kind === 'index' ? 'index' : 'snapshots', object)
    for (const harm of [
      () => truncate(file, 7),
      () => writeFile(file, ''),
      () => writeFile(file, contentOf('other')),
    ]) {
      await harm()
      expect(await store.get(object)).toEqual(contentOf('sound'))
      expect(await readFile(file)).toEqual(contentOf('sound'))
    }
    expect(seen.reads).toHaveLength(3)
  })

  test('of a pack is repaired, not believed', async () => {
    const { objects, path, open } = await subject()
    const pack = objectOf('pack', 'sound')
    objects.set(`pack/${pack.name}`, contentOf('sound'))
    const file = fileOf(path, 'data', pack)
    const read = async () => (await open()).get(pack, { offset: 3, length: 40 })
    await read()
    await writeFile(file, contentOf('other'))
    expect(await read()).toEqual(contentOf('sound').subarray(3, 43))
    expect(await readFile(file)).toEqual(contentOf('sound'))
  })

  test('what is damaged in the repository is not kept, and given out as it is', async () => {
    const { store, objects, path } = await subject()
    const object = objectOf('index', 'sound')
    objects.set(`index/${object.name}`, contentOf('other'))
    expect(await store.get(object)).toEqual(contentOf('other'))
    await expect(stat(fileOf(path, 'index', object))).rejects.toThrow('ENOENT')
  })

  test('that cannot be used is told once, and is no failure', async () => {
    const path = await scratch()
    const problems: Failure[] = []
    const directory = await openCache(path, (failure) => problems.push(failure))
    // A file where the folder belongs: nothing can be read or written there, also not by root.
    await writeFile(join(path, repositoryId, 'index'), '')
    const store = cachingStore(openMemoryStore(), { directory, treePackBytes: everyPackHoldsTrees })
    for (const text of ['one', 'two']) {
      expect(await store.put(objectOf('index', text), contentOf(text))).toBe('created')
      expect(await store.get(objectOf('index', text))).toEqual(contentOf(text))
    }
    expect((await listAll(store, 'index')).length).toBe(2)
    expect(problems).toHaveLength(1)
    expect(isFailure(problems[0], 'storage_failed')).toBe(true)
  })

  test('of a layout that is not known is refused', async () => {
    const path = await scratch()
    await mkdir(join(path, repositoryId), { recursive: true })
    await writeFile(join(path, repositoryId, 'version'), '2')
    await expect(openCache(path)).rejects.toThrow('has a layout of version "2"')
  })
})

describe('the directory', () => {
  test('is for its owner only, and marked as a cache', async () => {
    const base = join(await scratch(), 'below', 'cache')
    const cache = await openCache(base)
    const object = objectOf('index', 'mine')
    await cache.put(object, contentOf('mine'))
    const mode = async (path: string) => ((await stat(path)).mode & 0o777).toString(8)
    const file = fileOf(base, 'index', object)
    expect([await mode(base), await mode(join(base, repositoryId)), await mode(join(file, '..'))]).toEqual([
      '700',
      '700',
      '700',
    ])
    expect([await mode(file), await mode(join(base, 'CACHEDIR.TAG'))]).toEqual(['600', '600'])
    expect(await readFile(join(base, 'CACHEDIR.TAG'), 'utf8')).toMatch(/^Signature: 8a477f597d28d172789f06886806bc55\n/)
    expect(await readdir(join(file, '..'))).toEqual([object.name])
  })

  test('keeps no name that could lead out of it', async () => {
    const path = await scratch()
    const cache = await openCache(path)
    for (const name of ['../../x', 'config', `${'a'.repeat(63)}/`, 'A'.repeat(64)]) {
      await cache.put({ kind: 'index', name }, contentOf('x'))
      expect(await cache.get({ kind: 'index', name })).toBeUndefined()
    }
    expect((await readdir(join(path, repositoryId))).sort()).toEqual(['version'])
  })

  test('packs are trimmed, those used longest ago first', async () => {
    const path = await scratch()
    const cache = await openCache(path)
    const packs = ['aa', 'bb', 'cc', 'dd'].map((text) => objectOf('pack', text))
    for (const [at, pack] of packs.entries()) {
      await cache.put(pack, contentOf(['aa', 'bb', 'cc', 'dd'][at] ?? ''))
      await utimes(fileOf(path, 'data', pack), 1000 + at, 1000 + at)
    }
    await cache.trimPacks(250)
    const there = await Promise.all(packs.map(async (pack) => (await cache.get(pack)) !== undefined))
    expect(there).toEqual([false, false, true, true])
  })

  test('what a killed process has left is removed when it is old', async () => {
    const path = await scratch()
    const cache = await openCache(path)
    await cache.put(objectOf('index', 'x'), contentOf('x'))
    const folder = join(fileOf(path, 'index', objectOf('index', 'x')), '..')
    await writeFile(join(folder, 'tmp-1-old'), '')
    await utimes(join(folder, 'tmp-1-old'), 1000, 1000)
    await writeFile(join(folder, 'tmp-2-new'), '')
    await cache.retain('index', () => true)
    expect((await readdir(folder)).sort()).toEqual([objectOf('index', 'x').name, 'tmp-2-new'].sort())
  })

  test('caches of other repositories that nobody opened for 30 days are removed', async () => {
    const path = await scratch()
    const day = 24 * 60 * 60
    const now = Math.floor(clock.wallMs() / 1000)
    const names = ['old', 'young', 'own'].map((text) => sha256(Buffer.from(text)))
    for (const [at, name] of names.entries()) {
      await mkdir(join(path, name, 'index'), { recursive: true })
      const then = now - ([31, 29, 100][at] ?? 0) * day
      await utimes(join(path, name), then, then)
    }
    await mkdir(join(path, 'something else'))
    await utimes(join(path, 'something else'), 1000, 1000)
    const [old = '', young = '', own = ''] = names
    expect(await removeUnusedCaches({ directory: path, clock, except: own })).toBe(1)
    expect((await readdir(path)).sort()).toEqual([young, own, 'something else'].sort())
    expect(old).not.toBe('')
  })
})
