/** Tags, copies and keys with `stillpoint repo`, as the real restic sees them. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newerResticName, restics } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeBench, type RepoBench } from './repo-workbench.ts'

for (const restic of restics) {
  describe.skipIf(!restic.isHere)(`stillpoint repo, beside ${restic.name} [needs ${restic.name}]`, () => {
    let bench: RepoBench
    beforeAll(async () => {
      bench = await makeBench({ restic })
    })
    afterAll(() => bench.remove())

    test('tag, copy and key: restic sees what we did', async () => {
      await bench.restic('backup', 'source', '--quiet')
      await bench.restic('backup', 'source/a.txt', '--quiet')
      const tagged = await bench.json('tag', '--add', 'kept')
      expect(tagged.at(-1)).toMatchObject({ message_type: 'summary', changed_snapshots: 2 })
      const second = await bench.makeRepository('second')
      const from = ['--from-repo', join(bench.directory, 'repository'), '--from-password-file', 'password']
      await bench.ok('copy', '-r', second, ...from)
      expect(await bench.restic('-r', second, 'check', '--read-data')).toContain('no errors were found')
      const again = await bench.json('copy', '-r', second, ...from)
      expect(again).toMatchObject([{ was_there: true }, { was_there: true }])
      await writeFile(join(bench.directory, 'new'), 'another\n', { mode: 0o600 })
      await bench.ok('key', 'add', '--new-password-file', 'new')
      expect(await bench.restic('--password-file', 'new', 'snapshots', '--tag', 'kept')).toContain('2 snapshots')
      const [ours] = (await bench.json('key', 'list')) as [readonly { readonly id: string }[]]
      const [theirs] = (await bench.resticJson('key', 'list')) as [readonly object[]]
      // Restic 0.14 shows the first digits of ids.
      const shown = (id: string) => (restic.name === newerResticName ? id : id.slice(0, 8))
      const known = ours.map((key) => JSON.stringify({ ...key, id: shown(key.id) })).sort()
      expect(known).toEqual(theirs.map((key) => JSON.stringify(key)).sort())
      expect(ours.map(({ id }) => id.length)).toEqual([64, 64])
    })
  })
}
