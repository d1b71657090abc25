/** What `stillpoint repo backup` tells of itself, beside the real restic. */
import { rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { restics } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeBench, type RepoBench } from './repo-workbench.ts'

/** Fields of the summary that do not depend on how files are cut, nor on time. */
const countsOf = (summary: unknown) =>
  Object.fromEntries(
    Object.entries(Object(summary)).filter(([name]) => /^(files|dirs)_|^total_(files|bytes)/.test(name)),
  )

for (const restic of restics) {
  describe.skipIf(!restic.isHere)(`backup, beside ${restic.name} [needs ${restic.name}]`, () => {
    let bench: RepoBench
    beforeAll(async () => {
      bench = await makeBench({ restic })
      await writeFile(join(bench.source, 'large.bin'), Buffer.alloc(70_000, 7))
    })
    afterAll(() => bench.remove())

    test('the summary counts the same, of a first, an unchanged and a changed tree', async () => {
      const path = join(bench.source, 'below')
      const both = async () => {
        const [mine] = (await bench.json('backup', 'source/below', '--host', 'ours')).slice(-1)
        const [other] = (await bench.resticJson('backup', 'source/below', '--host', 'theirs')).slice(-1)
        expect(countsOf(mine)).toEqual(countsOf(other))
        return countsOf(mine)
      }
      expect(await both()).toMatchObject({ files_new: 2, files_changed: 0 })
      expect(await both()).toMatchObject({ files_new: 0, files_unmodified: 2, dirs_changed: 0 })
      await writeFile(join(path, 'b.log'), 'another')
      await writeFile(join(path, 'new'), 'new')
      await symlink('new', join(path, 'another-link'))
      expect(await both()).toMatchObject({ files_new: 1, files_changed: 1, files_unmodified: 1 })
      await rm(join(path, 'new'))
      await both()
    })

    test('a dry run stores nothing, and tells the same', async () => {
      const path = join(bench.source, 'large.bin')
      const count = async () => ((await bench.json('snapshots')) as [readonly unknown[]])[0].length
      const before = await count()
      const [dry] = (await bench.json('backup', path, '--dry-run', '--host', 'dry')).slice(-1)
      expect(dry).toMatchObject({ files_new: 1, data_blobs: 1, dry_run: true })
      expect(await count()).toBe(before)
      expect(await bench.ok('backup', path, '--dry-run', '--no-lock')).toContain('nothing was stored (dry run)')
    })

    test('status and items are told with --json as restic tells them', async () => {
      const fields = (lines: readonly unknown[], type: string) =>
        lines.filter((line) => Object(line)['message_type'] === type).map((line) => Object(line))
      const mine = await bench.json('backup', 'source', '-v', '-v', '--host', 'verbose')
      const other = await bench.resticJson('backup', 'source', '-v', '-v', '--host', 'verbose2')
      const items = (lines: readonly unknown[]) =>
        fields(lines, 'verbose_status')
          .filter(({ action }) => action !== 'scan_finished')
          .map(({ action, item }) => `${action} ${item}`)
          .sort()
      expect(items(mine).filter((line) => !line.includes('link'))).toEqual(items(other))
      const [status] = fields(mine, 'status')
      expect(status).toMatchObject({ percent_done: expect.any(Number), current_files: [expect.any(String)] })
      const { total_files_processed, total_bytes_processed } = Object(mine.at(-1))
      const counted = { total_files: total_files_processed, data_size: total_bytes_processed }
      const ended = mine.filter((line) => Object(line)['action'] === 'scan_finished')
      expect(ended).toMatchObject([{ message_type: 'verbose_status', item: '', ...counted }])
      const uncounted = await bench.json('backup', 'source', '-v', '-v', '--no-scan')
      expect(uncounted.filter((line) => Object(line)['action'] === 'scan_finished')).toEqual([])
      expect(fields(await bench.json('backup', 'source', '--quiet'), 'status')).toEqual([])
      expect(await bench.ok('backup', 'source', '--quiet')).toBe('')
    })
  })
}
