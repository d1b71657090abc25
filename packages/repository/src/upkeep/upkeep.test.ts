/** Tags, copies, statistics, differences, archives: against the real restic where it says the same. */
import { execFile } from 'node:child_process'
import { chmod, link, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Failure } from '@stillpoint/core/kernel'
import { restics } from '@stillpoint/testbed'
import { describe, expect, test } from 'vitest'
import type { BlobStore } from '../blob/blob-store.ts'
import { type MemoryObjects, openMemoryStore } from '../blob/memory-store.ts'
import { initRepository, openRepository } from '../repository.ts'
import { placesFor } from '../testing/pack-places.ts'
import { contents, fill, inMemory, openMemory } from '../testing/prunable.ts'
import { makeSource } from '../testing/source-directory.ts'
import {
  clock,
  entropy,
  fingerprint,
  newRepository,
  password,
  reopen,
  resticOf,
  scratch,
  scryptCost,
  seeded,
  takeSnapshot,
  world,
} from '../testing/testbed.ts'
import { packsToRead, parseDataSubset } from './data-subset.ts'
import type { TreeChange } from './diff-trees.ts'
import { statsModes } from './stats.ts'

const run = promisify(execFile)

async function emptyRepository(): Promise<MemoryObjects> {
  const objects: MemoryObjects = new Map()
  await initRepository({ store: openMemoryStore(objects), password, entropy, clock, scryptCost })
  return objects
}

/** What snapshots hold, whatever their ids are. */
const withoutIds = (found: Record<string, string>) =>
  Object.entries(found)
    .map(([path, content]) => `${path.slice(64)} ${content}`)
    .sort()

describe('copy', () => {
  test('of many packs tells how much it was', async () => {
    const random = seeded(5)
    const home = await scratch()
    const source = join(home, 'source')
    await mkdir(source)
    for (let file = 0; file < 45; file += 1) await writeFile(join(source, `${file}`), random.bytes(1_000_000))
    const from = await newRepository(join(home, 'from'))
    await takeSnapshot(from, source)
    const into = await newRepository(join(home, 'into'))
    const [copied] = await into.upkeep.copyFrom(from, { snapshots: await from.snapshots() })
    const trees = (copied?.bytesCopied ?? 0) - 45_000_000
    expect(trees).toBeGreaterThan(0)
    expect(trees).toBeLessThan(100_000)
  })

  test('brings everything, and nothing twice', async () => {
    const { objects } = await inMemory()
    const source = await openMemory(objects)
    const target = await openMemory(await emptyRepository())
    const snapshots = await source.snapshots()
    const [first, second] = await target.upkeep.copyFrom(source, { snapshots })
    expect(first?.blobsCopied).toBeGreaterThan(second?.blobsCopied ?? 0)
    expect(second?.blobsCopied).toBeGreaterThan(0)
    expect(withoutIds(await contents(target))).toEqual(withoutIds(await contents(source)))
    const again = await target.upkeep.copyFrom(source, { snapshots })
    expect(again.every(({ wasThere, blobsCopied }) => wasThere && blobsCopied === 0)).toBe(true)
    // And back: what came from there is known there.
    const back = await source.upkeep.copyFrom(target, { snapshots: await target.snapshots() })
    expect(back.every(({ wasThere }) => wasThere)).toBe(true)
    expect((await target.snapshots()).map(({ original }) => original)).toEqual(snapshots.map(({ id }) => id))
  })

  test('that dies at any write leaves a sound target, and the next one finishes', async () => {
    const { objects } = await inMemory()
    const source = await openMemory(objects)
    const snapshots = await source.snapshots()
    const empty = await emptyRepository()
    let steps = 0
    for (let died = true; died; steps += 1) {
      const copy: MemoryObjects = new Map(empty)
      const store = openMemoryStore(copy)
      let count = 0
      const dying: BlobStore = {
        ...store,
        put(object, bytes) {
          count += 1
          if (count > steps) return Promise.reject(new Failure({ code: 'storage_failed', message: 'died' }))
          return store.put(object, bytes)
        },
      }
      const target = await openRepository({ store: dying, password, ...world })
      died = await target.upkeep.copyFrom(source, { snapshots }).then(
        () => false,
        () => true,
      )
      for (const key of copy.keys()) if (key.startsWith('lock/')) copy.delete(key)
      const after = await openMemory(copy)
      expect((await after.check({ readData: true })).problems, `died after ${steps}`).toEqual([])
      await after.upkeep.copyFrom(source, { snapshots })
      expect(withoutIds(await contents(after))).toEqual(withoutIds(await contents(source)))
      expect(steps).toBeLessThan(100)
    }
    expect(steps).toBeGreaterThan(5)
  })

  test('of a damaged source writes no snapshot', async () => {
    const { objects } = await inMemory()
    const packs = [...objects.keys()].filter((key) => key.startsWith('pack/'))
    for (const key of packs) objects.delete(key)
    const source = await openMemory(objects)
    const target = await openMemory(await emptyRepository())
    const copying = target.upkeep.copyFrom(source, { snapshots: await source.snapshots() })
    await expect(copying).rejects.toMatchObject({ code: 'object_missing' })
    expect(await target.snapshots()).toEqual([])
  })
})

describe('tags', () => {
  test('are set, added and removed, and the origin stays', async () => {
    const { objects } = await inMemory()
    const repository = await openMemory(objects)
    const [first] = await repository.snapshots()
    if (first === undefined) throw new Error('no snapshot')
    const [added] = await repository.upkeep.tag({ snapshots: [first], add: ['a', 'b', 'a'] })
    expect(added?.tags).toEqual(['test', 'a', 'b'])
    const now = await repository.upkeep.resolveSnapshot(added?.newId ?? '')
    expect(now).toEqual({ ...first, id: now.id, tags: ['test', 'a', 'b'], original: first.id })
    const [removed] = await repository.upkeep.tag({ snapshots: [now], remove: ['test', 'b'] })
    expect(removed?.tags).toEqual(['a'])
    const later = await repository.upkeep.resolveSnapshot(removed?.newId ?? '')
    expect(later.original).toBe(first.id)
    expect(await repository.upkeep.tag({ snapshots: [later], add: ['a'] })).toEqual([])
    await repository.upkeep.tag({ snapshots: [later], set: [] })
    expect((await repository.snapshots()).map(({ tags }) => tags)).toEqual([[], ['test']])
  })
})

describe('a subset of the data', () => {
  const packs = Array.from({ length: 300 }, (_, at) => ({
    name: seeded(at + 1)
      .bytes(32)
      .toString('hex'),
    bytes: 100,
  }))
  const places = placesFor(packs)
  const choose = (text: string) => [...packsToRead(places, parseDataSubset(text), seeded(5))]

  test('in parts reads every pack once', () => {
    const parts = [1, 2, 3, 4, 5, 6, 7].flatMap((part) => choose(`${part}/7`))
    const names = parts.map((place) => places.packAt(place)?.name ?? '')
    expect(names.toSorted()).toEqual(packs.map(({ name }) => name).toSorted())
  })
  test.each([
    ['10%', 30],
    ['0.1%', 1],
    ['100%', 300],
    ['1k', 10],
    ['50', 1],
    ['1T', 300],
  ])('%s reads %d packs', (text, count) => {
    expect(new Set(choose(text)).size).toBe(count)
  })
  test.each(['0/3', '4/3', '1/300', '0%', '101%', 'x', '-1', '', '1.5G'])('%j is refused', (text) => {
    expect(() => parseDataSubset(text)).toThrow('no part of the data')
  })
  test('reads what it says', async () => {
    const { objects } = await inMemory()
    const repository = await openMemory(objects)
    const report = await repository.check({ dataSubset: { kind: 'percent', percent: 30 } })
    expect(report.packsRead).toBe(Math.floor(report.packs * 0.3))
    expect(report.bytesRead).toBeGreaterThan(0)
  })
})

describe('an archive', () => {
  test('is unpacked by tar to what was saved', async () => {
    const home = await scratch()
    const source = await makeSource(join(home, 'source'))
    await mkdir(join(source, 'n'.repeat(120), 'm'.repeat(120)), { recursive: true })
    await symlink('t'.repeat(200), join(source, 'n'.repeat(120), 'm'.repeat(120), 'long link'))
    const repository = await newRepository(join(home, 'repository'))
    const { saved } = await takeSnapshot(repository, source)
    const pieces: Uint8Array[] = []
    for await (const piece of repository.upkeep.tar(saved.tree)) pieces.push(piece)
    await writeFile(join(home, 'archive.tar'), Buffer.concat(pieces))
    await mkdir(join(home, 'unpacked'))
    await run('tar', ['-C', join(home, 'unpacked'), '-xpf', join(home, 'archive.tar')])
    const plain = (found: Record<string, string>) =>
      Object.fromEntries(Object.entries(found).map(([path, text]) => [path, text.replace(/file \d+ \d+/, 'file')]))
    expect(plain(await fingerprint(join(home, 'unpacked')))).toEqual(plain(await fingerprint(source)))
  })
})

for (const program of restics)
  describe.skipIf(!program.isHere)(`with the real ${program.name} [needs ${program.name}]`, () => {
    const restic = resticOf(program)
    test('statistics and differences are the same', async () => {
      const home = await scratch()
      const path = join(home, 'repository')
      const source = await makeSource(join(home, 'source'))
      const repository = await newRepository(path)
      const first = await takeSnapshot(repository, source)
      await rm(join(source, 'below', 'deeper'), { recursive: true })
      await rm(join(source, 'nothing'))
      await symlink('elsewhere', join(source, 'nothing'))
      await writeFile(join(source, 'below', 'zeros'), seeded(5).bytes(100_000))
      await mkdir(join(source, 'new', 'newer'), { recursive: true })
      await link(join(source, 'a'), join(source, 'new', 'newer', 'linked'))
      await chmod(join(source, 'empty'), 0o700)
      const second = await takeSnapshot(repository, source)
      const snapshots = await repository.snapshots()
      for (const mode of statsModes) {
        const theirs = JSON.parse(await restic(path, 'stats', '--json', '--mode', mode)) as Record<string, number>
        const ours = await repository.upkeep.stats({ mode, snapshots })
        expect({ mode, size: ours.totalBytes, files: ours.files, blobs: ours.blobs }).toEqual({
          mode,
          size: theirs['total_size'],
          // 0.18 leaves it out where it counts none.
          files: theirs['total_file_count'] ?? 0,
          blobs: theirs['total_blob_count'] ?? 0,
        })
      }
      for (const flags of [[], ['--metadata']]) {
        const lines = (await restic(path, 'diff', '--json', ...flags, first.id, second.id)).trim().split('\n')
        const theirs = lines.map((line) => JSON.parse(line) as Record<string, unknown>)
        const changes: TreeChange[] = []
        const { tree: from } = await repository.findSnapshot(first.id)
        const { tree: to } = await repository.findSnapshot(second.id)
        const stats = await repository.upkeep.diff({
          from,
          to,
          metadata: flags.length > 0,
          onChange: (change) => changes.push(change),
        })
        const told = theirs.filter((line) => line['message_type'] === 'change')
        expect(changes.map(({ path: at, modifier }) => `${modifier} ${at}`).sort()).toEqual(
          told.map((line) => `${line['modifier']} ${line['path']}`).sort(),
        )
        const amount = ({ dataBlobs, treeBlobs, ...rest }: (typeof stats)['added']) => ({
          ...rest,
          data_blobs: dataBlobs,
          tree_blobs: treeBlobs,
        })
        expect(theirs.at(-1)).toMatchObject({
          changed_files: stats.changedFiles,
          added: amount(stats.added),
          removed: amount(stats.removed),
        })
      }
    })

    test('what we have tagged and copied is sound for it; its tags and copies are so for us', async () => {
      const home = await scratch()
      const [path, other] = [join(home, 'repository'), join(home, 'other')]
      const source = join(home, 'source')
      const repository = await newRepository(path)
      await fill(repository, source)
      await restic(path, 'backup', source)
      const target = await newRepository(other)
      await repository.upkeep.tag({ snapshots: await repository.snapshots(), add: ['ours'] })
      const snapshots = await (await reopen(path)).snapshots()
      await target.upkeep.copyFrom(await reopen(path), { snapshots })
      expect(await restic(other, 'check', '--read-data')).toContain('no errors were found')
      await writeFile(join(home, 'password'), password)
      const from = ['--from-repo', path, '--from-password-file', join(home, 'password')]
      // What we have copied, restic does not copy again.
      expect(await restic(other, 'copy', ...from)).not.toContain('saved')
      expect(await target.snapshots()).toHaveLength(snapshots.length)
      await restic(other, 'tag', '--add', 'theirs')
      const tagged = await target.snapshots()
      expect(tagged.map(({ original }) => original)).toEqual(snapshots.map(({ original, id }) => original ?? id))
      expect(tagged.every(({ tags }) => tags.includes('ours') && tags.includes('theirs'))).toBe(true)
      expect(await readFile(join(source, '0'))).toHaveLength(40_000)
    })
  })
