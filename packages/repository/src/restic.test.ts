/** Compatibility with the real restic, in both directions and in turns. */
import { execFile } from 'node:child_process'
import { link, mkdir, readdir, readFile, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { openLocalStore } from './blob/local-store.ts'
import { sha256 } from './format/ids.ts'
import { encodeTree } from './format/tree.ts'
import { openRepository } from './repository.ts'
import {
  collected,
  fingerprint,
  hasTool,
  newRepository,
  password,
  reopen,
  restic,
  scratch,
  seeded,
  takeSnapshot,
  world,
} from './testing/testbed.ts'

const run = promisify(execFile)

/** Files of many kinds and names. */
async function makeSource(path: string): Promise<string> {
  await mkdir(join(path, 'below', 'deeper'), { recursive: true })
  await mkdir(join(path, 'empty'), { mode: 0o1777 })
  await writeFile(join(path, 'a'), 'hello')
  await writeFile(join(path, 'nothing'), '')
  await writeFile(join(path, 'below', 'large'), seeded(7).bytes(5_000_000))
  await writeFile(join(path, 'below', 'zeros'), Buffer.alloc(3_000_000))
  await writeFile(join(path, 'below', 'deeper', 'text'), 'line\n'.repeat(10_000), { mode: 0o4751 })
  await link(join(path, 'a'), join(path, 'below', 'another name of a'))
  await symlink('../<&>\u2028', join(path, 'below', 'link'))
  for (const name of [Buffer.from('bad\xff\xfe"\\\n', 'latin1'), Buffer.from('é\u2028\u{1f600}\u0085 <&>\x7f')]) {
    await writeFile(Buffer.concat([Buffer.from(`${path}/`), name]), 'odd')
  }
  await run('mkfifo', [join(path, 'fifo')])
  await utimes(join(path, 'nothing'), 1_900_000_000, new Date(-86_400_500))
  return path
}

describe.skipIf(!hasTool('restic'))('written by us, read by restic [needs restic]', () => {
  test('check --read-data, ls, restore and dump', async () => {
    const home = await scratch()
    const path = join(home, 'repository')
    const source = await makeSource(join(home, 'source'))
    await takeSnapshot(await newRepository(path), source)
    expect(await restic(path, 'check', '--read-data')).toContain('no errors were found')
    const listed = await restic(path, 'ls', 'latest')
    for (const name of ['/files/a', '/files/below/deeper/text', '/files/empty']) expect(listed).toContain(`${name}\n`)
    await restic(path, 'restore', 'latest', '--target', join(home, 'restored'))
    expect(await fingerprint(join(home, 'restored', 'files'))).toEqual(await fingerprint(source))
    expect(await restic(path, 'dump', 'latest', '/files/a')).toBe('hello')
    const [snapshot] = JSON.parse(await restic(path, 'snapshots', '--json')) as Record<string, unknown>[]
    expect(snapshot).toMatchObject({ hostname: 'test-host', username: 'tester', tags: ['test'] })
  })

  test('restic backs up to it, forgets and prunes; then we again', async () => {
    const home = await scratch()
    const path = join(home, 'repository')
    const source = await makeSource(join(home, 'source'))
    const repository = await newRepository(path)
    await takeSnapshot(repository, source)
    await restic(path, 'backup', '--host', 'other', source)
    await writeFile(join(source, 'below', 'large'), seeded(8).bytes(3_000_000))
    const second = await takeSnapshot(repository, source)
    await restic(path, 'forget', '--prune', '--keep-last', '1', '--group-by', '')
    // The index in memory is older than the prune: a save must not build on what is gone.
    const third = await takeSnapshot(repository, source)
    expect((await repository.check({ readData: true })).problems).toEqual([])
    expect((await repository.snapshots()).map((snapshot) => snapshot.id)).toEqual([second.id, third.id])
    await repository.deleteSnapshot(second.id)
    expect(await restic(path, 'prune', '--max-unused', '0')).toContain('done')
    expect(await restic(path, 'check', '--read-data')).toContain('no errors were found')
    const { tree } = await repository.findSnapshot('latest')
    await repository.loadDirectory(tree, join(home, 'restored'))
    expect(await fingerprint(join(home, 'restored', 'files'))).toEqual(await fingerprint(source))
  })

  test('restic copies it to another repository', async () => {
    const home = await scratch()
    const path = join(home, 'repository')
    await takeSnapshot(await newRepository(path), await makeSource(join(home, 'source')))
    await restic(join(home, 'copy'), 'init')
    await writeFile(join(home, 'password'), password)
    await restic(path, 'copy', '--repo2', join(home, 'copy'), '--password-file2', join(home, 'password'))
    const copy = await reopen(join(home, 'copy'))
    expect((await copy.check({ readData: true })).problems).toEqual([])
    expect(await copy.snapshots()).toHaveLength(1)
  })
})

describe.skipIf(!hasTool('restic'))('written by restic, read by us [needs restic]', () => {
  test('check, list, read and restore', async () => {
    const home = await scratch()
    const path = join(home, 'repository')
    const source = await makeSource(join(home, 'source'))
    await restic(path, 'init')
    await restic(path, 'backup', '--tag', 'one', source)
    await restic(path, 'backup', '--compression', 'off', '--tag', 'two', source)
    const repository = await reopen(path)
    expect((await repository.check({ readData: true })).problems).toEqual([])
    const snapshot = await repository.findSnapshot('latest', { tags: ['two'] })
    expect(snapshot.paths).toEqual([source])
    const node = await repository.resolve(snapshot.tree, source)
    if (node.type !== 'dir') throw new Error('not a directory')
    const result = await repository.loadDirectory(node.subtree, join(home, 'restored'))
    expect(result).toMatchObject({ problems: [], skipped: [] })
    expect(await fingerprint(join(home, 'restored'))).toEqual(await fingerprint(source))
    const large = await repository.resolve(node.subtree, 'below/large')
    if (large.type !== 'file') throw new Error('not a file')
    expect(await collected(repository.readFile(large))).toEqual(await readFile(join(source, 'below', 'large')))
  })

  test('equal directories are equal trees, byte for byte', async () => {
    const home = await scratch()
    const path = join(home, 'repository')
    const source = await makeSource(join(home, 'source'))
    await newRepository(path)
    // Restic cuts by another hash: only files of one chunk have the same content ids.
    await restic(path, 'backup', '--exclude', 'large', '--exclude', 'zeros', source)
    const repository = await reopen(path)
    const theirs = await repository.resolve((await repository.findSnapshot('latest')).tree, source)
    const save = await repository.startSave()
    const ours = await save.saveDirectory(source, { exclude: (name) => /large|zeros/.test(name) })
    await save.finish()
    if (theirs.type !== 'dir') throw new Error('not a directory')
    expect(await repository.readTree(ours.tree)).toEqual(await repository.readTree(theirs.subtree))
    expect(ours.tree).toBe(theirs.subtree)
  })

  test('trees that we decode and encode keep their bytes', async () => {
    const home = await scratch()
    const path = join(home, 'repository')
    const repository = await newRepository(path)
    await restic(path, 'backup', await makeSource(join(home, 'source')))
    const open = [(await repository.findSnapshot('latest')).tree]
    for (let tree = open.pop(); tree !== undefined; tree = open.pop()) {
      const nodes = await repository.readTree(tree)
      expect(sha256(encodeTree(nodes))).toBe(tree)
      for (const node of nodes) if (node.type === 'dir') open.push(node.subtree)
    }
  })

  test('further passwords open it', async () => {
    const home = await scratch()
    const path = join(home, 'repository')
    await newRepository(path)
    await writeFile(join(home, 'second'), 'the second password')
    await restic(path, 'key', 'add', '--new-password-file', join(home, 'second'))
    expect(await readdir(join(path, 'keys'))).toHaveLength(2)
    const store = openLocalStore(path)
    const second = await openRepository({ store, ...world, password: 'the second password' })
    expect((await second.check()).problems).toEqual([])
  })

  test('version 1 is refused', async () => {
    const path = join(await scratch(), 'repository')
    await restic(path, 'init', '--repository-version', '1')
    await expect(reopen(path)).rejects.toMatchObject({ code: 'repository_version_unsupported' })
  })
})
