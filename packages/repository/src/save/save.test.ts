import { chmod, mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { type BlobStore, listAll } from '../blob/blob-store.ts'
import { openLocalStore } from '../blob/local-store.ts'
import { openMemoryStore } from '../blob/memory-store.ts'
import { sha256, treeId } from '../format/ids.ts'
import { initRepository, openRepository, type Repository } from '../repository.ts'
import { entriesByPack } from '../testing/index-entries.ts'
import {
  clock,
  collected,
  entropy,
  newRepository,
  newVault,
  password,
  reopen,
  scratch,
  scryptCost,
  seeded,
  takeSnapshot,
  world,
} from '../testing/testbed.ts'
import { takeManifest } from './manifest.ts'

const random = seeded(11)

async function inMemory(wrap: (store: BlobStore) => BlobStore = (store) => store): Promise<Repository> {
  const store = openMemoryStore()
  await initRepository({ store, password, entropy, clock, scryptCost })
  return openRepository({ store: wrap(store), password, ...world })
}

const sealed = (repository: Repository, options: object) =>
  repository.seal({ time: 1n, paths: ['/x'], hostname: 'h', username: 'u', ...options })

describe('a save', () => {
  test('gives back what it took, from many streams at once, and stores nothing twice', async () => {
    const repository = await inMemory()
    const contents = Array.from({ length: 30 }, (_, at) => random.bytes([0, 1, 100, 700_000, 2_000_000][at % 5] ?? 0))
    const saveAll = async () => {
      const save = await repository.startSave()
      const saved = await Promise.all([...contents, ...contents].map((bytes) => save.saveBytes(bytes)))
      await save.finish()
      return saved
    }
    const saved = await saveAll()
    for (const [at, file] of saved.entries()) {
      const bytes = contents[at % contents.length] ?? Buffer.alloc(0)
      expect(file.bytes).toBe(bytes.length)
      expect((await collected(repository.readFile(file))).equals(bytes)).toBe(true)
    }
    const before = await repository.check({ readData: true })
    expect(before.problems).toEqual([])
    expect(await saveAll()).toEqual(saved)
    expect(await repository.check({ readData: true })).toEqual(before)
  })

  test('keeps trees and data in separate packs, and packs near 16 MiB', async () => {
    const path = join(await scratch(), 'repository')
    const repository = await newRepository(path)
    const save = await repository.startSave()
    for (let turn = 0; turn < 40; turn += 1) {
      const { content, bytes } = await save.saveBytes(random.bytes(1 << 20))
      await save.saveTree([{ name: `f${turn}`, type: 'file', content, bytes }])
    }
    await save.finish()
    const vault = await newVault(path)
    const { store } = vault
    for (const entries of (await entriesByPack(vault)).values())
      expect(new Set(entries.map((entry) => entry.type)).size).toBe(1)
    const sizes = (await listAll(store, 'pack')).map((pack) => pack.bytes)
    expect(sizes.length).toBeLessThanOrEqual(5)
    expect(Math.max(...sizes)).toBeLessThan(18 << 20)
  })

  test('stores what does not compress as it is', async () => {
    const path = join(await scratch(), 'repository')
    const repository = await newRepository(path)
    const save = await repository.startSave()
    const [dense, loose] = [
      await save.saveBytes(random.bytes(10_000)),
      await save.saveBytes(Buffer.alloc(10_000, 'text ')),
    ]
    await save.finish()
    const { index } = await newVault(path)
    const placeOf = (file: typeof dense) => index.blobs.places(file.content[0] ?? '', 'data')[0]
    expect(placeOf(dense)).toMatchObject({ plainBytes: undefined, length: 10_032 })
    expect(placeOf(loose)).toMatchObject({ plainBytes: 10_000 })
    expect(placeOf(loose)?.length).toBeLessThan(200)
  })

  test('refuses trees over what is not stored, and is closed after its end', async () => {
    const repository = await inMemory()
    const save = await repository.startSave()
    const absent = sha256(Buffer.from('absent'))
    const entries = [
      { name: 'd', type: 'dir', subtree: treeId(absent) },
      { name: 'f', type: 'file', content: [absent as never], bytes: 1 },
    ] as const
    for (const entry of entries) await expect(save.saveTree([entry])).rejects.toMatchObject({ code: 'object_missing' })
    await save.finish()
    await save.discard()
    await expect(save.saveBytes(Buffer.from('late'))).rejects.toMatchObject({ code: 'save_closed' })
  })

  test('that is discarded leaves nothing behind', async () => {
    const path = join(await scratch(), 'repository')
    const repository = await newRepository(path)
    const save = await repository.startSave()
    await save.saveBytes(random.bytes(50 << 20))
    await save.discard()
    const { packs, unreferencedPacks } = await repository.check()
    expect([packs, unreferencedPacks]).toEqual([0, []])
    expect(await readdir(join(path, 'locks'))).toEqual([])
  })

  test('fails when its source fails, and can go on', async () => {
    const repository = await inMemory()
    const save = await repository.startSave()
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield random.bytes(3 << 20)
      throw new Error('source gone')
    }
    await expect(save.saveStream(failing())).rejects.toThrow('source gone')
    const kept = await save.saveBytes(Buffer.from('kept'))
    await save.finish()
    expect(await collected(repository.readFile(kept))).toEqual(Buffer.from('kept'))
  })
})

describe('an abort', () => {
  test('ends a stream whose source hangs, and leaves no lock', async () => {
    const path = join(await scratch(), 'repository')
    const repository = await newRepository(path)
    const save = await repository.startSave()
    async function* hanging(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('some')
      await new Promise(() => {})
    }
    const saving = save.saveStream(hanging(), { signal: AbortSignal.timeout(50) })
    await expect(saving).rejects.toMatchObject({ name: 'TimeoutError' })
    await save.discard()
    expect(await readdir(join(path, 'locks'))).toEqual([])
  })
})

describe('opened for reading only', () => {
  test('reads and checks without a lock, and writes nothing', async () => {
    const home = await scratch()
    const path = join(home, 'repository')
    await mkdir(join(home, 'source'))
    await writeFile(join(home, 'source', 'a'), 'a')
    const { saved } = await takeSnapshot(await newRepository(path), join(home, 'source'))
    const store: BlobStore = { ...openLocalStore(path), put: () => Promise.reject(new Error('not to be written')) }
    const repository = await openRepository({ store, password, ...world, readOnly: true })
    expect((await repository.check({ readData: true })).problems).toEqual([])
    expect(await repository.loadDirectory(saved.tree, join(home, 'restored'))).toMatchObject({ files: 1 })
    const { id } = await repository.findSnapshot('latest')
    for (const writing of [
      repository.startSave(),
      repository.deleteSnapshot(id),
      sealed(repository, { tree: saved.tree }),
    ]) {
      await expect(writing).rejects.toMatchObject({ code: 'repository_read_only' })
    }
  })
})

describe('opening', () => {
  test('what is absent, there already, or not ours to open is named', async () => {
    const path = join(await scratch(), 'repository')
    await expect(reopen(path)).rejects.toMatchObject({ code: 'repository_absent' })
    await newRepository(path)
    await expect(newRepository(path)).rejects.toMatchObject({ code: 'repository_exists' })
    const store = openLocalStore(path)
    const wrong = openRepository({ store, ...world, password: `${password}\n` })
    await expect(wrong).rejects.toMatchObject({ code: 'password_wrong', message: expect.stringContaining(path) })
    const [key] = await listAll(store, 'key')
    await store.delete({ kind: 'config', name: 'config' })
    const again = initRepository({ store, password: 'new', entropy, clock, scryptCost })
    // Nothing was saved yet: what an interrupted init has left is no repository.
    await again
    await expect(reopen(path)).rejects.toMatchObject({ code: 'password_wrong' })
    expect((await listAll(store, 'key')).map(({ name }) => name)).not.toContain(key?.name)
  })

  test('a repository that lost its config is not overwritten', async () => {
    const home = await scratch()
    const path = join(home, 'repository')
    await mkdir(join(home, 'source'))
    await takeSnapshot(await newRepository(path), join(home, 'source'))
    await openLocalStore(path).delete({ kind: 'config', name: 'config' })
    await expect(newRepository(path)).rejects.toMatchObject({ code: 'repository_exists' })
  })

  test('of many inits at once one makes it, and its password opens it', async () => {
    const store = openMemoryStore()
    const passwords = ['a', 'b', 'c', 'd']
    const made = await Promise.allSettled(
      passwords.map((each) => initRepository({ store, password: each, entropy, clock, scryptCost })),
    )
    const winner = passwords[made.findIndex((result) => result.status === 'fulfilled')] ?? ''
    expect(made.filter((result) => result.status === 'fulfilled')).toHaveLength(1)
    expect((await openRepository({ store, ...world, password: winner })).id).toHaveLength(64)
  })
})

describe('when the store fails', () => {
  const full = () => new Failure({ code: 'no_space', message: 'no space is left', retry: 'later' })

  test.each(['pack', 'index', 'snapshot'] as const)(
    'putting a %s: no snapshot, what was listed stays whole',
    async (kind) => {
      let failing = false
      const repository = await inMemory((store) => ({
        ...store,
        put: (object, bytes) => (failing && object.kind === kind ? Promise.reject(full()) : store.put(object, bytes)),
      }))
      const take = async (text: string) => {
        const save = await repository.startSave()
        const { content, bytes } = await save.saveBytes(Buffer.from(text))
        const tree = await save.saveTree([{ name: 'f', type: 'file', content, bytes }])
        await save.finish()
        return sealed(repository, { tree })
      }
      const first = await take('first')
      failing = true
      await expect(take('second')).rejects.toMatchObject({ code: 'no_space' })
      failing = false
      expect((await repository.snapshots()).map((snapshot) => snapshot.id)).toEqual([first])
      expect((await repository.check({ readData: true })).problems).toEqual([])
      await take('third')
      expect(await repository.withLock('exclusive', async () => 'no lock is left')).toBe('no lock is left')
    },
  )

  test('a failed pack poisons the save: nothing that may need it is finished', async () => {
    let failures = 1
    const repository = await inMemory((store) => ({
      ...store,
      put: (object, bytes) => {
        if (object.kind !== 'pack' || failures === 0) return store.put(object, bytes)
        failures -= 1
        return Promise.reject(full())
      },
    }))
    const save = await repository.startSave()
    // More than all packs that are open at a time hold: one of them is full, and stored, well before the end.
    const large = save.saveBytes(random.bytes(120 << 20))
    await expect(large).rejects.toMatchObject({ code: 'no_space' })
    await expect(save.saveBytes(Buffer.from('more'))).rejects.toMatchObject({ code: 'no_space' })
    await expect(save.finish()).rejects.toMatchObject({ code: 'no_space' })
    expect((await repository.check()).packs).toBe(0)
  })
})

describe('sealing', () => {
  test('composes a root over trees of other saves, and refuses what is not whole', async () => {
    const path = join(await scratch(), 'repository')
    const [one, two] = [await newRepository(path), await reopen(path)]
    const trees = []
    for (const repository of [one, two]) {
      const save = await repository.startSave()
      const { content, bytes } = await save.saveBytes(Buffer.from(`by ${trees.length}`))
      trees.push(await save.saveTree([{ name: 'state', type: 'file', content, bytes }]))
      await save.finish()
    }
    const [first, second] = trees
    if (first === undefined || second === undefined) throw new Error('no trees')
    const note = { name: 'note', type: 'symlink', target: 'x' } as const
    const id = await sealed(one, { trees: { 'orders → payments': first, billing: second, notes: [note] } })
    const snapshot = await two.findSnapshot(id.slice(0, 10))
    const state = await two.resolve(snapshot.tree, 'billing/state')
    if (state.type !== 'file') throw new Error('not a file')
    expect((await collected(two.readFile(state))).toString()).toBe('by 1')
    expect((await two.readTree(snapshot.tree)).map((node) => node.name)).toEqual([
      'billing',
      'notes',
      'orders → payments',
    ])
    const absent = treeId(sha256(Buffer.from('absent')))
    await expect(sealed(one, { tree: absent })).rejects.toMatchObject({ code: 'object_missing' })
    await expect(sealed(one, { trees: { a: absent } })).rejects.toMatchObject({ code: 'object_missing' })
    await expect(sealed(one, { trees: { '../a': first } })).rejects.toMatchObject({ code: 'tree_unsafe' })
    await expect(sealed(one, {})).rejects.toMatchObject({ code: 'seal_invalid' })
    const unfinished = await one.startSave()
    const tree = await unfinished.saveTree([{ name: 'not yet', type: 'fifo' }])
    await expect(sealed(two, { tree })).rejects.toMatchObject({ code: 'object_missing' })
    await unfinished.discard()
    expect(await two.snapshots()).toHaveLength(1)
  })

  test('refuses a tree whose data a prune elsewhere has taken', async () => {
    const path = join(await scratch(), 'repository')
    const repository = await newRepository(path)
    const save = await repository.startSave()
    const { content, bytes } = await save.saveBytes(Buffer.from('text'))
    const tree = await save.saveTree([{ name: 'f', type: 'file', content, bytes }])
    await save.finish()
    const store = openLocalStore(path)
    for (const { name } of await listAll(store, 'index')) await store.delete({ kind: 'index', name })
    await expect(sealed(repository, { tree })).rejects.toMatchObject({ code: 'object_missing' })
  })

  test('snapshots are found by prefix, latest and filter', async () => {
    const repository = await inMemory()
    const save = await repository.startSave()
    const tree = await save.saveTree([])
    await save.finish()
    const ids = []
    for (let at = 0; at < 20; at += 1)
      ids.push(await sealed(repository, { tree, time: BigInt(at), tags: [`t${at % 2}`] }))
    expect((await repository.snapshots()).map((snapshot) => snapshot.id)).toEqual(ids)
    expect((await repository.findSnapshot('latest')).id).toBe(ids[19])
    expect((await repository.findSnapshot('latest', { tags: ['t0'] })).id).toBe(ids[18])
    expect((await repository.findSnapshot(ids[3] ?? '')).id).toBe(ids[3])
    const shared = ids.map((id) => id[0]).find((digit, at, all) => all.indexOf(digit) !== at) ?? ''
    await expect(repository.findSnapshot(shared)).rejects.toMatchObject({ code: 'snapshot_ambiguous' })
    for (const absent of ['latest', 'no id', '', '00'.repeat(32)]) {
      const finding = repository.findSnapshot(absent, { hostname: 'nobody' })
      await expect(finding).rejects.toMatchObject({ code: 'snapshot_absent' })
    }
    await repository.deleteSnapshot(ids[19] ?? ('' as never))
    expect((await repository.findSnapshot('latest')).id).toBe(ids[18])
    await expect(repository.deleteSnapshot(ids[19] ?? ('' as never))).rejects.toMatchObject({ code: 'snapshot_absent' })
  })
})

describe('saving a directory', () => {
  async function prepared() {
    const home = await scratch()
    const source = join(home, 'source')
    await mkdir(join(source, 'below'), { recursive: true })
    await writeFile(join(source, 'a'), 'a')
    await writeFile(join(source, 'below', 'b'), 'b')
    return { home, source, repository: await newRepository(join(home, 'repository')) }
  }

  test('tells what differs from a manifest', async () => {
    const { source, repository } = await prepared()
    await writeFile(join(source, 'gone'), 'x')
    await writeFile(join(source, 'out'), 'x')
    const exclude = (path: string) => path === 'out'
    const expected = await takeManifest(source, { exclude })
    expect([...expected.keys()]).toEqual(['a', 'below', 'below/b', 'gone'])
    const save = await repository.startSave()
    expect((await save.saveDirectory(source, { expect: expected, exclude })).changed).toEqual([])
    await writeFile(join(source, 'below', 'b'), 'other')
    await writeFile(join(source, 'below', 'new'), 'new')
    await rm(join(source, 'gone'))
    const { changed, files } = await save.saveDirectory(source, { expect: expected, exclude })
    expect([changed, files]).toEqual([['below/b', 'below/new', 'gone'], 3])
    await save.discard()
  })

  test('tells what changes while it is read', async () => {
    const { source, repository } = await prepared()
    await writeFile(join(source, 'large'), random.bytes(20 << 20))
    const save = await repository.startSave()
    let touched = false
    const { changed } = await save.saveDirectory(source, {
      onProgress: ({ path }) => {
        if (touched || path !== 'large') return
        touched = true
        void writeFile(join(source, 'large'), 'x', { flag: 'a' })
      },
    })
    expect(changed).toEqual(['large'])
    await save.discard()
  })

  test('reads unchanged files of the parent not again, but what changed as late as the parent', async () => {
    const { source, repository } = await prepared()
    const { saved } = await takeSnapshot(repository, source)
    const read: string[] = []
    const chunking = (path: string) => {
      read.push(path)
      return { kind: 'content' } as const
    }
    const save = await repository.startSave()
    const parentTree = saved.tree
    expect((await save.saveDirectory(source, { parentTree, chunking })).tree).toBe(parentTree)
    expect(read).toEqual([])
    const parentTime = BigInt(Date.now()) * 1_000_000n
    expect((await save.saveDirectory(source, { parentTree, parentTime, chunking })).tree).toBe(parentTree)
    expect(read.sort()).toEqual(['a', 'below/b'])
    read.length = 0
    await writeFile(join(source, 'a'), 'A')
    const next = await save.saveDirectory(source, { parentTree, chunking })
    expect([read, next.tree === parentTree]).toEqual([['a'], false])
    await save.discard()
  })

  test('does not follow links, not even as its children', async () => {
    const { home, source, repository } = await prepared()
    await symlink(home, join(source, 'up'))
    const save = await repository.startSave()
    const { tree, files } = await save.saveDirectory(source)
    await save.finish()
    expect(files).toBe(2)
    expect(await repository.resolve(tree, 'up')).toMatchObject({ type: 'symlink', target: home })
  })

  test('what cannot be read is reported, an absent directory fails, an abort ends it', async () => {
    const { home, source, repository } = await prepared()
    const save = await repository.startSave()
    const absent = save.saveDirectory(join(home, 'absent'))
    await expect(absent).rejects.toMatchObject({ message: expect.stringContaining(join(home, 'absent')) })
    const aborted = save.saveDirectory(source, { signal: AbortSignal.abort() })
    await expect(aborted).rejects.toMatchObject({ name: 'AbortError' })
    if (process.getuid?.() !== 0) {
      await chmod(join(source, 'a'), 0)
      const { errors } = await save.saveDirectory(source)
      expect(errors.map(({ path, failure }) => [path, failure.code])).toEqual([['a', 'storage_denied']])
    }
    await save.discard()
  })
})
