/** What the conformance suite cannot show of directories: links, exclusions, files that change, targets of all kinds. */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type CutId, Failure } from '@stillpoint/core/kernel'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type MemoryParts, MemorySink } from '../memory-parts.ts'
import type { EntryStamp, Parts, SourceSession } from '../source.ts'
import { testClock } from '../sqlite/sqlite-workbench.ts'
import { filesOptions, filesSource } from './index.ts'
import { excluding, type Scan, scanDirectory, scanUntilStill } from './scan.ts'

const never = new AbortController().signal
const cut = 'cut-1' as CutId
let dir = ''
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'stillpoint-files-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

async function open(path: string, options: Readonly<Record<string, unknown>> = {}): Promise<SourceSession> {
  const scratchDir = await mkdtemp(join(dir, 'scratch-'))
  const env = { clock: testClock, baseDir: dir, scratchDir, note: () => undefined }
  return filesSource.open(filesOptions.parse({ path, clone: 'never', ...options }), env, never)
}

function put(files: Readonly<Record<string, string>>, root = 'app'): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(dir, root, path, '..'), { recursive: true })
    writeFileSync(join(dir, root, path), content)
  }
}

async function capture(path: string, options: Readonly<Record<string, unknown>> = {}): Promise<MemoryParts> {
  const session = await open(path, options)
  const sink = new MemorySink()
  await session.mark(cut, never)
  await session.capture(cut, sink, never)
  await session.close()
  return sink.parts()
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof Failure)) throw new Error(`a Failure was expected, not ${String(error)}`)
  expect(error.hint).toBeDefined()
  return error.code
}

const remains = () => readdirSync(dir).filter((name) => name.startsWith('.stillpoint'))

describe('the capture of a directory', () => {
  test('never follows a symlink', async () => {
    put({ 'inside.txt': 'in' })
    put({ 'secret.txt': 'out' }, 'outside')
    symlinkSync('../outside', join(dir, 'app/link'))
    const parts = await capture('app')
    const paths: string[] = []
    for await (const entry of parts.entries('tree', never)) paths.push(`${entry.type} ${entry.path}`)
    expect(paths.toSorted()).toEqual(['directory ', 'file inside.txt', 'symlink link'])
    await (await open('copy')).restore(parts, { replace: false }, never)
    expect(readFileSync(join(dir, 'copy/link/secret.txt'), 'utf8')).toBe('out')
  })

  test('leaves out what is excluded, and all below it', async () => {
    put({ 'a.tmp': '1', 'deep/b.tmp': '2', 'cache/x/y': '3', 'cache.txt': '4', 'kept/c': '5' })
    const parts = await capture('app', { exclude: ['*.tmp', '/cache/'] })
    const paths: string[] = []
    for await (const entry of parts.entries('tree', never)) paths.push(entry.path)
    expect(paths.toSorted()).toEqual(['', 'cache.txt', 'deep', 'kept', 'kept/c'])
  })

  test.each([
    ['written', () => writeFileSync(join(dir, 'app/a'), 'AA'), ['a']],
    ['grown', () => writeFileSync(join(dir, 'app/a'), 'longer'), ['a']],
    ['added', () => writeFileSync(join(dir, 'app/new'), 'n'), ['']],
  ])('names a file that was %s after the mark', async (_, change, torn) => {
    put({ a: 'aa', b: 'bb' })
    const session = await open('app')
    const mark = await session.mark(cut, never)
    expect(mark.caveats).toEqual([])
    change()
    expect((await session.capture(cut, new MemorySink(), never)).torn).toEqual(torn)
  })

  test('sees a change of the same size at once after the mark, however coarse the clock', async () => {
    put({ a: 'x' })
    for (let round = 0; round < 20; round += 1) {
      writeFileSync(join(dir, 'app/a'), String.fromCharCode(97 + round))
      const session = await open('app')
      await session.mark(cut, never)
      writeFileSync(join(dir, 'app/a'), String.fromCharCode(65 + round))
      expect((await session.capture(cut, new MemorySink(), never)).torn).toEqual(['a'])
    }
  })

  test('keeps files that are replaced or removed after the mark, and names one that is written in place', async () => {
    put({ replaced: 'old', removed: 'old', written: 'old', still: 'old' })
    const session = await open('app', { clone: 'auto' })
    expect((await session.mark(cut, never)).caveats).toEqual([])
    put({ '.new': 'new' })
    renameSync(join(dir, 'app/.new'), join(dir, 'app/replaced'))
    await rm(join(dir, 'app/removed'))
    const sink = new MemorySink()
    expect((await session.capture(cut, sink, never)).torn).toEqual([])
    writeFileSync(join(dir, 'app/written'), 'new')
    const version = (await session.prepare(cut, never)).version
    // A clone keeps its own content; a link is the same file.
    expect((await session.capture(cut, new MemorySink(), never)).torn).toEqual(
      version === 'files, cloned' ? [] : ['written'],
    )
    await (await open('copy')).restore(sink.parts(), { replace: false }, never)
    const kept = readdirSync(join(dir, 'copy')).map((name) => readFileSync(join(dir, 'copy', name), 'utf8'))
    expect(kept).toEqual(['old', 'old', 'old', 'old'])
    await session.close()
  })

  test('has a caveat when the directory never stands still', async () => {
    put({ a: 'x' })
    let inode = 0n
    const scan = async (): Promise<Scan> => {
      inode += 1n
      const stamp: EntryStamp = { type: 'file', bytes: 1, mtimeNs: 1n, ctimeNs: 1n, inode }
      return { manifest: new Map([['a', stamp]]), unreadable: [] }
    }
    const still = await scanUntilStill({ scan, clock: testClock, settleMs: 1, triesMax: 3, signal: never })
    expect(still.caveats).toEqual(['the directory changed between two scans'])
  })

  test('says which names cannot be stored', async () => {
    put({ a: 'x' })
    writeFileSync(Buffer.concat([Buffer.from(join(dir, 'app/')), Buffer.from([0xff, 0x41])]), 'latin')
    const { manifest, unreadable } = await scanDirectory(join(dir, 'app'), excluding([]), never)
    expect([...manifest.keys()]).toEqual(['', 'a'])
    expect(unreadable).toHaveLength(1)
    const session = await open('app')
    expect((await session.mark(cut, never)).caveats).toHaveLength(1)
  })

  test('of what is no directory fails by name', async () => {
    put({ file: 'x' })
    expect(await codeOf((await open('absent')).prepare(cut, never))).toBe('store_unreachable')
    expect(await codeOf((await open('app/file')).mark(cut, never))).toBe('store_unreachable')
  })
})

describe('the restore of a directory', () => {
  test('brings back any tree', async () => {
    const name = fc.stringMatching(/^[a-zé ß"'\\*?-]{1,8}$/).filter((text) => text !== '..' && text !== '.')
    await fc.assert(
      fc.asyncProperty(fc.dictionary(name, fc.string({ maxLength: 50 }), { maxKeys: 6 }), async (files) => {
        await rm(join(dir, 'app'), { recursive: true, force: true })
        mkdirSync(join(dir, 'app'))
        put(files)
        const target = await open('copy')
        await target.restore(await capture('app'), { replace: true }, never)
        const read = Object.fromEntries(
          readdirSync(join(dir, 'copy')).map((file) => [file, readFileSync(join(dir, 'copy', file), 'utf8')]),
        )
        expect(read).toEqual({ ...files })
      }),
      { numRuns: 15 },
    )
  })

  test('that fails leaves the old tree, and nothing else', async () => {
    put({ a: 'old' })
    const good = await capture('app')
    const broken: Parts = {
      names: () => good.names(),
      file: (part, signal) => good.file(part, signal),
      entries: (part, signal) => good.entries(part, signal),
      async directory(part, target, signal) {
        await good.directory(part, target, signal)
        throw new Failure({ code: 'repository_damaged', message: 'a pack is damaged', hint: 'repair it' })
      },
    }
    const session = await open('app')
    expect(await codeOf(session.restore(broken, { replace: true }, never))).toBe('repository_damaged')
    expect(readFileSync(join(dir, 'app/a'), 'utf8')).toBe('old')
    expect(remains()).toEqual([])
  })

  test('fills an empty directory, refuses a file, and needs its part', async () => {
    put({ a: 'x' })
    put({ file: 'x' }, 'other')
    mkdirSync(join(dir, 'empty'))
    const parts = await capture('app')
    await (await open('empty')).restore(parts, { replace: false }, never)
    expect(readFileSync(join(dir, 'empty/a'), 'utf8')).toBe('x')
    expect(await codeOf((await open('other/file')).checkTarget(parts, { replace: true }, never))).toBe(
      'target_not_directory',
    )
    expect(await codeOf((await open('new')).restore(new MemorySink().parts(), { replace: false }, never))).toBe(
      'part_missing',
    )
    expect(existsSync(join(dir, 'new'))).toBe(false)
    expect(remains()).toEqual([])
  })

  test('is verified entry by entry', async () => {
    put({ a: 'x', b: 'y', 'c/d': 'z' })
    const parts = await capture('app')
    writeFileSync(join(dir, 'app/a'), 'X')
    writeFileSync(join(dir, 'app/b'), 'yy')
    writeFileSync(join(dir, 'app/e'), 'new')
    await rm(join(dir, 'app/c/d'))
    const { checks } = await (await open('app')).verify(parts, never)
    expect(checks.map((check) => [check.passed, check.detail])).toEqual([
      [false, '"c/d"'],
      [false, '"e"'],
      [false, '"b"'],
      [false, '"a"'],
    ])
  })
})
