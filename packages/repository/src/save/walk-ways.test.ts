/**
 * A directory is walked in two ways: by threads that go down into it, and by threads that are told what to look at. They
 * must come to the same tree, whatever is in it.
 */
import { execFileSync } from 'node:child_process'
import { lstatSync } from 'node:fs'
import { link, mkdir, readdir, readlink, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TreeId } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { openLocalStore } from '../blob/local-store.ts'
import { writeAttributes } from '../extended-attributes.ts'
import { openRepository, openVault, type Repository } from '../repository.ts'
import type { ExcludeRules } from '../selection/exclude-rules.ts'
import { entriesByPack } from '../testing/index-entries.ts'
import { newRepository, password, reopen, scratch, seeded, takeSnapshot, world } from '../testing/testbed.ts'
import { takeManifest } from './manifest.ts'
import type { SaveDirectoryOptions, SavedEntry } from './walk.ts'

type Random = ReturnType<typeof seeded>

const ways: Readonly<Record<string, SaveDirectoryOptions>> = {
  'going down': {},
  'told what to look at': { exclude: () => false },
}

async function makeFolder(random: Random, path: string, depth: number): Promise<void> {
  await mkdir(path)
  if (random.below(4) === 0) label(path, 'folder')
  for (let at = random.below(9); at > 0; at -= 1) {
    const entry = join(path, `${'abcÄ "\\'.charAt(random.below(7))}${random.below(100)}`)
    await makeEntry(random, entry, depth).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
  }
}

/** Where the file system keeps extended attributes. */
function label(path: string, value: string): void {
  writeAttributes(Buffer.from(path), [
    { name: 'user.label', value: Buffer.from(value) },
    { name: 'user.second', value: Buffer.from(value) },
  ])
}

async function makeEntry(random: Random, path: string, depth: number): Promise<void> {
  const file = (bytes: number) => writeFile(path, random.bytes(bytes), { flag: 'wx' })
  switch (random.below(12)) {
    case 0:
      return symlink(random.below(2) === 0 ? 'nowhere' : '..', path)
    case 1:
      await file(10)
      return link(path, `${path} again`)
    case 2:
      return file(600_000)
    case 3:
      return file(0)
    case 4:
      if (random.below(2) === 0) return void execFileSync('mkfifo', [path])
      await file(20)
      return label(path, 'x'.repeat(random.below(2) === 0 ? 30 : 3000))
    case 5:
    case 6:
    case 7:
    case 8:
      return depth === 0 ? undefined : makeFolder(random, path, depth - 1)
    default:
      return file(random.below(5000))
  }
}

/** Directories in one another, each with what a thread leaves to others, so that it stays open. */
async function makeChain(path: string, depth: number): Promise<void> {
  let at = path
  for (let level = 0; level < depth; level += 1) {
    at = join(at, 'down')
    await mkdir(at)
    await mkdir(join(at, 'beside'))
    await writeFile(join(at, 'beside', 'file'), `${level}`)
    execFileSync('mkfifo', [join(at, 'pipe')])
  }
}

async function change(random: Random, path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true })) {
    const below = join(path, entry.name)
    const what = random.below(10)
    if (what === 0) await rm(below, { recursive: true })
    else if (entry.isDirectory()) await change(random, below)
    else if (entry.isFile() && what === 1) await writeFile(below, random.bytes(700))
    else if (entry.isFile() && what === 2) await utimes(below, 1_700_000_000, 1_700_000_000 + random.below(1000))
  }
  if (random.below(4) === 0) await writeFile(join(path, 'new'), random.bytes(100))
}

interface Walked {
  readonly tree: TreeId
  readonly files: number
  readonly bytes: number
  readonly changed: readonly string[]
  readonly skipped: readonly string[]
  /** Whose content was asked how to be cut. */
  readonly read: readonly string[]
  readonly entries: readonly string[]
}

const inOrder = (texts: readonly string[]) => [...texts].sort()

async function walked(repository: Repository, source: string, options: SaveDirectoryOptions): Promise<Walked> {
  const entries: SavedEntry[] = []
  const read: string[] = []
  const save = await repository.startSave()
  const { tree, files, bytes, changed, skipped, errors } = await save.saveDirectory(source, {
    onEntry: (entry) => entries.push(entry),
    chunking: (path) => {
      read.push(path)
      return { kind: 'content' }
    },
    ...options,
  })
  await save.finish()
  expect(errors).toEqual([])
  entries.forEach(({ path }, at) => {
    const place = entries.findIndex((other, later) => later > at && other.path.startsWith(`${path}/`))
    expect(place, `${path} comes after what is in it`).toBe(-1)
  })
  const told = entries.map(({ path, type, bytes: length, change: what }) => `${path}:${type}:${length}:${what}`)
  return { tree, files, bytes, changed, skipped, read: inOrder(read), entries: inOrder(told) }
}

async function expectSame(home: string, source: string, options: SaveDirectoryOptions = {}): Promise<Walked> {
  const found: Walked[] = []
  for (const [way, given] of Object.entries(ways)) {
    const repository = await reopen(join(home, 'repository'))
    const one = await walked(repository, source, { ...options, ...given })
    await repository.close()
    // Names of one file are found in another order.
    expect({ ...one, read: [] }, way).toEqual({ ...(found[0] ?? one), read: [] })
    found.push(one)
  }
  const [first] = found
  if (first === undefined) throw new Error('there are ways')
  return first
}

/** What of this directory this process has open. */
async function openBelow(directory: string): Promise<readonly string[]> {
  const links = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''))
  return (await Promise.all(links)).filter((path) => path.startsWith(directory))
}

/** Of each kind one, for what `makeFolder` and `makeChain` make. */
const rulesFor = (source: string): ExcludeRules => ({
  patterns: [{ text: 'b?' }, { text: 'C*7', ignoreCase: true }, { text: join(source, 'down/down/down/beside') }],
  fileBytesMax: 3000,
  markers: [{ name: 'file', header: '1' }],
  fileSystems: [{ path: '/', device: lstatSync(source, { bigint: true }).dev }],
})

/** The same, as somebody would who reads the list. */
function isLeftOut(entry: string): boolean {
  const [path = '', , bytes] = entry.split(':')
  const isMatched = path.split('/').some((name) => /^(b.|c.*7)$/isu.test(name) && !/^B/.test(name))
  return isMatched || /^down\/down\/down\/beside(\/|$)/.test(path) || Number(bytes) > 3000
}

describe('two ways of a walk come to the same', () => {
  test.each([1, 2, 3, 4])('seed %d: first, unchanged, changed', async (seed) => {
    const random = seeded(seed)
    const home = await scratch()
    const source = join(home, 'source')
    await newRepository(join(home, 'repository'))
    await makeFolder(random, source, 5)
    await makeChain(source, 40)
    const { tree: parentTree, entries } = await expectSame(home, source)
    const { entries: left } = await expectSame(home, source, { excludeRules: rulesFor(source) })
    expect(left).toEqual(entries.filter((entry) => !isLeftOut(entry)))
    const unchanged = await expectSame(home, source, { parentTree })
    expect(unchanged.tree).toBe(parentTree)
    expect(unchanged.entries.every((entry) => entry.endsWith(':unmodified'))).toBe(true)
    expect(unchanged.read).toEqual([])
    await change(random, source)
    const changed = await expectSame(home, source, { parentTree })
    expect(changed.tree).not.toBe(parentTree)
    expect(await openBelow(source)).toEqual([])
    const repository = await reopen(join(home, 'repository'))
    expect((await repository.check({ readData: true })).problems).toEqual([])
  })

  test('a manifest is compared in both', async () => {
    const home = await scratch()
    const source = join(home, 'source')
    await newRepository(join(home, 'repository'))
    await makeFolder(seeded(7), source, 4)
    await mkdir(join(source, 'deep', 'er'), { recursive: true })
    for (const name of ['same', 'other', 'gone']) await writeFile(join(source, 'deep', 'er', name), name)
    const expected = await takeManifest(source)
    expect((await expectSame(home, source, { expect: expected })).changed).toEqual([])
    await writeFile(join(source, 'deep', 'er', 'other'), 'longer')
    await writeFile(join(source, 'deep', 'er', 'new'), 'new')
    await rm(join(source, 'deep', 'er', 'gone'))
    const { changed } = await expectSame(home, source, { expect: expected })
    expect(changed).toEqual(['deep/er/gone', 'deep/er/new', 'deep/er/other'])
  })
})

describe('a walk that goes down', () => {
  test.each(['saveDirectory', 'saveEntries'] as const)(
    '%s leaves nothing open when whoever is told fails',
    async (way) => {
      const home = await scratch()
      const source = join(home, 'source')
      await mkdir(source)
      await makeChain(source, 20)
      const save = await (await newRepository(join(home, 'repository'))).startSave()
      const onEntry = ({ path }: SavedEntry) => {
        if (path.endsWith('down/beside/file')) throw new TypeError('told')
      }
      await expect(save[way](source, { names: ['down'], onEntry })).rejects.toThrow(TypeError)
      await save.discard()
      expect(await openBelow(source)).toEqual([])
    },
  )

  test('goes on where a task ends: with its names, and with its memory', async () => {
    const home = await scratch()
    const source = join(home, 'source')
    await newRepository(join(home, 'repository'))
    for (let folder = 0; folder < 60; folder += 1) {
      const path = join(source, 'many', `${folder}`, 'in')
      await mkdir(path, { recursive: true })
      for (let file = 0; file < 50; file += 1) await writeFile(join(path, `${file}`), `${folder} ${file}`)
    }
    const random = seeded(8)
    for (let file = 0; file < 40; file += 1) {
      const path = join(source, 'large', `${file % 7}`)
      await mkdir(path, { recursive: true })
      await writeFile(join(path, `${file}`), random.bytes(400_000))
    }
    const { tree, files } = await expectSame(home, source)
    expect(files).toBe(60 * 50 + 40)
    expect((await expectSame(home, source, { parentTree: tree })).tree).toBe(tree)
  })

  test('goes no further down than trees of the parent were read in advance', async () => {
    const home = await scratch()
    const source = join(home, 'source')
    await newRepository(join(home, 'repository'))
    for (let folder = 0; folder < 10; folder += 1) {
      const path = join(source, 'in', `${folder}`)
      await mkdir(path, { recursive: true })
      for (let file = 0; file < 80; file += 1) await writeFile(join(path, `${file} ${'long '.repeat(45)}`), `${file}`)
    }
    const { tree: parentTree } = await expectSame(home, source)
    const { tree, read, entries } = await expectSame(home, source, { parentTree })
    expect([tree, read]).toEqual([parentTree, []])
    expect(entries.filter((entry) => !entry.endsWith(':unmodified'))).toEqual([])
  })

  test('finds directories in a long tree of the parent, also far from one another', async () => {
    const home = await scratch()
    const source = join(home, 'source')
    await newRepository(join(home, 'repository'))
    for (let folder = 0; folder < 40; folder += 1) {
      await mkdir(join(source, `${folder} b`), { recursive: true })
      await writeFile(join(source, `${folder} b`, 'file'), `${folder}`)
      for (let file = 0; file < 120; file += 1) {
        await writeFile(join(source, `${folder} c ${file} ${'long '.repeat(45)}`), '')
      }
    }
    const { tree: parentTree } = await expectSame(home, source)
    const { read, entries } = await expectSame(home, source, { parentTree })
    expect([read, entries.filter((entry) => !entry.endsWith(':unmodified'))]).toEqual([[], []])
  })

  test('reads everything where the parent refers to what is gone', async () => {
    const home = await scratch()
    const source = join(home, 'source')
    const path = join(home, 'repository')
    const repository = await newRepository(path)
    await mkdir(join(source, 'a', 'b'), { recursive: true })
    for (const name of ['one', 'a/two', 'a/b/three']) await writeFile(join(source, name), name)
    const { saved } = await takeSnapshot(repository, source)
    await repository.close()
    const vault = await openVault({ store: openLocalStore(path), password, ...world })
    for (const [pack, entries] of await entriesByPack(vault)) {
      if (entries.some(({ type }) => type === 'data')) await rm(join(path, 'data', pack.slice(0, 2), pack))
    }
    const repaired = await openRepository({ store: openLocalStore(path), password, ...world, forRepair: true })
    await repaired.upkeep.repairIndex()
    await repaired.close()
    const { tree, entries } = await walked(await reopen(path), source, { parentTree: saved.tree })
    expect(tree).toBe(saved.tree)
    expect(entries).toEqual(
      inOrder(['a/b/three:file:9', 'a/b:dir:0', 'a/two:file:5', 'a:dir:0', 'one:file:3']).map(
        (entry) => `${entry}:unmodified`,
      ),
    )
    const again = await reopen(path)
    expect((await again.check({ readData: true })).problems).toEqual([])
    const chunks: Uint8Array[] = []
    const node = await again.resolve(tree, 'a/b/three')
    if (node.type !== 'file') throw new Error('it was a file')
    for await (const chunk of again.readFile(node)) chunks.push(chunk)
    expect(Buffer.concat(chunks).toString()).toBe('a/b/three')
  })
})
