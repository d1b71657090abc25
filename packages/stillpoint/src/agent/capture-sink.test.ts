import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { initRepository, openLocalStore, openRepository, type Repository } from '@stillpoint/repository'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { stampOf } from '../sources/files/stamp.ts'
import type { DirectoryManifest } from '../sources/source.ts'
import { systemClock, systemEntropy, systemRandom } from '../system-env.ts'
import { RepositorySink } from './capture-sink.ts'
import { openStoredParts } from './stored-parts.ts'

const env = { clock: systemClock, random: systemRandom, entropy: systemEntropy }
const signal = AbortSignal.timeout(30_000)

describe('parts in a repository', () => {
  let dir: string
  let source: string
  let repository: Repository

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'sink-'))
    const store = openLocalStore(join(dir, 'repository'))
    await initRepository({ store, password: 'p', ...env, scryptCost: { n: 2 ** 10, r: 8, p: 1 } })
    repository = await openRepository({ store, password: 'p', ...env })
    source = join(dir, 'source')
    mkdirSync(join(source, 'deep', 'empty'), { recursive: true })
    writeFileSync(join(source, 'plain'), 'plain')
    writeFileSync(join(source, 'deep', 'script'), '#!', { mode: 0o755 })
    symlinkSync('../outside', join(source, 'deep', 'link'))
    execFileSync('mkfifo', [join(source, 'pipe')])
    chmodSync(source, 0o750)
  })
  afterAll(() => rmSync(dir, { recursive: true }))

  function manifestOf(path: string): DirectoryManifest {
    const names = ['', ...readdirSync(path, { recursive: true }).map(String)]
    return new Map(names.map((name) => [name, stampOf(lstatSync(join(path, name), { bigint: true }))]))
  }

  async function capture(manifest: DirectoryManifest | undefined, before: () => void = () => {}) {
    const save = await repository.startSave()
    const progress: { bytes: number; files: number }[] = []
    const sink = new RepositorySink({ save, signal, onProgress: (each) => progress.push(each) })
    before()
    const report = await sink.directory('tree', source, manifest === undefined ? {} : { manifest })
    const { tree } = await sink.finish()
    await save.finish()
    return { report, progress, parts: await openStoredParts(repository, tree) }
  }

  test.each([
    [true, []],
    [false, ['large']],
  ])('a file whose other name goes while it is read (linked: %s): torn %j', async (linked, torn) => {
    const tree = mkdtempSync(join(dir, 'linked-'))
    const other = join(dir, 'other-name')
    writeFileSync(join(tree, 'large'), randomBytes(24 << 20))
    linkSync(join(tree, 'large'), other)
    const save = await repository.startSave()
    const onProgress = ({ files }: { files: number }) => {
      if (files === 0) rmSync(other, { force: true })
    }
    const report = await new RepositorySink({ save, signal, onProgress }).directory('tree', tree, { linked })
    await save.discard()
    expect(existsSync(other)).toBe(false)
    expect(report.torn).toEqual(torn)
  })

  test('a directory comes back as it was: modes, links, fifos, and the directory itself', async () => {
    const { report, progress, parts } = await capture(manifestOf(source))
    expect(report.torn).toEqual([])
    expect(report.files).toBe(2)
    expect(progress.at(-1)).toEqual({ bytes: 7, files: 2 })
    const target = join(dir, 'target')
    mkdirSync(target)
    await parts.directory('tree', target, signal)
    expect(readdirSync(target, { recursive: true }).toSorted()).toEqual(
      readdirSync(source, { recursive: true }).toSorted(),
    )
    expect(readFileSync(join(target, 'plain'), 'utf8')).toBe('plain')
    expect(readlinkSync(join(target, 'deep', 'link'))).toBe('../outside')
    expect(lstatSync(join(target, 'deep', 'script')).mode & 0o777).toBe(0o755)
    expect(lstatSync(join(target, 'pipe')).isFIFO()).toBe(true)
    expect(lstatSync(target).mode & 0o777).toBe(0o750)
    const entries = await Array.fromAsync(parts.entries('tree', signal))
    expect(entries.map(({ path, type }) => `${type} ${path}`).toSorted()).toEqual([
      'directory ',
      'directory deep',
      'directory deep/empty',
      'file deep/script',
      'file plain',
      'other pipe',
      'symlink deep/link',
    ])
  })

  test('what the manifest does not name is left out, what differs from it or is gone is torn', async () => {
    const gone = join(source, 'gone')
    const changed = join(source, 'changed')
    writeFileSync(gone, 'gone')
    writeFileSync(changed, 'before')
    const manifest = manifestOf(source)
    const { report, parts } = await capture(manifest, () => {
      rmSync(gone)
      writeFileSync(changed, 'longer than before')
      writeFileSync(join(source, 'new'), 'new')
    })
    expect([...report.torn].toSorted()).toEqual(['changed', 'gone'])
    const paths = (await Array.fromAsync(parts.entries('tree', signal))).map(({ path }) => path)
    expect(paths).not.toContain('new')
    for (const name of ['changed', 'new']) rmSync(join(source, name))
  })

  test('parts have names of their own, and a part that failed is in no tree', async () => {
    const save = await repository.startSave()
    const sink = new RepositorySink({ save, signal, onProgress: () => {} })
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('half')
      throw new Error('the store died')
    }
    async function* whole(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('whole')
    }
    await expect(sink.file('half', failing())).rejects.toThrow('the store died')
    await sink.file('whole', whole())
    await expect(sink.file('whole', whole())).rejects.toMatchObject({ code: 'part_exists' })
    await expect(sink.file('../whole', whole())).rejects.toMatchObject({ code: 'name_invalid' })
    const { tree } = await sink.finish()
    await save.finish()
    const parts = await openStoredParts(repository, tree)
    expect(parts.names()).toEqual(['whole'])
    await expect(parts.directory('whole', dir, signal)).rejects.toMatchObject({ code: 'part_missing' })
    expect(Buffer.concat(await Array.fromAsync(parts.file('whole', signal))).toString()).toBe('whole')
  })
})
