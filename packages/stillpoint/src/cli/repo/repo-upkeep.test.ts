/** Looking after a repository with `stillpoint repo`, beside the real restic; exit codes and environment. */
import { chmod, readdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { hasRestic, makeBench, type RepoBench } from './repo-workbench.ts'

let bench: RepoBench
beforeAll(async () => {
  bench = await makeBench()
})
afterAll(() => bench.remove())

const sound = async () => expect(await bench.restic('check', '--read-data')).toContain('no errors were found')

describe.skipIf(!hasRestic)('stillpoint repo, beside restic [needs restic]', () => {
  test('forget decides as restic does, in the same JSON; prune leaves a sound repository', async () => {
    const times = ['2024-01-01 10:00:00', '2024-01-01 11:00:00', '2024-02-03 10:00:00', '2024-02-04 10:00:00']
    for (const [at, time] of times.entries()) {
      await writeFile(join(bench.source, 'a.txt'), `content ${at} `.repeat(3000))
      await bench.restic('backup', 'source', '--time', time, '--quiet')
    }
    // Counts that are used up before the oldest: there restic 0.14 and later ones agree.
    const policy = ['--keep-last', '1', '--keep-daily', '2', '--dry-run']
    expect(await bench.json('forget', ...policy)).toEqual(await bench.resticJson('forget', ...policy))
    await bench.ok('forget', '--keep-last', '1', '--keep-daily', '2', '--prune', '--max-unused', '0')
    const [snapshots] = (await bench.resticJson('snapshots')) as [readonly unknown[]]
    expect(snapshots).toHaveLength(2)
    await sound()
    expect(await bench.restic('prune', '--dry-run', '--max-unused', '0')).toContain('unused size after prune: 0 B')
  })

  test('a damaged index is found by check, and repaired', async () => {
    const folder = join(bench.directory, 'repository', 'index')
    for (const name of await readdir(folder)) {
      await chmod(join(folder, name), 0o600)
      await truncate(join(folder, name), 20)
    }
    const checked = await bench.ours('check')
    expect(checked.code).toBe(1)
    expect(checked.stderr).toContain('is damaged')
    expect((await bench.ours('prune')).code).toBe(1)
    await bench.ok('repair', 'index')
    await bench.ok('repair', 'snapshots', '--dry-run')
    expect(await bench.ok('check', '--read-data-subset', '100%')).toContain('no errors were found')
    await sound()
  })
})
