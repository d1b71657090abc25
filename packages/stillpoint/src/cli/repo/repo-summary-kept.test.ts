/** The summaries of restic’s snapshots, after what we have done with them: kept, and of the size that they then have. */
import { join } from 'node:path'
import { openLocalStore, openRepository } from '@stillpoint/repository'
import { newerResticName, restics } from '@stillpoint/testbed'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { systemClock, systemEntropy } from '../../system-env.ts'
import { makeBench, type RepoBench } from './repo-workbench.ts'

interface Listed {
  readonly hostname: string
  readonly summary?: Readonly<Record<string, unknown>>
}

const [program] = restics.filter(({ name }) => name === newerResticName)
describe.skipIf(program?.isHere !== true)(`summaries of ${newerResticName} [needs ${newerResticName}]`, () => {
  let bench: RepoBench
  beforeEach(async () => {
    bench = await makeBench(program === undefined ? {} : { restic: program })
  })
  afterEach(() => bench.remove())

  const listed = async (...args: readonly string[]): Promise<readonly Listed[]> => {
    const [snapshots] = (await bench.resticJson('snapshots', ...args)) as [readonly Listed[]]
    return snapshots
  }

  test('stay as they are: tagged, with another host, copied', async () => {
    await bench.restic('backup', 'source', '--quiet', '--tag', 'theirs')
    const summaries = (await listed()).map(({ summary }) => summary)
    expect(summaries).toMatchObject([{ files_new: 3, total_files_processed: 3, total_bytes_processed: 8009 }])
    await bench.ok('tag', '--add', 'ours')
    await bench.ok('rewrite', '--new-host', 'other', '--forget')
    expect((await listed('--tag', 'ours,theirs', '--host', 'other')).map(({ summary }) => summary)).toEqual(summaries)
    const target = await bench.makeRepository('target')
    const from = ['--from-repo', join(bench.directory, 'repository'), '--from-password-file', 'password']
    await bench.ok('copy', '-r', target, ...from)
    const args = ['snapshots', '-r', target, '--json']
    expect(await bench.ok(...args)).toBe(await bench.restic(...args))
    expect((await listed('-r', target)).map(({ summary }) => summary)).toEqual(summaries)
  })

  test('rewrite: number and size of what is left, as restic counts them', async () => {
    for (const host of ['ours', 'theirs']) await bench.restic('backup', 'source', '--quiet', '--host', host)
    await bench.ok('rewrite', '--host', 'ours', '--exclude', '*.log', '--forget')
    await bench.restic('rewrite', '--host', 'theirs', '--exclude', '*.log', '--forget')
    const [ours, theirs] = await listed()
    expect(ours?.summary).toMatchObject({ files_new: 3, total_files_processed: 2, total_bytes_processed: 9 })
    expect(theirs?.summary).toMatchObject({ total_files_processed: 2, total_bytes_processed: 9 })
    expect(await bench.ok('rewrite', '--snapshot-summary')).toBe('no snapshot changes by that\n')
    expect(await bench.restic('rewrite', '-s')).toContain('no snapshots were modified')
  })

  test('rewrite --snapshot-summary: as restic, for snapshots that have none', async () => {
    const store = openLocalStore(join(bench.directory, 'repository'))
    const repository = await openRepository({ store, password: 'secret', clock: systemClock, entropy: systemEntropy })
    const save = await repository.startSave()
    const { tree } = await save.saveDirectory(bench.source)
    await save.finish()
    for (const hostname of ['ours', 'theirs']) {
      await repository.seal({ time: 0n, paths: ['/source'], hostname, username: 'u', tree })
    }
    await repository.close()
    expect(await bench.ok('snapshots')).not.toContain('Size')
    const shown = await bench.ok('rewrite', '-s', '--host', 'ours', '--forget')
    expect(shown).toMatch(/: [0-9a-f]{8} has a summary: 3 files, 7.8 KiB\nrewrote 1 snapshot\n$/)
    await bench.restic('rewrite', '-s', '--host', 'theirs', '--forget')
    const [ours, theirs] = await listed()
    expect(ours?.summary).toEqual(theirs?.summary)
    expect(ours?.summary).toMatchObject({
      backup_start: '0001-01-01T00:00:00Z',
      files_new: 0,
      total_files_processed: 3,
      total_bytes_processed: 8009,
    })
    const [line] = await bench.json('rewrite', '-s', '--exclude', '*.log', '--dry-run', '--host', 'ours')
    expect(line).toMatchObject({ new_snapshot_id: null, total_files_processed: 2, total_bytes_processed: 9 })
  })
})
