/** The summaries of our snapshots, as restic shows them, beside its own of the same files. */
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newerResticName, restics } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { linesOf, makeBench, type RepoBench } from './repo-workbench.ts'

interface Listed {
  readonly id: string
  readonly hostname: string
  readonly parent?: string
  readonly summary?: Readonly<Record<string, unknown>>
}

/** Without what depends on time, and on how blobs are compressed. */
function countsOf(told: unknown) {
  const varying = ['data_added_packed', 'backup_start', 'backup_end', 'total_duration', 'snapshot_id', 'dry_run']
  return Object.fromEntries(Object.entries(Object(told)).filter(([name]) => !varying.includes(name)))
}

/** Of the second who saves a file, nothing is new. */
const blobs = { data_blobs: 0, tree_blobs: 0, data_added: 0 }

const [program] = restics.filter(({ name }) => name === newerResticName)
describe.skipIf(program?.isHere !== true)(`summaries, beside ${newerResticName} [needs ${newerResticName}]`, () => {
  let bench: RepoBench
  beforeAll(async () => {
    bench = await makeBench(program === undefined ? {} : { restic: program })
  })
  afterAll(() => bench.remove())

  const listed = async (...args: readonly string[]): Promise<readonly Listed[]> => {
    const [snapshots] = (await bench.resticJson('snapshots', ...args)) as [readonly Listed[]]
    return snapshots
  }
  const told = async (args: readonly string[]) => Object((await bench.json('backup', ...args)).at(-1))
  const toldByRestic = async (args: readonly string[]) => Object((await bench.resticJson('backup', ...args)).at(-1))

  test('restic shows what we have told, and tells the same of the same tree', async () => {
    const ours = await told(['source', '--host', 'ours'])
    const [snapshot] = await listed()
    const { backup_start, backup_end, ...counts } = snapshot?.summary ?? {}
    const { message_type: _, total_duration: __, snapshot_id, ...rest } = ours
    expect(rest).toEqual({ ...counts, backup_start, backup_end })
    expect(snapshot_id).toBe(snapshot?.id)
    expect(Date.parse(String(backup_end))).toBeGreaterThan(Date.parse(String(backup_start)))
    // Into an empty one, as ours.
    await rm(join(bench.directory, 'repository'), { recursive: true })
    await bench.makeRepository('repository')
    const theirs = await toldByRestic(['source', '--host', 'theirs'])
    expect(countsOf(ours)).toEqual(countsOf(theirs))
    expect(ours.data_added_packed / theirs.data_added_packed).toBeGreaterThan(0.8)
    expect(ours.data_added_packed / theirs.data_added_packed).toBeLessThan(1.25)
  })

  test('the same after a change, with a parent; nothing is written where nothing has changed', async () => {
    await told(['source', '--host', 'ours'])
    await mkdir(join(bench.source, 'new'))
    await writeFile(join(bench.source, 'new', 'file'), 'x'.repeat(1234))
    await writeFile(join(bench.source, 'a.txt'), 'hello again')
    const theirs = await toldByRestic(['source', '--host', 'theirs'])
    // The same blobs again, for us.
    expect(theirs).toMatchObject({
      files_new: 1,
      files_changed: 1,
      files_unmodified: 2,
      dirs_new: 1,
      dirs_changed: 1,
    })
    const ours = await told(['source', '--host', 'ours', '--dry-run'])
    expect(ours).toMatchObject({ dry_run: true, data_added: 0 })
    expect({ ...countsOf(ours), ...blobs }).toEqual({ ...countsOf(theirs), ...blobs })
    await told(['source', '--host', 'ours'])
    const before = (await listed()).length
    for (const tell of [told, toldByRestic]) {
      const skipped = await tell(['source', '--host', 'ours', '--skip-if-unchanged'])
      expect(skipped).toMatchObject({ files_unmodified: 4, data_blobs: 0, tree_blobs: 0, data_added: 0 })
      expect(skipped.snapshot_id).toBeUndefined()
    }
    expect(await listed()).toHaveLength(before)
  })

  test('of what a command prints: the second time, it has changed since its parent', async () => {
    const args = ['--stdin-from-command', '--stdin-filename', 'dump.sql', '--', 'printf', 'a dump']
    const lastOf = (text: string) => Object(linesOf(text).at(-1))
    for (const files of [{ files_new: 1 }, { files_changed: 1, files_new: 0 }]) {
      const ours = lastOf(await bench.ok('backup', '--host', 'ours', '--json', ...args))
      const theirs = lastOf(await bench.restic('backup', '--host', 'theirs', '--json', ...args))
      expect(ours).toMatchObject({ ...files, total_files_processed: 1, total_bytes_processed: 6 })
      expect({ ...countsOf(ours), ...blobs }).toEqual({ ...countsOf(theirs), ...blobs })
    }
    const dumps = (await listed('--path', '/dump.sql')).filter(({ hostname }) => hostname === 'ours')
    expect(dumps.map(({ parent }) => parent !== undefined)).toEqual([false, true])
    expect(dumps.map(({ summary }) => summary?.['total_bytes_processed'])).toEqual([6, 6])
  })

  test('sizes stand in tables, where there are any', async () => {
    const sizeOf = (text: string) => /Size\n/.exec(text.replace(/ +\n/g, '\n'))?.[0]
    expect(sizeOf(await bench.ok('snapshots'))).toBe('Size\n')
    expect(sizeOf(await bench.ok('snapshots', '--compact'))).toBe('Size\n')
    expect(await bench.ok('snapshots', '--path', '/dump.sql')).toMatch(/ 6 B\n/)
    expect(await bench.restic('snapshots', '--path', '/dump.sql')).toMatch(/ 6 B *\n/)
    expect(sizeOf(await bench.ok('forget', '--keep-last', '9', '--dry-run'))).toBe('Size\n')
  })
})
