/** Restoring into a directory that has something already. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { lstat, mkdir, readdir, readFile, stat, symlink, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import type { BlobStore, ByteRange } from '../blob/blob-store.ts'
import { openLocalStore } from '../blob/local-store.ts'
import type { LoadedEntry } from '../load/load.ts'
import { openRepository, type Repository } from '../repository.ts'
import { fingerprint, newRepository, password, scratch, takeSnapshot, world } from '../testing/testbed.ts'

const run = promisify(execFile)

interface Bench {
  readonly home: string
  readonly source: string
  readonly target: string
  readonly repository: Repository
  readonly tree: Awaited<ReturnType<typeof takeSnapshot>>['saved']['tree']
  /** Bytes of packs that were read since the last call. */
  readonly readBytes: () => number
}

/** A large file of several blobs, small ones, names of one file, a link; restored once. */
async function bench(): Promise<Bench> {
  const home = await scratch()
  const source = join(home, 'source')
  await mkdir(join(source, 'sub'), { recursive: true })
  await writeFile(join(source, 'large'), randomBytes(12_000_000))
  await writeFile(join(source, 'small'), 'small')
  await writeFile(join(source, 'empty'), '')
  await writeFile(join(source, 'sub', 'other'), 'other')
  await run('sh', [
    '-c',
    'cd "$0" && ln small sub/name && ln -s small link && touch -d 2020-01-01 large small sub/other',
    source,
  ])
  const { saved } = await takeSnapshot(await newRepository(join(home, 'repository')), source)
  const counted = countingStore(openLocalStore(join(home, 'repository')))
  const repository = await openRepository({ store: counted.store, password, ...world })
  const target = join(home, 'target')
  await repository.loadDirectory(saved.tree, target)
  counted.readBytes()
  return { home, source, target, repository, tree: saved.tree, readBytes: counted.readBytes }
}

function countingStore(store: BlobStore): { readonly store: BlobStore; readonly readBytes: () => number } {
  let bytes = 0
  const get = async (object: Parameters<BlobStore['get']>[0], range?: ByteRange) => {
    const read = await store.get(object, range)
    if (object.kind === 'pack') bytes += read.length
    return read
  }
  const readBytes = () => {
    const read = bytes
    bytes = 0
    return read
  }
  return { store: { ...store, get }, readBytes }
}

/** More than the tree takes, less than any blob of the large file. */
const treesBytesMax = 100_000

describe('restoring into what is there', () => {
  for (const overwrite of ['always', 'if-changed'] as const) {
    test(`${overwrite}: what is the same is neither read nor written`, async () => {
      const { source, target, repository, tree, readBytes } = await bench()
      const before = await stat(join(target, 'large'))
      const result = await repository.loadDirectory(tree, target, { overwrite, verify: true })
      expect(result).toMatchObject({ files: 5, unchanged: { files: 5 }, kept: { files: 0 }, problems: [], verified: 5 })
      expect(readBytes()).toBeLessThan(treesBytesMax)
      const after = await stat(join(target, 'large'))
      expect([after.ino, after.ctimeMs]).toEqual([before.ino, before.ctimeMs])
      expect(await fingerprint(target)).toEqual(await fingerprint(source))
    })
  }

  test('only the blobs that differ are read, and the file is written in place', async () => {
    const { source, target, repository, tree, readBytes } = await bench()
    const large = join(target, 'large')
    const { ino } = await stat(large)
    await run('sh', ['-c', 'printf XXXX | dd of="$0" bs=1 seek=6000000 conv=notrunc status=none', large])
    const result = await repository.loadDirectory(tree, target, { overwrite: 'always' })
    expect(result).toMatchObject({ files: 5, unchanged: { files: 4 }, problems: [] })
    expect(readBytes()).toBeLessThan(9_000_000)
    expect((await stat(large)).ino).toBe(ino)
    await truncate(large, 3)
    await repository.loadDirectory(tree, target, { overwrite: 'if-changed' })
    await writeFile(large, Buffer.alloc(20_000_000, 1))
    await repository.loadDirectory(tree, target, { overwrite: 'if-changed', verify: true })
    expect(await fingerprint(target)).toEqual(await fingerprint(source))
  })

  test('the same size and time are trusted by if-changed, and not by always', async () => {
    const { source, target, repository, tree } = await bench()
    const { atime, mtime } = await stat(join(target, 'sub', 'other'))
    await writeFile(join(target, 'sub', 'other'), 'OTHER')
    await utimes(join(target, 'sub', 'other'), atime, mtime)
    await repository.loadDirectory(tree, target, { overwrite: 'if-changed' })
    expect(await readFile(join(target, 'sub', 'other'), 'utf8')).toBe('OTHER')
    const verified = await repository.loadDirectory(tree, target, {
      overwrite: 'if-changed',
      verify: true,
      onProblem: 'continue',
    })
    expect(verified.problems.map(({ path, failure }) => [path, failure.code])).toEqual([
      ['sub/other', 'restored_differs'],
    ])
    await repository.loadDirectory(tree, target, { overwrite: 'always' })
    expect(await fingerprint(target)).toEqual(await fingerprint(source))
  })

  test('never keeps what is there; if-newer what is as new', async () => {
    const { target, repository, tree } = await bench()
    await writeFile(join(target, 'small'), 'mine')
    await run('rm', [join(target, 'empty')])
    const never = await repository.loadDirectory(tree, target, { overwrite: 'never' })
    expect(never).toMatchObject({ files: 1, kept: { files: 4 }, problems: [] })
    expect(await readdir(target)).toContain('empty')
    const newer = await repository.loadDirectory(tree, target, { overwrite: 'if-newer' })
    expect(newer.kept.files).toBe(5)
    expect(await readFile(join(target, 'small'), 'utf8')).toBe('mine')
    await utimes(join(target, 'small'), 1, 1)
    await repository.loadDirectory(tree, target, { overwrite: 'if-newer' })
    expect(await readFile(join(target, 'small'), 'utf8')).toBe('small')
  })

  test('a file with names elsewhere is replaced, not written through', async () => {
    const { home, source, target, repository, tree } = await bench()
    await writeFile(join(home, 'outside'), 'untouched')
    await run('ln', ['-f', join(home, 'outside'), join(target, 'sub', 'other')])
    await run('ln', ['-f', join(home, 'outside'), join(target, 'small')])
    await repository.loadDirectory(tree, target, { overwrite: 'always' })
    expect(await readFile(join(home, 'outside'), 'utf8')).toBe('untouched')
    expect(await fingerprint(target)).toEqual(await fingerprint(source))
  })

  test('delete removes what the snapshot does not have, links unfollowed; a dry run only tells', async () => {
    const { home, source, target, repository, tree } = await bench()
    await mkdir(join(home, 'outside'))
    await writeFile(join(home, 'outside', 'stays'), 'x')
    await mkdir(join(target, 'sub', 'more', 'deep'), { recursive: true })
    await writeFile(join(target, 'sub', 'more', 'deep', 'file'), 'x')
    await symlink(join(home, 'outside'), join(target, 'sub', 'more', 'away'))
    await writeFile(join(target, 'kept.log'), 'x')
    await run('rm', [join(target, 'small')])
    await mkdir(join(target, 'small', 'full'), { recursive: true })
    const told: string[] = []
    const options = {
      overwrite: 'always',
      delete: (path: string) => !path.endsWith('.log'),
      onEntry: ({ outcome, path }: LoadedEntry) => told.push(`${outcome} ${path()}`),
      onDeleted: (path: string) => told.push(`deleted ${path}`),
    } as const
    const before = await fingerprint(target)
    const dry = await repository.loadDirectory(tree, target, { ...options, dryRun: true })
    expect(await fingerprint(target)).toEqual(before)
    expect(dry.deleted).toBe(4)
    expect(told.filter((line) => line.startsWith('deleted')).sort()).toEqual(
      ['away', 'deep', 'deep/file', ''].map((name) => `deleted sub/more/${name}`.replace(/\/$/, '')).sort(),
    )
    expect(told).toContain('restored small')
    const conflict = repository.loadDirectory(tree, target, { overwrite: 'always' })
    await expect(conflict).rejects.toMatchObject({ code: 'target_conflict' })
    const done = await repository.loadDirectory(tree, target, options)
    expect(done.deleted).toBe(6)
    expect(await readdir(join(home, 'outside'))).toEqual(['stays'])
    expect(await readFile(join(target, 'kept.log'), 'utf8')).toBe('x')
    await run('rm', [join(target, 'kept.log')])
    await run('touch', ['-r', source, target])
    expect(await fingerprint(target)).toEqual(await fingerprint(source))
  })

  test('a dry run into a directory that is not there makes none', async () => {
    const { home, repository, tree } = await bench()
    const dry = await repository.loadDirectory(tree, join(home, 'absent'), { overwrite: 'always', dryRun: true })
    expect(dry).toMatchObject({ files: 5, bytes: 12_000_015, unchanged: { files: 0 } })
    await expect(lstat(join(home, 'absent'))).rejects.toMatchObject({ code: 'ENOENT' })
  })
})
