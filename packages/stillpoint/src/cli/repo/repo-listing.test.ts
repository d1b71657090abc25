/** What `ls` and `find` of `stillpoint repo` print of a snapshot that the real restic made, beside what restic prints. */
import { chmod, cp, link, mkdir, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newerResticName, restics } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeBench, type RepoBench } from './repo-workbench.ts'

const odd = ['.hidden', 'a-b', 'a b', 'x.tar.gz', 'ends.', '😀.txt', '\uffee.txt', 'é', '"quoted"']

/** Names, sizes, times and extensions that sort differently. */
async function fill(source: string): Promise<void> {
  await mkdir(join(source, 'a.dir', 'inside'), { recursive: true })
  for (const [at, name] of odd.entries()) {
    await writeFile(join(source, 'a.dir', name), 'x'.repeat((at * 7) % 5))
    await utimes(join(source, 'a.dir', name), 1e9 + ((at * 5) % 7) * 1e6, 1e9 + ((at * 3) % 4) * 1e6 - 1.5e9)
  }
  await writeFile(join(source, 'a.dir', 'nobody'), 'may read it')
  await chmod(join(source, 'a.dir', 'nobody'), 0)
  await link(join(source, 'a.txt'), join(source, 'hard link.txt'))
}

const rows = (text: string) => text.split('\n').filter((line) => line !== '')

for (const restic of restics) {
  describe.skipIf(!restic.isHere)(`beside ${restic.name} [needs ${restic.name}]`, () => {
    const isNewer = restic.name === newerResticName
    let bench: RepoBench
    beforeAll(async () => {
      bench = await makeBench({ restic })
      await fill(bench.source)
      await bench.restic('backup', 'source', '--quiet')
      await writeFile(join(bench.source, 'a.txt'), 'changed')
      await bench.restic('backup', 'source', '--quiet')
    })
    afterAll(() => bench.remove())

    /** What restic 0.14 does not print. */
    const known = (line: string) =>
      isNewer ? line : line.replace(/"(?:message_type":"\w+"|inode":\d+|summary":\{.*?\}|program_version":".*?"),/g, '')

    /** Of the newest snapshot. */
    async function treeOf(path: string): Promise<string> {
      const [first] = rows(await bench.ok('ls', '--json', `latest:${path}`))
      return JSON.parse(first ?? '').tree
    }

    test('ls --json is the same, to the letter', async () => {
      const ours = rows(await bench.ok('ls', 'latest', '--json')).map(known)
      const theirs = rows(await bench.restic('ls', 'latest', '--json'))
      expect(ours.slice(1)).toEqual(theirs.slice(1))
      expect(ours.length).toBeGreaterThan(20)
      const { summary: _, ...header } = JSON.parse(theirs[0] ?? '')
      expect(JSON.parse(ours[0] ?? '')).toMatchObject(header)
      expect(ours.filter((line) => line.includes('"nobody"'))).toHaveLength(1)
    })

    /** restic 0.14 has the snapshots in any order. */
    const which = isNewer ? [] : ['-s', 'latest']

    test('find is the same, as text and as JSON', async () => {
      const patterns = [...which, '*.txt', 'nobody']
      expect(await bench.ok('find', ...patterns)).toBe(await bench.restic('find', ...patterns))
      // restic 0.14 leaves out some directories, and the inodes.
      if (!isNewer) return
      for (const args of [
        ['-l', '/source/a.dir'],
        ['--json', '*.txt', 'nobody'],
        ['--json', 'nowhere'],
      ]) {
        const theirs = (await bench.restic('find', ...args)).trimEnd()
        expect((await bench.ok('find', ...args)).trimEnd(), args.join(' ')).toBe(theirs)
      }
    })

    test('find by ids is the same', async () => {
      const packs = rows(await bench.restic('list', 'packs', '--quiet'))
      const blobs = rows(await bench.restic('list', 'blobs', '--quiet')).sort()
      const idOf = (type: string) => blobs.find((line) => line.startsWith(`${type} `))?.slice(5) ?? ''
      for (const args of [
        ['--blob', idOf('data')],
        ['--tree', (await treeOf('/source/below')).slice(0, 8)], // 0.14 does not find roots
        ['--blob', idOf('data'), '--json'],
      ]) {
        const theirs = (await bench.restic('find', ...which, ...args)).trimEnd()
        expect((await bench.ok('find', ...which, ...args)).trimEnd(), args.join(' ')).toBe(theirs)
      }
      // Of packs of trees restic says nothing before 0.19.
      const [found] = await bench.json('find', '--pack', ...packs)
      const types = [found].flat().map((match) => Object(match)['object_type'])
      expect(new Set(types)).toEqual(new Set(['blob', 'tree']))
      const unknown = await bench.ours('find', '--pack', '0000beef')
      expect(unknown).toMatchObject({ code: 1, stdout: '' })
      expect(unknown.stderr).toContain('there is no pack 0000beef')
    })

    if (!isNewer) return

    test('find goes on where a directory is lost, and says so', async () => {
      const copy = join(bench.directory, 'damaged')
      await cp(join(bench.directory, 'repository'), copy, { recursive: true })
      const [trees] = await bench.json('find', '--tree', '--show-pack-id', await treeOf('/source/below'))
      const [pack = ''] = Object([trees].flat()[0])['packs']
      await rm(join(copy, 'data', pack.slice(0, 2), pack))
      const { code, stdout, stderr } = await bench.ours('find', '-r', copy, '--no-cache', '-s', 'latest', 'source')
      expect([code, stdout]).toEqual([1, expect.stringMatching(/\/source$/m)])
      expect(stderr.replace(/\s+/g, ' ')).toMatch(/warning: nothing was looked for in tree [0-9a-f]{64}, \/source\//)
      const theirs = await bench.restic('find', '-r', copy, '--no-cache', '-s', 'latest', 'source')
      expect(theirs).toContain('Unable to load tree')
    })

    test.each([
      '--sort size --reverse --long',
      '-s time --json',
      '--sort atime --recursive',
      '--sort extension',
      '--reverse',
    ])('ls %s', async (flags) => {
      const shown = (text: string) => (flags.includes('--json') ? rows(text).slice(1) : rows(text))
      const args = ['latest', ...flags.split(' '), '/source', '/source/a.dir']
      const ours = shown(await bench.ok('ls', ...args))
      expect(ours).toEqual(shown(await bench.restic('ls', ...args, '--quiet')))
      expect(ours.length).toBeGreaterThan(10)
    })

    test('a directory of a snapshot is listed as if it were all', async () => {
      expect(await bench.ok('ls', 'latest:/source/a.dir')).toBe(
        await bench.restic('ls', 'latest:/source/a.dir', '--quiet'),
      )
      const [first] = rows(await bench.ok('ls', '--json', 'latest:source'))
      expect(JSON.parse(first ?? '').tree).toBe(
        JSON.parse(rows(await bench.restic('ls', '--json', 'latest:source'))[0] ?? '').tree,
      )
      expect(await bench.ours('ls', 'latest:/source/a.txt')).toMatchObject({ code: 1, stdout: '' })
    })

    test('find goes from the newest to the oldest, or back; times are where we are', async () => {
      const args = ['a.txt', '--json', '--oldest', '2026-01-01 08:00', '--newest', '2100-01-01 00:00:00 +0200']
      const [newest] = await bench.json('find', ...args)
      const [oldest] = await bench.json('find', ...args, '--reverse')
      expect([oldest]).toEqual(await bench.resticJson('find', ...args, '--reverse'))
      expect([newest]).toEqual([[...[oldest].flat()].reverse()])
      expect([newest].flat()).toHaveLength(2)
      for (const wrong of [
        ['-O', '2026-02-30'],
        ['-N', 'soon'],
        ['-O', '2026-01-02', '-N', '2026-01-01'],
      ]) {
        expect(await bench.ours('find', 'x', ...wrong)).toMatchObject({ code: 2, stdout: '' })
      }
    })

    test('--ncdu has its own order', async () => {
      expect(await bench.ours('ls', '--ncdu', '-s', 'size', 'latest')).toMatchObject({ code: 2, stdout: '' })
      expect(await bench.ours('ls', '--ncdu', '--reverse', 'latest')).toMatchObject({ code: 2, stdout: '' })
    })
  })
}
