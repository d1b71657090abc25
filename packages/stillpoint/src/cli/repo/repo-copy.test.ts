/** Tags, copies and keys with `stillpoint repo`, as the real restic sees them. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { hasRestic, makeBench, type RepoBench } from './repo-workbench.ts'

let bench: RepoBench
beforeAll(async () => {
  bench = await makeBench()
})
afterAll(() => bench.remove())

describe.skipIf(!hasRestic)('stillpoint repo, beside restic [needs restic]', () => {
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
    const [ours] = (await bench.json('key', 'list')) as [readonly object[]]
    const [theirs] = (await bench.resticJson('key', 'list')) as [readonly object[]]
    expect(ours.map((key) => JSON.stringify(key)).sort()).toEqual(theirs.map((key) => JSON.stringify(key)).sort())
  })
})
