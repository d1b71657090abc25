/**
 * What a script written for restic 0.18 reads: the same fields with the same values, the same codes at the end, from sound
 * repositories and damaged ones. (0.14 differs: `stats` without compression and with counts of 0, `check` without JSON, no
 * `ID:/directory`, failures as text only.)
 */
import { execFile } from 'node:child_process'
import { appendFile, chmod, cp, link, open, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newerResticName, newestRestic } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { linesOf, makeBench, type RepoBench } from './repo-workbench.ts'

const isNewer = newestRestic.name === newerResticName
let bench: RepoBench
let first: string
let last: string

interface Answer {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

function restic(...args: readonly string[]): Promise<Answer> {
  const options = { cwd: bench.directory, maxBuffer: 1 << 26 }
  return new Promise((done) =>
    execFile(newestRestic.command, args, options, (error, stdout, stderr) =>
      done({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr }),
    ),
  )
}

beforeAll(async () => {
  if (!isNewer) return
  bench = await makeBench()
  const { source } = bench
  await writeFile(join(source, 'below', 'large'), Buffer.alloc(300_000, 'a line of text\n'))
  await bench.restic('backup', '-q', 'source')
  await link(join(source, 'a.txt'), join(source, 'linked'))
  await writeFile(join(source, 'below', 'b.log'), 'another')
  await rm(join(source, 'below', 'deeper'), { recursive: true })
  await bench.ok('backup', 'source')
  const ids = (await bench.resticJson('snapshots')) as [readonly { id: string }[]]
  ;[first = '', last = ''] = ids[0].map(({ id }) => id)
})
afterAll(() => bench?.remove())

describe.skipIf(!isNewer)(`beside ${newerResticName} [needs ${newerResticName}]`, () => {
  test('stats: the same fields, and none that is 0', async () => {
    for (const mode of ['restore-size', 'files-by-contents', 'raw-data', 'blobs-per-file']) {
      const args = ['stats', '--mode', mode]
      expect(await bench.json(...args), mode).toEqual(await bench.resticJson(...args))
    }
    expect(await bench.ok('stats', '--mode', 'raw-data')).toMatch(/Compression Ratio: {2}\d+\.\d\dx/)
  })

  test('diff of snapshots and of their directories, with what was asked for', async () => {
    for (const args of [
      [first, last],
      ['--metadata', first, last],
      [`${first}:/source/below`, `${last}:source/below`],
    ]) {
      expect(await bench.json('diff', ...args), args.join(' ')).toEqual(await bench.resticJson('diff', ...args))
    }
    expect((await bench.json('diff', first, 'latest')).at(-1)).toMatchObject({ target_snapshot: last })
  })

  test('dump and cat: the same bytes', async () => {
    for (const args of [
      ['dump', `${first}:/source/below`, '/deeper/c.txt'],
      ['dump', last, 'source/a.txt'],
      ['cat', 'config'],
      ['cat', 'snapshot', first],
    ]) {
      expect(await bench.ok(...args), args.join(' ')).toBe(await bench.restic(...args))
    }
  })

  test('failures have the same code, and say so in JSON at the end', async () => {
    for (const args of [
      ['restore', `${first}:/none`, '-t', 'x'],
      ['restore', `${first}:/source/a.txt`, '-t', 'x'],
      ['dump', first, '/source/below/link'],
      ['dump', first, '/source/a.txt/below'],
      ['diff', `${first}:/none`, last],
      ['cat', 'snapshot', 'abcdabcd'],
      ['init'],
      ['repair', 'packs', 'abc'],
    ]) {
      const [ours, theirs] = [await bench.ours(...args, '--json'), await restic(...args, '--json')]
      expect([ours.code, ours.stdout], args.join(' ')).toEqual([theirs.code, ''])
      const end = { message_type: 'exit_error', code: 1, message: expect.any(String) }
      expect([linesOf(theirs.stderr).at(-1), linesOf(ours.stderr).at(-1)], args.join(' ')).toMatchObject([end, end])
    }
  })
})

/** Each damages a copy of the repository; `find` has its objects, the smallest first. */
type Damage = (objects: (kind: string) => Promise<readonly string[]>) => Promise<void>

const damages: Readonly<Record<string, Damage>> = {
  'a truncated pack': async (objects) => truncate((await objects('data')).at(-1) ?? '', 1000),
  'a missing pack': async (objects) => rm((await objects('data')).at(-1) ?? ''),
  'a flipped bit of data': async (objects) => flip((await objects('data')).at(-1) ?? ''),
  'a damaged index file': async (objects) => appendFile((await objects('index'))[0] ?? '', 'x'),
  'a missing index file': async (objects) => rm((await objects('index'))[0] ?? ''),
  'no config': async (objects) => rm((await objects('.')).find((path) => path.endsWith('/config')) ?? ''),
  'a damaged snapshot': async (objects) => appendFile((await objects('snapshots'))[0] ?? '', 'x'),
}

async function flip(path: string): Promise<void> {
  const file = await open(path, 'r+')
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, 40)
  await file.write(Buffer.of(buffer.readUInt8(0) ^ 1), 0, 1, 40)
  await file.close()
}

describe.skipIf(!isNewer)(`check --json beside ${newerResticName} [needs ${newerResticName}]`, () => {
  test.each(Object.entries(damages))('%s: the same summary', async (name, damage) => {
    const copy = join(bench.directory, 'damaged')
    await rm(copy, { recursive: true, force: true })
    await cp(join(bench.directory, 'repository'), copy, { recursive: true })
    await damage(async (kind) => {
      const paths = (await readdir(join(copy, kind), { recursive: true })).map((path) => join(copy, kind, path))
      const sized = await Promise.all(paths.map(async (path) => ({ path, status: await stat(path) })))
      const files = sized.filter(({ status }) => status.isFile()).sort((a, b) => a.status.size - b.status.size)
      for (const { path } of files) await chmod(path, 0o600)
      return files.map(({ path }) => path)
    })
    const args = ['check', '-r', copy, '--json', ...(name.includes('bit') ? ['--read-data'] : [])]
    const [ours, theirs] = [await bench.ours(...args), await restic(...args)]
    expect(ours.code).toBe(theirs.code)
    const summary = linesOf(theirs.stdout).at(-1) as Record<string, unknown>
    expect(summary).toMatchObject({ message_type: 'summary' })
    expect(linesOf(ours.stdout).at(-1)).toMatchObject(summary)
    const told = linesOf(ours.stderr) as readonly Record<string, unknown>[]
    // Each finding, and the end; where nothing could be checked, the end is what there is.
    const errors = told.filter((line) => line['message_type'] !== undefined)
    expect(errors).toHaveLength(Number(summary['num_errors']) + (ours.code === 1 ? 1 : 0))
    expect(told.at(-1)).toMatchObject({ message_type: 'exit_error', code: theirs.code })
  })
})
