/** Comparing, counting and searching with `stillpoint repo`, in the same JSON as the real restic; partial backups. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { hasRestic, linesOf, makeBench, type RepoBench } from './repo-workbench.ts'

let bench: RepoBench
beforeAll(async () => {
  bench = await makeBench()
})
afterAll(() => bench.remove())

const sorted = (values: readonly unknown[]) => values.map((value) => JSON.stringify(value)).sort()

describe.skipIf(!hasRestic)('stillpoint repo, beside restic [needs restic]', () => {
  test('a second backup reads only what has changed; diff and stats are the same', async () => {
    await bench.ok('backup', 'source', '--tag', 'first')
    await writeFile(join(bench.source, 'new.txt'), 'new')
    const [summary] = (await bench.json('backup', 'source')).slice(-1)
    expect(summary).toMatchObject({
      files_new: 1,
      files_changed: 0,
      files_unmodified: 3,
      dirs_changed: 1,
      dirs_unmodified: 3,
    })
    const [snapshots] = (await bench.json('snapshots')) as [readonly { id: string }[]]
    const [first, last] = snapshots.map(({ id }) => id)
    const pair = [first ?? '', last ?? '']
    expect(await bench.json('diff', ...pair)).toEqual(await bench.resticJson('diff', ...pair))
    for (const mode of ['restore-size', 'files-by-contents']) {
      expect(await bench.json('stats', '--mode', mode)).toEqual(await bench.resticJson('stats', '--mode', mode))
    }
  })

  test('find and dump give the same', async () => {
    for (const pattern of ['*.txt', 'below', '/source/a*']) {
      const [ours] = (await bench.json('find', pattern)) as [readonly unknown[]]
      const [theirs] = (await bench.resticJson('find', pattern)) as [readonly unknown[]]
      expect(sorted(ours), pattern).toEqual(sorted(theirs))
    }
    expect(await bench.ok('dump', 'latest', '/source/a.txt')).toBe('hello')
    const missing = await bench.ours('dump', 'latest', '/source/nowhere')
    expect(missing).toMatchObject({ code: 1, stdout: '' })
  })

  test('what is not there is reported, and the rest is saved', async () => {
    const partial = await bench.ours('backup', 'source/a.txt', 'nowhere', '--json')
    expect(partial.code).toBe(3)
    expect(linesOf(partial.stderr)).toMatchObject([
      { message_type: 'error', error: { message: expect.stringContaining('nowhere') }, during: 'archival' },
    ])
    const none = await bench.ours('backup', 'nowhere')
    expect(none).toMatchObject({ code: 1, stdout: '' })
    expect(none.stderr).toContain('error[backup_empty]')
  })
})
