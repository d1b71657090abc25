/** What `stillpoint repo restore` tells, beside restic 0.18 (0.14 had no JSON for it), and which attributes it restores. */
import { execFileSync, spawnSync } from 'node:child_process'
import { link, mkdir, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newerResticName, newestRestic } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { linesOf, makeBench, type RepoBench } from './repo-workbench.ts'

const isNewer = newestRestic.name === newerResticName
const hasSetfattr = spawnSync('setfattr', ['--version']).error === undefined
let bench: RepoBench
let snapshot: string
beforeAll(async () => {
  bench = await makeBench()
  const { source } = bench
  await link(join(source, 'a.txt'), join(source, 'z.txt'))
  execFileSync('mkfifo', [join(source, 'pipe')])
  await writeFile(join(source, 'nothing'), '')
  await writeFile(join(source, 'attributed'), 'with attributes')
  if (hasSetfattr) {
    for (const name of ['user.one', 'user.two', 'user.three']) {
      execFileSync('setfattr', ['-n', name, '-v', 'saved', join(source, 'attributed')])
      execFileSync('setfattr', ['-n', name, '-v', 'saved', join(source, 'below')])
    }
  }
  await bench.ok('backup', 'source')
  const [[first]] = (await bench.json('snapshots')) as [[{ id: string }]]
  snapshot = first.id
})
afterAll(() => bench.remove())

/** What a restore finds: a file that differs, one that is the same, one that is newer, and two that the snapshot has not. */
async function makeTarget(name: string): Promise<string> {
  const target = join(bench.directory, name)
  await rm(target, { recursive: true, force: true })
  // By restic, which sets nanoseconds of times.
  await bench.restic('restore', snapshot, '--target', target)
  await writeFile(join(target, 'source/below/b.log'), 'log '.repeat(1999))
  await utimes(join(target, 'source/below/b.log'), 2_000_000_000, 2_000_000_000)
  await rm(join(target, 'source/below/deeper/c.txt'))
  await rm(join(target, 'source/nothing'))
  await symlink('a.txt', join(target, 'source/nothing'))
  await mkdir(join(target, 'source/more'))
  await writeFile(join(target, 'source/more/extra'), 'x')
  return target
}

/** Lines of restic without times and progress; fields that it leaves out where they are 0 are 0. */
function comparable(lines: readonly unknown[], target: string): readonly string[] {
  const zero = {
    files_restored: 0,
    files_skipped: 0,
    files_deleted: 0,
    total_bytes: 0,
    bytes_restored: 0,
    bytes_skipped: 0,
  }
  return lines
    .map((line) => line as Record<string, unknown>)
    .filter((line) => line['message_type'] !== 'status')
    .map(({ seconds_elapsed: _, errors: __, ...line }) => {
      const own = line['message_type'] === 'summary' ? { ...zero, ...line } : line
      return JSON.stringify(Object.entries(own).sort()).replace(target, 'TARGET')
    })
    .sort()
}

describe.skipIf(!isNewer)(`restore --json beside ${newerResticName} [needs ${newerResticName}]`, () => {
  test.each([[], ['--overwrite', 'if-changed', '--delete'], ['--delete'], ['--dry-run'], ['--exclude', 'below']])(
    '-vv %s %s %s: the same counts, and the same of each entry',
    async (...options) => {
      const args = ['restore', snapshot, '-vv', ...options]
      const [mine, theirs] = [await makeTarget('mine'), await makeTarget('theirs')]
      const ours = await bench.json(...args, '--target', mine)
      const expected = comparable(await bench.resticJson(...args, '--target', theirs), theirs)
      expect(expected.length).toBeGreaterThan(3)
      expect(comparable(ours, mine)).toEqual(expected)
    },
  )

  test('a part, as ID:/directory', async () => {
    for (const [name, run] of [['part-mine', bench.json] as const, ['part-theirs', bench.resticJson] as const]) {
      await run('restore', `${snapshot}:/source/below`, '--target', name)
      expect(await readFile(join(bench.directory, name, 'deeper/c.txt'), 'utf8')).toBe('deep')
    }
  })

  test.each(['never', 'if-newer'])('--overwrite %s: what is left alone is in no total', async (overwrite) => {
    const args = ['restore', snapshot, '--overwrite', overwrite, '--target']
    const ours = (await bench.json(...args, await makeTarget('mine'))).at(-1)
    const theirs = (await bench.resticJson(...args, await makeTarget('theirs'))).at(-1) as Record<string, unknown>
    const { seconds_elapsed, total_files, ...expected } = theirs
    expect(ours).toMatchObject({ ...expected, total_files: expected['files_restored'] })
    expect(expected['files_skipped']).toBe(7)
  })

  test.runIf(hasSetfattr)(
    'attributes by name: neither set nor removed where they are not chosen [needs attr]',
    async () => {
      const attributes = (target: string) =>
        execFileSync('getfattr', ['-h', '-d', 'source/attributed', 'source/below'], { cwd: target, encoding: 'utf8' })
      async function restored(name: string, options: readonly string[]): Promise<string> {
        const target = join(bench.directory, name)
        await rm(target, { recursive: true, force: true })
        await mkdir(join(target, 'source/below'), { recursive: true })
        await writeFile(join(target, 'source/attributed'), 'with attributes')
        for (const path of ['source/attributed', 'source/below']) {
          for (const each of ['user.one', 'user.four']) {
            execFileSync('setfattr', ['-n', each, '-v', 'was there', join(target, path)])
          }
        }
        const run = name === 'mine' ? bench.ok : bench.restic
        await run('restore', snapshot, '--target', target, ...options)
        return attributes(target)
      }
      const found: string[] = []
      for (const options of [
        ['--include-xattr', 'user.t*'],
        ['--exclude-xattr', 'user.t*', '--exclude-xattr', 'user.four'],
        ['--include-xattr', '*', '--include-xattr', '!user.one'],
        ['--exclude-xattr', '*'],
        [],
      ]) {
        const mine = await restored('mine', options)
        expect(mine, options.join(' ')).toBe(await restored('theirs', options))
        found.push(mine)
      }
      expect(new Set(found).size).toBe(5)
      expect(found[0]).toContain('user.four="was there"')
      expect(found[0]).toContain('user.one="was there"')
      expect(found[0]).toContain('user.two="saved"')
      expect(found[4]).not.toContain('user.four')
    },
  )
})

test('what excludes each other is refused', async () => {
  for (const options of [
    ['--include-xattr', 'a', '--exclude-xattr', 'b'],
    ['--dry-run', '--verify'],
  ]) {
    const { code, stderr } = await bench.ours('restore', snapshot, '--target', 'x', '--json', ...options)
    expect([code, linesOf(stderr)]).toMatchObject([2, [{ message_type: 'exit_error', error: { code: 'usage' } }]])
  }
})
