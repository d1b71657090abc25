/** Backups of paths: where they lie in the snapshot, what is reported, and what is a failure of the whole. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { expect, test } from 'vitest'
import type { BlobStore } from '../blob/blob-store.ts'
import { type MemoryObjects, openMemoryStore } from '../blob/memory-store.ts'
import { initRepository, openRepository, type Repository } from '../repository.ts'
import type { ExcludeRules } from '../selection/exclude-rules.ts'
import { clock, collected, entropy, password, scratch, scryptCost, world } from '../testing/testbed.ts'
import type { BackupOptions } from './backup.ts'

const common = { hostname: 'h', username: 'u', tags: ['t'], time: 1_700_000_000_000_000_000n, programVersion: 'test' }

async function bench(change: (store: BlobStore) => BlobStore = (store) => store) {
  const objects: MemoryObjects = new Map()
  const store = openMemoryStore(objects)
  await initRepository({ store, password, entropy, clock, scryptCost })
  const repository = await openRepository({ store: change(store), password, ...world })
  const cwd = join(await scratch(), 'home')
  await mkdir(join(cwd, 'a', 'b'), { recursive: true })
  await writeFile(join(cwd, 'a', 'one'), 'one')
  await writeFile(join(cwd, 'a', 'b', 'two'), 'two')
  const backup = (paths: readonly string[], more: Partial<BackupOptions> = {}) =>
    repository.upkeep.backup({ ...common, cwd, source: { kind: 'paths', paths }, ...more })
  return { repository, cwd, backup, objects }
}

async function pathsOf(repository: Repository, id: string): Promise<readonly string[]> {
  const paths: string[] = []
  const { tree } = await repository.findSnapshot(id)
  for await (const { path } of repository.upkeep.walk(tree)) paths.push(path)
  return paths
}

test('relative paths lie as they were given, absolute ones below the root, "." at the root', async () => {
  const { repository, cwd, backup } = await bench()
  const relative = await backup(['a/b', './a/one', 'a/../a/one'])
  expect(await pathsOf(repository, relative.id)).toEqual(['/a', '/a/b', '/a/b/two', '/a/one'])
  const snapshot = await repository.findSnapshot(relative.id)
  expect(snapshot).toMatchObject({ hostname: 'h', tags: ['t'], time: common.time })
  expect(snapshot.paths).toEqual([join(cwd, 'a', 'b'), join(cwd, 'a', 'one')])
  const absolute = await backup([join(cwd, 'a', 'b')])
  expect((await pathsOf(repository, absolute.id)).at(-1)).toBe(join(cwd, 'a', 'b', 'two'))
  expect(await pathsOf(repository, (await backup(['.'])).id)).toEqual(['/a', '/a/b', '/a/b/two', '/a/one'])
  expect(await pathsOf(repository, (await backup(['.', '../home/a'])).id)).toEqual([
    '/a',
    '/a/b',
    '/a/b/two',
    '/a/one',
    '/home',
    '/home/a',
    '/home/a/b',
    '/home/a/b/two',
    '/home/a/one',
  ])
  expect((await repository.check({ readData: true })).problems).toEqual([])
})

test('a directory and something in it are saved once, and what is excluded not at all', async () => {
  const { repository, cwd, backup } = await bench()
  const both = await backup(['a', 'a/one'])
  expect(await pathsOf(repository, both.id)).toEqual(['/a', '/a/b', '/a/b/two', '/a/one'])
  const without = await backup(['a'], { exclude: (path) => path === join(cwd, 'a', 'b') })
  expect(await pathsOf(repository, without.id)).toEqual(['/a', '/a/one'])
  expect(without.added.dataBlobs).toBe(0)
})

test('what is missing is reported; nothing at all is a failure', async () => {
  const { repository, backup } = await bench()
  const partial = await backup(['missing', 'a/one'])
  expect(partial.problems.map(({ path }) => path.split('/').at(-1))).toEqual(['missing'])
  await expect(backup(['missing'])).rejects.toMatchObject({ code: 'backup_empty' })
  expect(await repository.snapshots()).toHaveLength(1)
})

test('a store that fails is a failure of the backup, not of a path', async () => {
  const full: Failure = new Failure({ code: 'no_space', message: 'reading and writing: full' })
  const { repository, backup } = await bench((store) => ({
    ...store,
    put: (object, bytes) => (object.kind === 'pack' ? Promise.reject(full) : store.put(object, bytes)),
  }))
  await expect(backup(['a', 'a/one'])).rejects.toMatchObject({ code: 'no_space' })
  expect(await repository.snapshots()).toEqual([])
})

test('an abort ends it, and leaves no lock', async () => {
  const { repository, backup } = await bench()
  const controller = new AbortController()
  controller.abort(new Failure({ code: 'interrupted', message: 'Interrupted' }))
  await expect(backup(['a', 'a/one'], { signal: controller.signal })).rejects.toMatchObject({ code: 'interrupted' })
  expect(await repository.unlock({ all: true })).toBe(0)
})

test('a stream has a name', async () => {
  const { repository, backup } = await bench()
  async function* stream() {
    yield Buffer.from('one ')
    yield Buffer.from('two')
  }
  const saved = await backup([], { source: { kind: 'stream', name: 'dumps/shop.sql', stream: stream() } })
  const node = await repository.resolve(saved.tree, 'dumps/shop.sql')
  if (node.type !== 'file') throw new Error('no file')
  expect((await collected(repository.readFile(node))).toString()).toBe('one two')
  expect(saved).toMatchObject({ files: 1, bytes: 7, added: { dataBlobs: 1, treeBlobs: 2 } })
})

test('what has changed since the parent is counted on the way', async () => {
  const { repository, cwd, backup } = await bench()
  const first = await backup(['a/one', 'a/b'])
  expect(first.counts).toEqual({
    files: { new: 2, changed: 0, unmodified: 0 },
    dirs: { new: 2, changed: 0, unmodified: 0 },
  })
  const parent = await repository.findSnapshot(first.id)
  // Times long past: else what is as young as the parent is read again.
  const late = { parent: { ...parent, time: BigInt(Date.now() + 3_600_000) * 1_000_000n } }
  const again = await backup(['a/one', 'a/b'], late)
  expect(again.tree).toBe(first.tree)
  expect(again.added).toEqual({ dataBlobs: 0, treeBlobs: 0, bytes: 0, storedBytes: 0 })
  expect(again.counts).toEqual({
    files: { new: 0, changed: 0, unmodified: 2 },
    dirs: { new: 0, changed: 0, unmodified: 2 },
  })
  await writeFile(join(cwd, 'a', 'b', 'two'), 'three')
  await writeFile(join(cwd, 'a', 'b', 'new'), 'new')
  const told: string[] = []
  const changed = await backup(['a/one', 'a/b'], {
    ...late,
    onEntry: ({ path, change }) => told.push(`${path} ${change}`),
  })
  expect(told.sort()).toEqual(['/a changed', '/a/b changed', '/a/b/new new', '/a/b/two changed', '/a/one unmodified'])
  expect(changed.counts.files).toEqual({ new: 1, changed: 1, unmodified: 1 })
})

test('the snapshot says the same as the report, and how much was stored is what the packs take', async () => {
  const { repository, cwd, backup, objects } = await bench()
  const startTime = 1_600_000_000_000_000_001n
  const { id, summary, added, files, bytes } = await backup(['a'], { startTime })
  expect((await repository.findSnapshot(id)).summary).toEqual(summary)
  const packs = [...objects].filter(([key]) => key.startsWith('pack/'))
  expect(added.storedBytes).toBe(packs.reduce((sum, [, { length }]) => sum + length, 0))
  expect([files, bytes]).toEqual([2, 6])
  expect(summary).toMatchObject({ backupStart: startTime, filesNew: 2n, dirsNew: 2n, dataBlobs: 2n, treeBlobs: 3n })
  expect(summary).toMatchObject({ totalFilesProcessed: 2n, totalBytesProcessed: 6n })
  expect(summary.dataAddedPacked).toBe(BigInt(added.storedBytes))
  expect(summary.backupEnd).toBeGreaterThan(startTime)
  const parent = await repository.findSnapshot(id)
  await writeFile(join(cwd, 'a', 'one'), 'one more')
  const next = await backup(['a'], { parent, skipIfUnchanged: true })
  expect((await repository.findSnapshot(next.id)).summary).toMatchObject({ filesChanged: 1n, totalBytesProcessed: 11n })
  const none = await backup(['a'], { parent: await repository.findSnapshot(next.id), skipIfUnchanged: true })
  expect(none).toMatchObject({ isSealed: false, summary: { dataAdded: 0n, totalFilesProcessed: 2n } })
  expect(await repository.snapshots()).toHaveLength(2)
})

test('every file of a tree by its name is the tree, in one walk for each directory', async () => {
  const { cwd, backup } = await bench()
  const targets: string[] = []
  for (let folder = 0; folder < 30; folder += 1) {
    const path = `top/${folder % 7}/${folder}`
    await mkdir(join(cwd, path), { recursive: true })
    for (let file = 0; file < 3; file += 1) {
      targets.push(`${path}/${file}`)
      await writeFile(join(cwd, path, `${file}`), `${folder} ${file}`)
    }
  }
  const whole = await backup(['top'])
  const shown: number[] = []
  const given = ['top/none', ...targets, ...targets.slice(5, 20), 'top/3/absent', './top/0/0/1']
  const named = await backup(given, { onProgress: ({ files }) => shown.push(files) })
  expect([named.tree, named.files, named.bytes]).toEqual([whole.tree, 90, whole.bytes])
  expect(shown).toEqual(Array.from({ length: 90 }, (_, at) => at + 1))
  expect(named.problems.map(({ path }) => path)).toEqual([join(cwd, 'top/none'), join(cwd, 'top/3/absent')])
  expect(named.counts).toEqual(whole.counts)
})

test.each<[string, ExcludeRules, readonly string[]]>([
  ['a pattern', { patterns: [{ text: '*wo' }] }, ['/a', '/a/b', '/a/one']],
  ['a pattern in any case', { patterns: [{ text: 'B', ignoreCase: true }] }, ['/a', '/a/one']],
  ['a length', { patterns: [], fileBytesMax: 2 }, ['/a', '/a/b']],
  ['a marker', { patterns: [], markers: [{ name: 'two', header: 'tw' }] }, ['/a', '/a/b', '/a/b/two', '/a/one']],
  ['another file system', { patterns: [], fileSystems: [{ path: '/', device: 0n }] }, []],
])('%s leaves out what it is for, also where threads look', async (_, excludeRules, left) => {
  const { repository, cwd, backup } = await bench()
  if (excludeRules.markers !== undefined) await writeFile(join(cwd, 'a', 'b', 'three'), 'left out')
  const saving = backup(['a'], { excludeRules, excludes: ['*.x'] })
  if (left.length === 0) return expect(saving).rejects.toMatchObject({ code: 'backup_empty' })
  const { id } = await saving
  expect(await pathsOf(repository, id)).toEqual(left)
  expect((await repository.findSnapshot(id)).excludes).toEqual(['*.x'])
})

test('a dry run reads and counts everything, and stores nothing', async () => {
  const { repository, backup } = await bench()
  const dry = await backup(['a'], { dryRun: true })
  expect(dry).toMatchObject({ files: 2, added: { dataBlobs: 2, treeBlobs: 3 }, counts: { files: { new: 2 } } })
  expect(await repository.snapshots()).toEqual([])
  const real = await backup(['a'])
  expect(real).toMatchObject({ tree: dry.tree, added: { ...dry.added, storedBytes: real.added.storedBytes } })
  expect((await repository.check({ readData: true })).problems).toEqual([])
})

test('an abort in the middle leaves no snapshot and no lock', async () => {
  const { repository, backup } = await bench()
  const controller = new AbortController()
  const interrupted = new Failure({ code: 'interrupted', message: 'Interrupted' })
  const onEntry = () => controller.abort(interrupted)
  await expect(backup(['a'], { signal: controller.signal, onEntry })).rejects.toMatchObject({ code: 'interrupted' })
  expect(await repository.snapshots()).toEqual([])
  expect(await repository.unlock({ all: true })).toBe(0)
})
