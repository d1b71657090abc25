/** Compatibility with the real restic: what it has written. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newestRestic, restics } from '@stillpoint/testbed'
import { describe, expect, test } from 'vitest'
import { openLocalStore } from './blob/local-store.ts'
import { sha256 } from './format/ids.ts'
import { encodeTree } from './format/tree.ts'
import { openRepository } from './repository.ts'
import { makeSource } from './testing/source-directory.ts'
import { collected, fingerprint, newRepository, reopen, resticOf, scratch, world } from './testing/testbed.ts'

for (const program of restics)
  describe.skipIf(!program.isHere)(`written by ${program.name}, read by us [needs ${program.name}]`, () => {
    const restic = resticOf(program)
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

    // These derive keys as dear as this machine can bear: once is enough.
    if (program !== newestRestic) return
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
