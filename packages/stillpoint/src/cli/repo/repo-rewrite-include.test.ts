/** Snapshots reduced to what is included: what `restore --include` makes of the old ones, ours and the real restic’s. */
import { execFile } from 'node:child_process'
import { link, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { hasRestic, makeBench, type RepoBench } from './repo-workbench.ts'

const runFile = promisify(execFile)
let bench: RepoBench
beforeEach(async () => {
  bench = await makeBench()
  const other = join(bench.directory, 'other', 'Photos')
  await mkdir(join(other, 'none'), { recursive: true })
  await writeFile(join(other, 'One.JPG'), 'one')
  await writeFile(join(other, 'two.jpg'), 'two')
  await link(join(other, 'two.jpg'), join(bench.source, 'below', 'same.jpg'))
  await link(join(other, 'two.jpg'), join(other, 'deux'))
  await symlink('nowhere', join(other, 'lost.txt'))
})
afterEach(() => bench.remove())

interface Listed {
  readonly id: string
  readonly tree: string
  readonly hostname: string
  readonly tags?: readonly string[]
  readonly original?: string
  readonly paths: readonly string[]
}

async function listed(...args: readonly string[]): Promise<readonly Listed[]> {
  const [snapshots] = (await bench.json('snapshots', ...args)) as [readonly Listed[]]
  return snapshots
}

async function backedUp(): Promise<string> {
  await bench.ok('backup', 'source', 'other', '--host', 'here', '--tag', 'kept')
  return (await listed())[0]?.id ?? ''
}

/** Names, kinds, modes, links, sizes, times, which files are one, and content below a directory of the bench. */
async function restored(name: string): Promise<readonly string[]> {
  const find = 'find . -mindepth 1 -printf "%P %y %m %n %l %T@ %i\\n"; find . -type f | sort | xargs -r sha256sum'
  const { stdout } = await runFile('sh', ['-c', find], { cwd: join(bench.directory, name) })
  const inodes: string[] = []
  const lines = stdout.split('\n').filter((line) => line !== '')
  return lines.sort().map((line) => {
    const [, rest, inode = ''] = /^(.* f .*) (\d+)$/.exec(line) ?? []
    // A directory’s inode is its own; of its entries, `find` tells it last.
    if (rest === undefined) return line.replace(/ \d+$/, '')
    if (!inodes.includes(inode)) inodes.push(inode)
    return `${rest} ${inodes.indexOf(inode)}`
  })
}

/** Without the times of directories: restic leaves those that only lead to a match as they become. */
const placed = (lines: readonly string[]) => lines.map((line) => line.replace(/ d (\d+) .*/, ' d $1'))

interface Case {
  readonly what: string
  readonly flags: readonly string[]
  /** Where they are others: restic 0.14 takes no files of patterns. */
  readonly forRestic?: readonly string[]
}

const cases: readonly Case[] = [
  { what: 'an anchored directory', flags: ['--include', '/source/below'] },
  { what: 'names anywhere, of files and links', flags: ['-i', '*.txt'] },
  { what: 'a row of names', flags: ['--include', 'below/deeper', '--include', 'Photos/lost.txt'] },
  { what: 'any number of directories', flags: ['--include', '/**/deeper/*.txt'] },
  { what: 'empty directories', flags: ['--include', 'none', '--include', '/source/empty'] },
  { what: 'some of the hard links', flags: ['--include', 'deux', '--include', 'same.jpg'] },
  { what: 'whatever the case', flags: ['--iinclude', '*.jpg', '--include', '*.LOG'] },
  { what: 'a directory, and what is taken back', flags: ['--include', 'below', '--include', '!deeper'] },
  {
    what: 'from files',
    flags: ['--include-file', 'wanted', '--iinclude-file', 'wanted-any-case'],
    forRestic: ['--include', '/source/a.txt', '--include', 'Photos/none', '--iinclude', 'PHOTOS/*.jpg'],
  },
]

describe.skipIf(!hasRestic)('rewrite --include [needs restic]', () => {
  test.each(cases)(
    '$what: restored, it is what restore --include restores of the old one',
    async ({ flags, forRestic = flags }) => {
      await writeFile(join(bench.directory, 'wanted'), '# these\n/source/a.txt\n\nPhotos/none\n')
      await writeFile(join(bench.directory, 'wanted-any-case'), ' PHOTOS/*.jpg \n')
      const old = await backedUp()
      const [before] = await listed()
      const lines = await bench.json('rewrite', ...flags)
      const [rewritten] = await listed('--tag', 'rewrite')
      expect(lines).toMatchObject([
        { message_type: 'rewritten', snapshot_id: old, new_snapshot_id: rewritten?.id, excluded: expect.any(Array) },
        { message_type: 'summary', rewritten_snapshots: 1, dry_run: false },
      ])
      const same = { hostname: 'here', tags: ['kept', 'rewrite'], paths: before?.paths, original: old }
      expect(rewritten).toMatchObject(same)
      expect(rewritten?.tree).not.toBe(before?.tree)
      const id = rewritten?.id ?? ''
      await bench.ok('restore', old, '--target', 'part', ...flags)
      await bench.ok('restore', id, '--target', 'whole')
      await bench.restic('restore', old, '--target', 'part-by-restic', ...forRestic)
      await bench.restic('restore', id, '--target', 'whole-by-restic')
      const whole = await restored('whole')
      expect(whole.length).toBeGreaterThan(2)
      expect(whole).toEqual(await restored('part'))
      expect(placed(whole)).toEqual(placed(await restored('part-by-restic')))
      expect(whole).toEqual(await restored('whole-by-restic'))
      expect(await bench.restic('check', '--read-data')).toContain('no errors were found')
    },
  )

  test('--forget replaces the old one; number and size are those of what is left; a prune takes the rest', async () => {
    const old = await backedUp()
    const args = ['rewrite', '--include', '/source/below', '--new-host', 'there', '--forget']
    const dry = await bench.ok(...args, '--dry-run')
    expect(dry).toMatch(
      /^excluding \/other\nexcluding \/source\/a.txt\nexcluding \/source\/empty\nsnapshot [0-9a-f]{8}: would leave out 3 paths, would have host there\nrewrote 1 snapshot\nnothing was changed \(dry run\)\n$/,
    )
    expect((await listed()).map(({ id }) => id)).toEqual([old])
    const [told] = await bench.json(...args)
    const totals = { total_files_processed: 3, total_bytes_processed: 8007 }
    expect(told).toMatchObject({ excluded: ['/other', '/source/a.txt', '/source/empty'], ...totals })
    expect(await listed()).toMatchObject([{ hostname: 'there', tags: ['kept'], original: old, summary: totals }])
    await bench.ok('prune', '--max-unused', '0')
    expect(await bench.restic('check', '--read-data')).toContain('no errors were found')
    const [stats] = await bench.resticJson('stats', '--mode', 'files-by-contents')
    expect(stats).toMatchObject({ total_size: 8007 })
  })

  test('where nothing matches, snapshots stay as they are, and are named', async () => {
    const one = await backedUp()
    await bench.ok('backup', 'source/below', '--host', 'other')
    const before = await listed()
    const none = await bench.ours('rewrite', '--include', '/no/such', '--new-host', 'new', '-s', '--forget')
    expect(none).toMatchObject({ code: 0, stdout: 'no snapshot has anything that matches\n' })
    expect(none.stderr).toContain('warning: snapshots of which nothing matches --include stay as they are: ')
    for (const { id } of before) expect(none.stderr).toContain(id.slice(0, 8))
    expect(await listed()).toEqual(before)
    const some = await bench.ours('rewrite', '--include', '/other', '--forget', '--json')
    expect(some.stderr).toContain('"warning":"snapshots of which')
    expect(some.stderr).not.toContain(one.slice(0, 8))
    const after = await listed()
    expect(after.map(({ hostname, original }) => [hostname, original])).toEqual(
      expect.arrayContaining([
        ['here', one],
        ['other', undefined],
      ]),
    )
    expect(after).toHaveLength(2)
    // One matches wholly, the other not at all.
    const rest = await bench.ours('rewrite', '--include', '/other')
    expect(rest).toMatchObject({ code: 0, stdout: 'no snapshot changes by that\n' })
  })

  test('2 together with what is excluded, for no patterns and for what is none', async () => {
    await backedUp()
    const before = await listed()
    await writeFile(join(bench.directory, 'nothing'), '# none\n\n')
    const including = ['--include', '--iinclude', '--include-file', '--iinclude-file']
    const excluding = ['--exclude', '--iexclude', '--exclude-file', '--iexclude-file']
    for (const include of including) {
      for (const exclude of excluding) {
        const { code, stderr } = await bench.ours('rewrite', include, 'nothing', exclude, 'nothing', '--new-host', 'x')
        expect([include, exclude, code]).toEqual([include, exclude, 2])
        expect(stderr).toContain('--include and --exclude exclude each other')
      }
    }
    const wrong = [
      ['--include-file', 'nothing'],
      ['--include-file', 'no-such-file'],
      ['--include', '[z-a]'],
    ]
    for (const args of wrong) expect([args, (await bench.ours('rewrite', ...args)).code]).toEqual([args, 2])
    expect(await listed()).toEqual(before)
  })
})
