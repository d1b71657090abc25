/** Saving, reading and restoring with `stillpoint repo`, beside the real restic on one repository. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { newerResticName, restics } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeBench, type RepoBench } from './repo-workbench.ts'

const runFile = promisify(execFile)
/** Names, modes, times and content below a directory. */
async function listing(directory: string): Promise<string> {
  const find =
    'find . -printf "%P %y %m %U %G %l %s %Td%TH%TM%TS\\n" | sed "s/\\.\\([0-9]\\{6\\}\\)[0-9]*$/.\\1/" | sort'
  const { stdout } = await runFile('sh', ['-c', `${find}; find . -type f | sort | xargs -r sha256sum`], {
    cwd: directory,
  })
  return stdout.replace(/^ d.*$/m, '')
}

const sorted = (values: readonly unknown[]) => values.map((value) => JSON.stringify(value)).sort()

for (const restic of restics) {
  describe.skipIf(!restic.isHere)(`stillpoint repo, beside ${restic.name} [needs ${restic.name}]`, () => {
    let bench: RepoBench
    beforeAll(async () => {
      bench = await makeBench({ restic })
    })
    afterAll(() => bench.remove())

    /** Fields that restic 0.14 neither writes nor shows. */
    const isNewer = restic.name === newerResticName
    const summaryLater = ['data_added_packed', 'backup_start', 'backup_end']
    const snapshotLater = isNewer ? {} : { program_version: undefined, summary: undefined }

    test('backup: restic restores what we saved, and tells the same of it', async () => {
      const [summary] = (await bench.json('backup', 'source', '--tag', 'ours,first')).slice(-1)
      const theirs = await bench.resticJson('backup', 'source', '--tag', 'theirs', '--force')
      const shown = Object.keys(Object(summary)).filter((name) => isNewer || !summaryLater.includes(name))
      expect(shown).toEqual(Object.keys(Object(theirs.at(-1))))
      expect(summary).toMatchObject({ files_new: 3, dirs_new: 4, total_files_processed: 3, files_unmodified: 0 })
      expect(await bench.restic('check', '--read-data')).toContain('no errors were found')
      await bench.restic('restore', 'latest', '--tag', 'ours', '--target', 'restored-by-restic')
      expect(await listing(join(bench.directory, 'restored-by-restic', 'source'))).toEqual(await listing(bench.source))
      await bench.ok('restore', 'latest', '--tag', 'theirs', '--target', 'restored-by-us')
      expect(await listing(join(bench.directory, 'restored-by-us', 'source'))).toEqual(await listing(bench.source))
    })

    test('snapshots and ls have the same JSON', async () => {
      const [ours] = (await bench.json('snapshots')) as [readonly unknown[]]
      const [theirs] = (await bench.resticJson('snapshots')) as [readonly unknown[]]
      const plain = (snapshots: readonly unknown[]) =>
        snapshots.map((snapshot) => ({ ...Object(snapshot), ...snapshotLater }))
      expect(sorted(plain(ours))).toEqual(sorted(plain(theirs)))
      const later = isNewer ? {} : { ...snapshotLater, message_type: undefined, inode: undefined }
      const normal = (lines: readonly unknown[]) => lines.map((line) => ({ ...Object(line), ...later }))
      expect(normal(await bench.json('ls', 'latest'))).toEqual(normal(await bench.resticJson('ls', 'latest')))
      const entries = normal(await bench.json('ls', 'latest', '/source/below')).slice(1)
      expect(entries).toEqual(normal(await bench.resticJson('ls', 'latest', '/source/below')).slice(1))
      expect(await bench.ok('ls', 'latest')).toBe((await bench.restic('ls', 'latest')).split('\n').slice(1).join('\n'))
    })

    test('restore takes the same of a snapshot', async () => {
      const choices = [
        ['--include', '*.txt'],
        ['--include', '/source/below'],
        ['--exclude', 'deeper'],
      ]
      for (const [at, flags] of choices.entries()) {
        await bench.ok('restore', 'latest', '--target', `ours-${at}`, ...flags)
        await bench.restic('restore', 'latest', '--target', `theirs-${at}`, ...flags)
        const files = async (name: string) =>
          (await runFile('find', ['.', '-printf', '%p %y\n'], { cwd: join(bench.directory, name) })).stdout
            .split('\n')
            .sort()
        expect(await files(`ours-${at}`), flags.join(' ')).toEqual(await files(`theirs-${at}`))
      }
      const none = await bench.ours('restore', 'latest', '--target', 'none', '--include', '/no/such/path')
      expect(none.stderr).toContain('nothing in the snapshot matches --include')
    })
  })
}
