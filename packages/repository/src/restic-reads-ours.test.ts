/** Compatibility with the real restic: what we have written, and both in turns. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { restics } from '@stillpoint/testbed'
import { describe, expect, test } from 'vitest'
import { makeSource } from './testing/source-directory.ts'
import {
  fingerprint,
  newRepository,
  password,
  reopen,
  resticOf,
  scratch,
  seeded,
  takeSnapshot,
} from './testing/testbed.ts'

for (const program of restics)
  describe.skipIf(!program.isHere)(`written by us, read by ${program.name} [needs ${program.name}]`, () => {
    const restic = resticOf(program)
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
      await newRepository(join(home, 'copy'))
      await writeFile(join(home, 'password'), password)
      await restic(path, 'copy', '--repo2', join(home, 'copy'), '--password-file2', join(home, 'password'))
      const copy = await reopen(join(home, 'copy'))
      expect((await copy.check({ readData: true })).problems).toEqual([])
      expect(await copy.snapshots()).toHaveLength(1)
    })
  })
