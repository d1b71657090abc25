import { Failure } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import type { BlobStore } from './blob/blob-store.ts'
import { type MemoryObjects, openMemoryStore } from './blob/memory-store.ts'
import { generateKeys } from './format/crypto.ts'
import { packId, sha256 } from './format/ids.ts'
import { encodeIndex, type IndexedPack } from './format/index-file.ts'
import type { PackEntry } from './format/pack.ts'
import { createLoadedIndex } from './loaded-index.ts'
import { openRepository, type Repository } from './repository.ts'
import { inMemory } from './testing/prunable.ts'
import { password, takeSnapshot, world } from './testing/testbed.ts'
import { entropy } from './testing/world.ts'
import { type ObjectAccess, writeDocument } from './vault.ts'

const idOf = (text: string) => sha256(Buffer.from(text))

/** A pack whose blobs are named, one after another. */
function packOf(name: string, ...blobs: readonly string[]): IndexedPack {
  const entries = blobs.map((blob, at): PackEntry => {
    return { id: idOf(blob), type: 'data', offset: at * 50, length: 50, plainBytes: undefined }
  })
  return { id: packId(idOf(`pack ${name}`)), entries }
}

interface Place extends ObjectAccess {
  readonly objects: MemoryObjects
  readonly gets: string[]
}

function place(): Place {
  const objects: MemoryObjects = new Map()
  const gets: string[] = []
  const inner = openMemoryStore(objects)
  const store: BlobStore = {
    ...inner,
    get(object, range) {
      gets.push(object.name)
      return inner.get(object, range)
    },
  }
  return { store, keys: generateKeys(entropy), entropy, objects, gets }
}

const write = (at: Place, ...packs: readonly IndexedPack[]) => writeDocument(at, 'index', encodeIndex(packs))
const removeFile = (at: Place, name: string) => at.objects.delete(`index/${name}`)

describe('an index that is kept up to date', () => {
  test('reads each file once, and what has come', async () => {
    const at = place()
    const first = await write(at, packOf('a', 'one', 'two'))
    const index = createLoadedIndex(at)
    await index.refresh()
    const second = await write(at, packOf('b', 'three'))
    await index.refresh()
    await index.refresh()
    expect(at.gets).toEqual([first, second])
    expect(['one', 'two', 'three', 'four'].map((blob) => index.blobs.has(idOf(blob), 'data'))).toEqual([
      true,
      true,
      true,
      false,
    ])
  })

  test('forgets what a prune has removed, keeps what it has moved, and reads only the new file', async () => {
    const at = place()
    const old = await write(at, packOf('a', 'kept', 'unused'), packOf('b', 'stays'))
    const index = createLoadedIndex(at)
    await index.refresh()
    // New pack, new index, old index gone: the order of a prune.
    const fresh = await write(at, packOf('c', 'kept'), packOf('b', 'stays'))
    removeFile(at, old)
    await index.refresh()
    expect(index.blobs.places(idOf('kept'), 'data').map(({ pack }) => pack)).toEqual([packOf('c').id])
    expect(index.blobs.has(idOf('stays'), 'data')).toBe(true)
    expect(index.blobs.has(idOf('unused'), 'data')).toBe(false)
    expect(at.gets).toEqual([old, fresh])
    expect(index.blobs.hasPack(packOf('a').id)).toBe(false)
    expect(index.blobs.packs).toBe(2)
  })

  test('forgets a whole repository that was emptied, and learns it again', async () => {
    const at = place()
    const only = await write(at, packOf('a', 'one'))
    const index = createLoadedIndex(at)
    await index.refresh()
    const bytes = at.objects.get(`index/${only}`) ?? Buffer.alloc(0)
    removeFile(at, only)
    await index.refresh()
    expect(index.blobs.has(idOf('one'), 'data')).toBe(false)
    at.objects.set(`index/${only}`, bytes)
    await index.refresh()
    expect(index.blobs.has(idOf('one'), 'data')).toBe(true)
  })

  test('what only a wrong index file said of a pack is forgotten with it', async () => {
    const at = place()
    const wrong = await write(at, packOf('a', 'true', 'a lie'), packOf('b', 'other'))
    await write(at, packOf('a', 'true'), packOf('b', 'other'))
    const index = createLoadedIndex(at)
    await index.refresh()
    expect([index.blobs.isContradictory, index.blobs.has(idOf('a lie'), 'data')]).toEqual([true, true])
    removeFile(at, wrong)
    await index.refresh()
    expect([index.blobs.isContradictory, index.blobs.has(idOf('a lie'), 'data')]).toEqual([false, false])
    expect(index.blobs.places(idOf('true'), 'data')).toHaveLength(1)
  })

  test('a pack of which a new file says something else than the one that is gone', async () => {
    const at = place()
    const wrong = await write(at, packOf('a', 'a lie'), packOf('b', 'other', 'and', 'more'))
    const index = createLoadedIndex(at)
    await index.refresh()
    await write(at, packOf('a', 'true'), packOf('b', 'other', 'and', 'more'))
    removeFile(at, wrong)
    await index.refresh()
    expect(['a lie', 'true', 'more'].map((blob) => index.blobs.has(idOf(blob), 'data'))).toEqual([false, true, true])
    expect(index.blobs.isContradictory).toBe(false)
  })

  test('at no moment of a refresh is a blob unknown that is there', async () => {
    const at = place()
    const old = await write(at, packOf('a', 'kept', 'unused'))
    let seen = true
    const index: { current?: ReturnType<typeof createLoadedIndex> } = {}
    const watching: ObjectAccess = {
      ...at,
      store: {
        ...at.store,
        async get(object, range) {
          const bytes = await at.store.get(object, range)
          if (at.gets.length > 1) seen &&= index.current?.blobs.has(idOf('kept'), 'data') ?? false
          return bytes
        },
      },
    }
    index.current = createLoadedIndex(watching)
    await index.current.refresh()
    await write(at, packOf('c', 'kept'))
    await write(at, packOf('d', 'x'))
    removeFile(at, old)
    await index.current.refresh()
    expect(seen).toBe(true)
    expect(index.current.blobs.has(idOf('kept'), 'data')).toBe(true)
  })

  test('what is adopted while a refresh is under way stays, also when everything is read anew', async () => {
    const at = place()
    const first = await write(at, packOf('a', 'one', 'two', 'three'))
    const index = createLoadedIndex(at)
    await index.refresh()
    await write(at, packOf('b', 'four'))
    removeFile(at, first)
    let adopted = 0
    const get = at.store.get
    Object.assign(at.store, {
      get: async (...args: Parameters<typeof get>) => {
        const bytes = await get(...args)
        if (adopted < 5) {
          // Stored, but not in the listing that the refresh goes by.
          adopted += 1
          const pack = packOf(`adopted ${adopted}`, `adopted ${adopted}`)
          index.adopt(await write(at, pack), [pack])
        }
        return bytes
      },
    })
    await index.refresh()
    expect(adopted).toBeGreaterThan(0)
    for (let number = 1; number <= adopted; number += 1) {
      expect(index.blobs.has(idOf(`adopted ${number}`), 'data')).toBe(true)
    }
    expect([index.blobs.has(idOf('four'), 'data'), index.blobs.has(idOf('one'), 'data')]).toEqual([true, false])
  })

  test('files that vanish between listing and reading are listed again', async () => {
    const at = place()
    const old = await write(at, packOf('a', 'one'))
    const list = at.store.list
    let turns = 0
    Object.assign(at.store, {
      async *list(...args: Parameters<typeof list>) {
        yield* list(...args)
        turns += 1
        if (turns === 1) {
          await write(at, packOf('b', 'one'))
          removeFile(at, old)
        }
      },
    })
    const index = createLoadedIndex(at)
    await index.refresh()
    expect(turns).toBe(2)
    expect(index.blobs.places(idOf('one'), 'data').map(({ pack }) => pack)).toEqual([packOf('b').id])
  })
})

describe('damaged index files', () => {
  test.each([
    ['truncated', (bytes: Buffer) => bytes.subarray(0, bytes.length - 1)],
    ['flipped', (bytes: Buffer) => Buffer.from(bytes.map((byte, at) => (at === 20 ? byte ^ 1 : byte)))],
    ['empty', () => Buffer.alloc(0)],
  ])('%s: named, unless they are to be passed over', async (_, harm) => {
    const at = place()
    const broken = await write(at, packOf('a', 'lost'))
    await write(at, packOf('b', 'sound'))
    at.objects.set(`index/${broken}`, harm(at.objects.get(`index/${broken}`) ?? Buffer.alloc(0)))
    const refused = createLoadedIndex(at).refresh()
    await expect(refused).rejects.toThrow(Failure)
    await expect(refused).rejects.toMatchObject({ code: 'object_damaged', message: expect.stringContaining(broken) })
    const index = createLoadedIndex(at, { skipDamaged: true })
    await index.refresh()
    expect(['lost', 'sound'].map((blob) => index.blobs.has(idOf(blob), 'data'))).toEqual([false, true])
  })

  test('a document that is no index is none', async () => {
    const at = place()
    const name = await writeDocument(at, 'index', '{"packs":[{"id":"x"}]}')
    await expect(createLoadedIndex(at).refresh()).rejects.toMatchObject({
      code: 'object_damaged',
      message: expect.stringContaining(name),
    })
  })

  test('a failure leaves what was known as it was, and the next refresh goes on', async () => {
    const at = place()
    await write(at, packOf('a', 'one'))
    const index = createLoadedIndex(at)
    await index.refresh()
    const broken = await write(at, packOf('b', 'two'))
    const sound = at.objects.get(`index/${broken}`) ?? Buffer.alloc(0)
    at.objects.set(`index/${broken}`, Buffer.alloc(3))
    await expect(index.refresh()).rejects.toThrow(Failure)
    expect(index.blobs.has(idOf('one'), 'data')).toBe(true)
    at.objects.set(`index/${broken}`, sound)
    await index.refresh()
    expect(index.blobs.has(idOf('two'), 'data')).toBe(true)
  })
})

test('a repository may be opened without its index, which is read when it is needed', async () => {
  const { objects, source } = await inMemory()
  const reads: string[] = []
  const inner = openMemoryStore(objects)
  const store: BlobStore = {
    ...inner,
    get(object, range) {
      reads.push(object.kind)
      return inner.get(object, range)
    },
  }
  const open = () => openRepository({ store, password, ...world, index: 'whenNeeded' })
  const repository = await open()
  const snapshots = await repository.snapshots()
  await repository.upkeep.listKeys()
  await repository.unlock()
  expect([snapshots.length, reads.includes('index'), reads.includes('snapshot')]).toEqual([2, false, true])
  const [first] = snapshots
  if (first === undefined) throw new Error('there are snapshots')
  for (const use of [
    async (fresh: Repository) => void (await fresh.readTree(first.tree)),
    async (fresh: Repository) => void (await fresh.check()),
    async (fresh: Repository) => void (await fresh.upkeep.prune({ dryRun: true })),
    async (fresh: Repository) => void (await takeSnapshot(fresh, source)),
    async (fresh: Repository) => void (await fresh.upkeep.stats({ mode: 'raw-data', snapshots })),
  ]) {
    reads.length = 0
    await use(await open())
    expect(reads).toContain('index')
  }
  expect((await repository.check({ readData: true })).problems).toEqual([])
})
