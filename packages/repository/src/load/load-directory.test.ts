import { execFile } from 'node:child_process'
import { chmod, lstat, mkdir, open, readdir, readFile, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { TreeId } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { sha256, treeId } from '../format/ids.ts'
import type { Repository } from '../repository.ts'
import type { TreeEntry } from '../save/tree-entry.ts'
import { fingerprint, newRepository, newVault, scratch, seeded, takeSnapshot } from '../testing/testbed.ts'
import { secondsOf } from './file-times.ts'
import type { LoadedEntry } from './load.ts'
import { loadDirectory } from './load-directory.ts'

const run = promisify(execFile)

async function savedTree(repository: Repository, entries: readonly TreeEntry[]): Promise<TreeId> {
  const save = await repository.startSave()
  try {
    const tree = await save.saveTree(entries)
    await save.finish()
    return tree
  } finally {
    await save.discard()
  }
}

async function fileEntry(repository: Repository, name: string, text: string): Promise<TreeEntry> {
  const save = await repository.startSave()
  const { content, bytes } = await save.saveBytes(Buffer.from(text))
  await save.finish()
  return { name, type: 'file', content, bytes }
}

/** Stores a tree that `encodeTree` would refuse. */
async function storeRaw(path: string, json: string): Promise<TreeId> {
  const vault = await newVault(path)
  const { createBlobSink } = await import('../save/blob-sink.ts')
  const sink = createBlobSink(vault)
  const plaintext = Buffer.from(json)
  await sink.put({ id: sha256(plaintext), type: 'tree', plaintext })
  await sink.finish()
  return treeId(sha256(plaintext))
}
const times =
  '"mtime":"2020-01-01T00:00:00Z","atime":"2020-01-01T00:00:00Z","ctime":"2020-01-01T00:00:00Z","uid":0,"gid":0'
const node = (name: string, more = '"type":"file","content":[]') => `{"name":${JSON.stringify(name)},${times},${more}}`

describe('what is saved is restored', () => {
  test('files, links, holes, fifos, devices, modes, owners, times', async () => {
    const home = await scratch()
    const source = join(home, 'source')
    await mkdir(join(source, 'below'), { recursive: true })
    const sparse = await open(join(source, 'sparse'), 'w')
    await sparse.write(Buffer.from('end'), 0, 3, 6_000_000)
    await sparse.close()
    await run('sh', [
      '-c',
      `cd "$0" && echo text > file && ln file below/second && ln -s /etc/passwd absolute && ln -s .. below/up &&
       mkfifo -m 640 fifo && chmod 4755 file && touch -d '1965-03-04T05:06:07.123456Z' below/old &&
       touch -d '2024-01-01T00:00:00Z' whole && chmod 555 below`,
      source,
    ])
    if (process.getuid?.() === 0) {
      await run('sh', [
        '-c',
        'cd "$0" && mknod null c 1 3 && mknod disk b 259 300000 && chown -h 12:34 absolute file',
        source,
      ])
    }
    const repository = await newRepository(join(home, 'repository'))
    const { saved } = await takeSnapshot(repository, source)
    expect(saved).toMatchObject({ changed: [], errors: [], skipped: [] })
    const result = await repository.loadDirectory(saved.tree, join(home, 'restored'))
    expect(result).toMatchObject({ files: saved.files, bytes: saved.bytes, problems: [], skipped: [] })
    expect(await fingerprint(join(home, 'restored'))).toEqual(await fingerprint(source))
    expect((await lstat(join(home, 'restored', 'sparse'))).blocks).toBeLessThan(100)
    for (const name of process.getuid?.() === 0 ? ['null', 'disk'] : []) {
      const [made, given] = await Promise.all(['restored', 'source'].map((place) => lstat(join(home, place, name))))
      expect(made?.rdev).toBe(given?.rdev)
    }
  })

  test('times that a number cannot say exactly are right to the microsecond', () => {
    const random = seeded(3)
    for (let turn = 0; turn < 20_000; turn += 1) {
      const time = BigInt(random.uint32()) * 1_000_000_000n + BigInt(random.uint32() % 1_000_000_000)
      const value = Number(secondsOf(time))
      const given = BigInt(Math.trunc(value)) * 1_000_000_000n + BigInt(Math.trunc((value % 1) * 1e9))
      expect(given / 1000n).toBe(time / 1000n)
    }
  })

  test('sockets are told of, not dropped in silence', async () => {
    const home = await scratch()
    const { createServer } = await import('node:net')
    const source = join(home, 'source')
    await mkdir(source)
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(join(source, 'socket'), resolve))
    const repository = await newRepository(join(home, 'repository'))
    const save = await repository.startSave()
    expect((await save.saveDirectory(source)).skipped).toEqual(['socket'])
    await save.discard()
    server.close()
    const unknown = savedTree(repository, [{ name: 'what', type: 'irregular' }])
    await expect(unknown).rejects.toMatchObject({ code: 'node_unsupported' })
    const nodes = [node('socket', '"type":"socket","content":null'), node('what', '"type":"door","content":null')]
    const tree = await storeRaw(join(home, 'repository'), `{"nodes":[${nodes.join()}]}`)
    const { skipped } = await repository.loadDirectory(tree, join(home, 'restored'))
    expect(skipped.map((entry) => entry.path)).toEqual(['socket', 'what'])
  })

  test('a target that is not empty is refused; overwriting replaces what is in the way', async () => {
    const home = await scratch()
    const repository = await newRepository(join(home, 'repository'))
    const file = await fileEntry(repository, 'file', 'new')
    const subtree = await savedTree(repository, [file])
    const tree = await savedTree(repository, [file, { name: 'dir', type: 'dir', subtree }])
    const target = join(home, 'target')
    await mkdir(target)
    await writeFile(join(home, 'outside'), 'untouched')
    await symlink(join(home, 'outside'), join(target, 'file'))
    await symlink(home, join(target, 'dir'))
    await writeFile(join(target, 'other'), 'stays')
    await expect(repository.loadDirectory(tree, target)).rejects.toMatchObject({ code: 'target_not_empty' })
    await repository.loadDirectory(tree, target, { overwrite: 'always' })
    expect(await readFile(join(target, 'file'), 'utf8')).toBe('new')
    expect(await readFile(join(target, 'dir', 'file'), 'utf8')).toBe('new')
    expect(await readFile(join(target, 'other'), 'utf8')).toBe('stays')
    expect(await readFile(join(home, 'outside'), 'utf8')).toBe('untouched')
    expect(await readdir(home)).not.toContain('file')
    await rm(join(target, 'file'))
    await mkdir(join(target, 'file'))
    const conflict = repository.loadDirectory(tree, target, { overwrite: 'always' })
    await expect(conflict).rejects.toMatchObject({ code: 'target_conflict' })
  })

  test('damage stops it, or is collected while the rest is restored', async () => {
    const home = await scratch()
    const path = join(home, 'repository')
    const repository = await newRepository(path)
    const whole = await fileEntry(repository, 'whole', 'fine')
    const packs = await repository.check()
    const broken = await fileEntry(repository, 'broken', 'not fine')
    const tree = await savedTree(repository, [broken, whole])
    expect(packs.problems).toEqual([])
    const vault = await newVault(path)
    const [place] = broken.type === 'file' ? vault.index.blobs.places(broken.content[0] ?? '', 'data') : []
    if (place === undefined) throw new Error('not there')
    await unlink(vault.store.locate({ kind: 'pack', name: place.pack }))
    await expect(repository.loadDirectory(tree, join(home, 'one'))).rejects.toMatchObject({ code: 'object_missing' })
    const result = await repository.loadDirectory(tree, join(home, 'two'), { onProblem: 'continue' })
    expect(result.problems.map(({ path: at, failure }) => [at, failure.code])).toEqual([['broken', 'object_missing']])
    expect(await readFile(join(home, 'two', 'whole'), 'utf8')).toBe('fine')
  })

  test('of a file of which one piece is lost the others are restored, and it is not taken for whole', async () => {
    const home = await scratch()
    const path = join(home, 'repository')
    const repository = await newRepository(path)
    const text = seeded(7).bytes(4_000_000)
    const save = await repository.startSave()
    const { content, bytes } = await save.saveBytes(Buffer.from(text))
    const mtime = 1_700_000_000_000_000_000n
    const tree = await save.saveTree([{ name: 'file', type: 'file', content, bytes, mtime }])
    await save.finish()
    expect(content.length).toBeGreaterThan(2)
    const vault = await newVault(path)
    const [place] = vault.index.blobs.places(content[1] ?? '', 'data')
    if (place === undefined) throw new Error('not there')
    const pack = vault.store.locate({ kind: 'pack', name: place.pack })
    await chmod(pack, 0o600)
    const damaged = await readFile(pack)
    damaged.writeUInt8(damaged.readUInt8(place.offset + 20) ^ 1, place.offset + 20)
    await writeFile(pack, damaged)
    const target = join(home, 'target')
    for (const overwrite of ['always', 'if-changed'] as const) {
      const result = await repository.loadDirectory(tree, target, { overwrite, verify: true, onProblem: 'continue' })
      expect(result.problems.map(({ path: at, failure }) => [at, failure.code])).toEqual([['file', 'object_damaged']])
      expect(result).toMatchObject({ files: 0, unchanged: { files: 0 }, planned: { entries: 1, bytes } })
      const expected = Buffer.from(text)
      const begin = vault.index.blobs.plainBytes(content[0] ?? '', 'data') ?? 0
      expected.fill(0, begin, begin + (vault.index.blobs.plainBytes(content[1] ?? '', 'data') ?? 0))
      expect((await readFile(join(target, 'file'))).equals(expected)).toBe(true)
      expect((await lstat(join(target, 'file'), { bigint: true })).mtimeNs).not.toBe(mtime)
    }
  })

  test('each entry is told once, and counted, however the tree is cut', async () => {
    const home = await scratch()
    const source = join(home, 'source')
    await mkdir(join(source, 'a', 'b'), { recursive: true })
    await mkdir(join(source, 'c'))
    const script = 'for d in a a/b c; do for f in 1 2 3; do echo $d$f > $d/$f; done; done'
    await run('sh', ['-c', `cd "$0" && ${script} && ln a/1 c/linked && ln -s 1 c/soft && mkfifo pipe`, source])
    const repository = await newRepository(join(home, 'repository'))
    const { saved } = await takeSnapshot(repository, source)
    const vault = await newVault(join(home, 'repository'))
    for (const sectionFilesMax of [1, 2, 1000]) {
      for (const options of [{ dryRun: true }, {}, { overwrite: 'always' }, { overwrite: 'never' }] as const) {
        const told: (LoadedEntry & { readonly at: string })[] = []
        const where = { tree: saved.tree, targetPath: join(home, `${sectionFilesMax}`), sectionFilesMax }
        const lockSignal = new AbortController().signal
        const onEntry = (entry: LoadedEntry) => told.push({ ...entry, at: entry.path() })
        const loaded = await loadDirectory(vault, { ...where, lockSignal }, { ...options, onEntry })
        const count = (wanted: Partial<LoadedEntry>) =>
          told.filter((entry) =>
            Object.entries(wanted).every(([key, value]) => Object.is(Reflect.get(entry, key), value)),
          ).length
        expect(new Set(told.map(({ at }) => at)).size).toBe(15)
        expect([told.length, loaded.planned.entries]).toEqual([15, 15])
        expect([count({ kind: 'file' }), count({ kind: 'link' }), count({ kind: 'dir' })]).toEqual([9, 1, 3])
        const isThere = 'overwrite' in options
        expect(count({ kind: 'file', outcome: 'restored' })).toBe(isThere ? 0 : 9)
        expect(count({ outcome: 'kept' })).toBe(isThere && options.overwrite === 'never' ? 12 : 0)
        expect(loaded.files + loaded.kept.files).toBe(10)
        expect(loaded.bytes + loaded.kept.bytes).toBe(loaded.planned.bytes + 3)
      }
    }
  })

  test('an abort ends it', async () => {
    const home = await scratch()
    const repository = await newRepository(join(home, 'repository'))
    const tree = await savedTree(repository, [await fileEntry(repository, 'a', 'text')])
    const loading = repository.loadDirectory(tree, join(home, 'target'), { signal: AbortSignal.abort() })
    await expect(loading).rejects.toMatchObject({ name: 'AbortError' })
    expect(await readdir(join(home, 'repository', 'locks'))).toEqual([])
  })
})

describe('hostile trees', () => {
  const names = ['..', '.', '', '/etc/x', '../escaped', 'a/../../escaped', 'a\\x00b', '\\x2e\\x2e', '\\x2fescaped']
  for (const name of names) {
    test(`the name ${JSON.stringify(name)} is refused before anything is written`, async () => {
      const home = await scratch()
      const repository = await newRepository(join(home, 'repository'))
      const sound = await fileEntry(repository, 'first', 'x')
      const hostile = await storeRaw(join(home, 'repository'), `{"nodes":[${node(name)}]}`)
      const tree = await savedTree(repository, [sound, { name: 'second', type: 'dir', subtree: hostile }])
      const loading = repository.loadDirectory(tree, join(home, 'target'), { onProblem: 'continue' })
      await expect(loading).rejects.toMatchObject({ code: 'tree_unsafe' })
      expect((await readdir(home)).sort()).toEqual(['repository'])
    })
  }

  test('a link and a directory of one name', async () => {
    const home = await scratch()
    const path = join(home, 'repository')
    const repository = await newRepository(path)
    const subtree = await savedTree(repository, [await fileEntry(repository, 'escaped', 'x')])
    const both = [
      node('a', `"type":"symlink","linktarget":${JSON.stringify(home)},"content":null`),
      node('a', `"type":"dir","content":null,"subtree":"${subtree}"`),
    ]
    const tree = await storeRaw(path, `{"nodes":[${both.join()}]}`)
    await expect(repository.loadDirectory(tree, join(home, 'target'))).rejects.toMatchObject({ code: 'tree_unsafe' })
    expect(await readdir(home)).not.toContain('escaped')
    expect((await repository.check()).problems).toEqual([])
  })

  test('hard links of a tree cannot lead to files that the restore has not written', async () => {
    const home = await scratch()
    const repository = await newRepository(join(home, 'repository'))
    const linked = { inode: 7n, deviceId: 1n, links: 2n }
    const one = { ...(await fileEntry(repository, 'one', 'first')), ...linked }
    const two = { ...(await fileEntry(repository, 'two', 'second')), ...linked }
    await repository.loadDirectory(await savedTree(repository, [one, two]), join(home, 'target'))
    expect(await readFile(join(home, 'target', 'one'), 'utf8')).toBe('first')
    expect(await readFile(join(home, 'target', 'two'), 'utf8')).toBe('second')
  })

  test.skipIf(process.platform !== 'linux')('links swapped in while it restores are not followed', async () => {
    const home = await scratch()
    const repository = await newRepository(join(home, 'repository'))
    const files = await Promise.all(['a', 'b', 'c', 'd'].map((name) => fileEntry(repository, name, name.repeat(1000))))
    let subtree = await savedTree(repository, files)
    for (let depth = 0; depth < 4; depth += 1) {
      subtree = await savedTree(repository, [...files, { name: 'sub', type: 'dir', subtree }])
    }
    const outside = join(home, 'outside')
    const target = join(home, 'target')
    await mkdir(outside)
    let swaps = 0
    for (let turn = 0; turn < 20; turn += 1) {
      await rm(target, { recursive: true, force: true })
      const swap = ({ path }: { path: string }) => {
        // Called between two writes: the worst moment to change a directory that is being written into.
        if (swaps > turn || !path.includes('sub/')) return
        swaps += 1
        void rename(join(target, 'sub'), join(target, 'moved'))
          .then(() => symlink(outside, join(target, 'sub')))
          .catch(() => {}) // the restore may have been faster
      }
      await repository.loadDirectory(subtree, target, { onProgress: swap, onProblem: 'continue' })
    }
    expect(swaps).toBeGreaterThan(10)
    expect(await readdir(outside)).toEqual([])
  })
})
