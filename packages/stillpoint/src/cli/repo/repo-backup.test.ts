/** What `stillpoint repo backup` saves and leaves out, beside the real restic. */
import { lstat, mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { createExcluder, folderByPath } from '@stillpoint/repository/selection'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { excludeRules } from './backup-excludes.ts'
import { expandGlob } from './backup-targets.ts'
import { hasRestic, makeBench, type RepoBench } from './repo-workbench.ts'

let bench: RepoBench
beforeAll(async () => {
  bench = await makeBench()
  await mkdir(join(bench.source, 'cache', 'deep'), { recursive: true })
  await writeFile(join(bench.source, 'cache', 'CACHEDIR.TAG'), 'Signature: 8a477f597d28d172789f06886806bc55\n')
  await writeFile(join(bench.source, 'cache', 'deep', 'cached'), 'cached')
  await writeFile(join(bench.source, 'empty', 'CACHEDIR.TAG'), 'Signature: another')
  await truncate(join(bench.source, 'a.txt'), 0)
  await writeFile(join(bench.source, 'large.bin'), Buffer.alloc(70_000, 7))
})
afterAll(() => bench.remove())

const pathsOf = async (lines: readonly unknown[]) =>
  lines.map((line) => String(Object(line)['path'] ?? '')).filter((path) => path !== '')
const ours = async () => pathsOf(await bench.json('ls', 'latest', '--tag', 'ours'))
const theirs = async () => pathsOf(await bench.resticJson('ls', 'latest', '--tag', 'theirs'))
describe.skipIf(!hasRestic)('backup, beside restic [needs restic]', () => {
  test.each([
    [['--exclude-caches', '--exclude-larger-than', '10k', '--one-file-system']],
    [['--exclude-if-present', 'b.log', '--iexclude', '*.TXT', '--exclude', '!a.txt']],
    [['--exclude-file', 'excludes', '--exclude-if-present', 'CACHEDIR.TAG:Signature: another']],
    [['--iexclude-file', 'excludes']],
  ])('%j leaves out the same', async (flags) => {
    process.env['DEEP'] = 'deeper'
    await writeFile(join(bench.directory, 'excludes'), `# a comment\n\n*.LOG\n/source/$\{DEEP}x\n  $DEEP\n`)
    await bench.ok('backup', 'source', '--tag', 'ours', ...flags)
    await bench.restic('backup', 'source', '--tag', 'theirs', '--quiet', '--force', ...flags)
    expect(await ours()).toEqual(await theirs())
  })

  test('lists of files name the same', async () => {
    const { directory } = bench
    await writeFile(join(directory, 'list'), '# patterns\nsource/*.txt\n source/below/[bc]*\nsource/no*\n')
    await writeFile(join(directory, 'verbatim'), 'source/below/deeper\n\n')
    await writeFile(join(directory, 'raw'), 'source/below/link\0source/empty\0')
    const flags = ['--files-from', 'list', '--files-from-verbatim', 'verbatim', '--files-from-raw', 'raw']
    await bench.ok('backup', '--tag', 'ours', ...flags)
    await bench.restic('backup', '--tag', 'theirs', '--quiet', ...flags)
    expect(await ours()).toEqual(await theirs())
    expect(await ours()).toContain('/source/below/b.log')
    await writeFile(join(directory, 'raw'), 'source/empty')
    expect(await bench.ours('backup', '--files-from-raw', 'raw')).toMatchObject({ code: 2, stdout: '' })
    expect((await bench.ours('backup', '--files-from', 'nowhere')).stderr).toContain('cannot be read')
  })
})

describe('streams', () => {
  test('what a command prints is saved if it ends well, and else nothing', async () => {
    const named = ['--stdin-from-command', '--stdin-filename', 'dump.sql', '--']
    await bench.ok('backup', '--host', 'dumps', ...named, 'printf', 'a %s', 'dump')
    expect(await bench.ok('dump', 'latest', '/dump.sql')).toBe('a dump')
    const count = async () => ((await bench.json('snapshots')) as [readonly unknown[]])[0].length
    const before = await count()
    const failed = await bench.ours('backup', ...named, 'sh', '-c', 'echo half; exit 3')
    expect(failed).toMatchObject({ code: 1, stdout: '' })
    expect(failed.stderr).toContain('it ended with 3')
    expect((await bench.ours('backup', ...named, 'no-such-program')).stderr).toContain('cannot be started')
    expect((await bench.ours('backup', '--stdin-from-command')).code).toBe(2)
    expect((await bench.ours('backup', '--stdin', 'source')).code).toBe(2)
    expect(await count()).toBe(before)
  })
})

describe('rules', () => {
  test('patterns of lists stay within a directory, and what is none is a path', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'stillpoint-glob-'))
    await mkdir(join(directory, 'a', 'b'), { recursive: true })
    for (const name of ['a/1.x', 'a/2.x', 'a/.x', 'a/b/3.x']) await writeFile(join(directory, name), '')
    expect(await expandGlob('a/*.x', directory)).toEqual(['a/.x', 'a/1.x', 'a/2.x'])
    expect(await expandGlob('*/*/[0-9].x', directory)).toEqual(['a/b/3.x'])
    expect(await expandGlob('a/b', directory)).toEqual(['a/b'])
    expect(await expandGlob(join(directory, 'a', '?.x'), '/')).toEqual([
      join(directory, 'a/1.x'),
      join(directory, 'a/2.x'),
    ])
    expect(await expandGlob('nowhere/*', directory)).toEqual([])
    await rm(directory, { recursive: true })
  })
  test('another file system is left out, and the place where it is mounted kept', async () => {
    const { rules = { patterns: [] } } = await excludeRules({ oneFileSystem: true }, { cwd: '/', targets: ['/'] })
    const excluder = createExcluder(rules)
    const isOut = async (path: string) => {
      const isOutOfFolder = excluder.inFolder(folderByPath(dirname(path)))
      return isOutOfFolder?.(basename(path), await lstat(path, { bigint: true }))
    }
    expect(await isOut('/etc')).toBe(false)
    expect(await isOut('/proc')).toBe(false)
    expect(await isOut('/proc/version')).toBe(true)
    expect(await isOut('/proc/self/fd')).toBe(true)
  })
})
