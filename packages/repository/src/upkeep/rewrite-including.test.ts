/** Snapshots that are written anew with only what patterns are for: what is left, what is not read, and what stays as it is. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type MemoryObjects, openMemoryStore } from '../blob/memory-store.ts'
import { sha256 } from '../format/ids.ts'
import { initRepository, openVault, type Repository } from '../repository.ts'
import { anyMatches, type PathPattern, parsePattern } from '../selection/path-pattern.ts'
import { openMemory } from '../testing/prunable.ts'
import { clock, entropy, password, scratch, scryptCost, world } from '../testing/testbed.ts'
import { dirNode, fileNode, type HostileBlob, plant, plantSnapshot, treeOf } from '../torture/hostile.ts'

type Folder = { readonly [name: string]: string | Folder }

/** Texts are files. */
const planted: Folder = {
  home: {
    me: { 'a.txt': 'hello', docs: { 'b.txt': 'deep', 'c.log': 'log', none: {} }, none: {} },
    you: { 'A.TXT': 'loud', docs: { 'd.log': 'logs' } },
  },
  none: {},
  srv: { deep: { none: {} }, 'e.log': '' },
}

/** Each of them with the tree, its files and the directories, as JSON that we would write otherwise. */
function blobsOf(folder: Folder): { readonly id: string; readonly blobs: readonly HostileBlob[] } {
  const blobs: HostileBlob[] = []
  const nodes = Object.entries(folder).map(([name, what]) => {
    if (typeof what !== 'string') {
      const below = blobsOf(what)
      blobs.push(...below.blobs)
      return dirNode(name, below.id)
    }
    const plaintext = Buffer.from(what)
    blobs.push({ type: 'data', plaintext })
    return fileNode(name, `"size":${plaintext.length},"content":${JSON.stringify([sha256(plaintext)])}`)
  })
  const { id, blob } = treeOf(nodes)
  return { id, blobs: [...blobs, blob] }
}

interface Planted {
  readonly objects: MemoryObjects
  readonly repository: Repository
}

async function withTree({ id, blobs }: ReturnType<typeof blobsOf>): Promise<Planted> {
  const objects: MemoryObjects = new Map()
  const store = openMemoryStore(objects)
  await initRepository({ store, password, entropy, clock, scryptCost })
  const vault = await openVault({ store, password, ...world })
  await plant(
    vault,
    blobs.filter(
      ({ plaintext }, at) => blobs.findIndex((each) => Buffer.compare(plaintext, each.plaintext) === 0) === at,
    ),
  )
  await plantSnapshot(vault, { tree: `"${id}"`, tags: '["kept"]' })
  return { objects, repository: await openMemory(objects) }
}

const patterns = (...texts: readonly string[]) => texts.map((text) => parsePattern(text))

interface Entry {
  readonly path: string
  readonly isDirectory: boolean
  readonly bytes: number
}

function entriesOf(folder: Folder, at = ''): readonly Entry[] {
  return Object.entries(folder).flatMap(([name, what]): readonly Entry[] => {
    const path = `${at}/${name}`
    if (typeof what === 'string') return [{ path, isDirectory: false, bytes: what.length }]
    return [{ path, isDirectory: true, bytes: 0 }, ...entriesOf(what, path)]
  })
}

/** What is left, by looking at each path for itself. */
function leftOf(include: readonly PathPattern[]): readonly Entry[] {
  const entries = entriesOf(planted)
  const matching = entries.filter(({ path }) => anyMatches(include, path))
  return entries.filter(({ path }) => matching.some((match) => `${match.path}/`.startsWith(`${path}/`)))
}

/** What is not, and in no directory that is not. */
function leftOutOf(left: readonly Entry[]): readonly string[] {
  const paths = new Set(left.map(({ path }) => path))
  const parentOf = (path: string) => path.slice(0, path.lastIndexOf('/'))
  return entriesOf(planted)
    .map(({ path }) => path)
    .filter((path) => !paths.has(path) && (parentOf(path) === '' || paths.has(parentOf(path))))
}

async function pathsIn(repository: Repository, id: string): Promise<readonly string[]> {
  const { tree } = await repository.findSnapshot(id)
  const paths: string[] = []
  for await (const { path } of repository.upkeep.walk(tree)) paths.push(path)
  return paths.sort()
}

describe('rewrite with what is included', () => {
  test.each([
    ['an anchored directory, with all in it', ['/home/me/docs'], 4],
    ['what is anchored further down is nothing', ['/me/docs', 'a.txt'], 1],
    ['names anywhere, and what leads there', ['*.log'], 3],
    ['a row of names anywhere', ['me/docs'], 4],
    ['any number of directories between', ['/home/**/*.txt'], 2],
    ['empty directories that match, and no others', ['none'], 4],
    ['a directory without what is taken back', ['/home', '!*.log', '!none'], 2],
    ['what is taken back first and then given is there', ['/home/me', '!docs', 'b.txt'], 3],
  ])('%s', async (_, texts, matching) => {
    const include = patterns(...texts)
    const left = leftOf(include)
    const { repository } = await withTree(blobsOf(planted))
    const [rewritten] = await repository.upkeep.rewrite({ snapshots: await repository.snapshots(), include })
    expect(await pathsIn(repository, rewritten?.newId ?? '')).toEqual(left.map(({ path }) => path).sort())
    expect(left.length).toBeGreaterThan(matching)
    expect(rewritten?.excluded).toEqual(leftOutOf(left))
    const { tags, summary, original } = await repository.findSnapshot(rewritten?.newId ?? '')
    expect({ tags, original }).toEqual({ tags: ['kept', 'rewrite'], original: rewritten?.id })
    const files = left.filter(({ isDirectory }) => !isDirectory)
    const totals = { files: BigInt(files.length), bytes: BigInt(files.reduce((sum, { bytes }) => sum + bytes, 0)) }
    expect(rewritten?.totals).toEqual(totals)
    expect(summary).toMatchObject({ totalFilesProcessed: totals.files, totalBytesProcessed: totals.bytes })
    expect((await repository.check({ readData: true })).problems).toEqual([])
  })

  test('as a dumb reader takes it, whatever the patterns', async () => {
    const { objects, repository } = await withTree(blobsOf(planted))
    const before = [...objects.keys()]
    const snapshots = await repository.snapshots()
    const part = fc.constantFrom('**', '*', '?*', 'home', 'me', 'y*', 'docs', 'none', '*.log', 'a.txt', 'srv', 'deep')
    const pattern = fc
      .record({
        negation: fc.constantFrom('', '', '!'),
        root: fc.constantFrom('', '/'),
        parts: fc.array(part, { minLength: 1, maxLength: 4 }),
        ignoreCase: fc.boolean(),
      })
      .map(({ negation, root, parts, ignoreCase }) =>
        parsePattern(`${negation}${root}${parts.join('/')}`, { ignoreCase }),
      )
    let changed = 0
    await fc.assert(
      fc.asyncProperty(fc.array(pattern, { minLength: 1, maxLength: 4 }), async (include) => {
        const left = leftOf(include)
        const [told] = await repository.upkeep.rewrite({ snapshots, include, dryRun: true })
        const isAnyIncluded = left.length > 0
        const excluded = isAnyIncluded ? leftOutOf(left) : []
        const isChanged = excluded.length > 0
        if (isChanged) changed += 1
        expect(told).toMatchObject({ isAnyIncluded, isChanged, excluded, newId: undefined })
      }),
      { numRuns: 300 },
    )
    expect(changed).toBeGreaterThan(50)
    expect([...objects.keys()]).toEqual(before)
  })

  test('nothing matches: all stays as it is, whatever else was wanted', async () => {
    const { objects, repository } = await withTree(blobsOf(planted))
    const before = [...objects.keys()]
    const snapshots = await repository.snapshots()
    const more = { hostname: 'other', time: 1n, withSummary: true, forget: true }
    for (const include of [patterns('nowhere'), patterns('/me'), patterns('none', '!none'), patterns('!home')]) {
      const rewritten = await repository.upkeep.rewrite({ snapshots, include, ...more })
      const unchanged = { isChanged: false, isAnyIncluded: false, newId: undefined, excluded: [], totals: undefined }
      expect(rewritten).toEqual([{ id: snapshots[0]?.id, ...unchanged }])
    }
    expect([...objects.keys()]).toEqual(before)
  })

  test('all matches: nothing is written anew, unless something else changes', async () => {
    const { repository } = await withTree(blobsOf(planted))
    const snapshots = await repository.snapshots()
    for (const include of [patterns('/'), patterns('*'), patterns('/home', '/none', 'srv')]) {
      const rewritten = await repository.upkeep.rewrite({ snapshots, include, forget: true })
      expect(rewritten).toMatchObject([{ isChanged: false, isAnyIncluded: true, excluded: [] }])
    }
    const include = patterns('*')
    const [renamed] = await repository.upkeep.rewrite({ snapshots, include, hostname: 'other', forget: true })
    expect(
      (await repository.snapshots()).map(({ id, hostname, tree, tags }) => ({ id, hostname, tree, tags })),
    ).toEqual([{ id: renamed?.newId, hostname: 'other', tree: snapshots[0]?.tree, tags: ['kept'] }])
  })

  test('no snapshot of nothing is made, nor made anew', async () => {
    for (const [tree, include] of [
      [planted, patterns('/', '!**')],
      [{}, patterns('*')],
      [{}, patterns('/')],
    ] as const) {
      const { repository } = await withTree(blobsOf(tree))
      const snapshots = await repository.snapshots()
      const [told] = await repository.upkeep.rewrite({ snapshots, include, hostname: 'other', forget: true })
      expect(told).toMatchObject({ isChanged: false, isAnyIncluded: false, excluded: [] })
      expect(await repository.snapshots()).toEqual(snapshots)
    }
  })

  test('of several snapshots, only those change of which something matches', async () => {
    const { objects, repository } = await withTree(blobsOf(planted))
    const vault = await openVault({ store: openMemoryStore(objects), password, ...world })
    const other = blobsOf({ srv: { deep: {} } })
    await plant(vault, other.blobs)
    const id = await plantSnapshot(vault, { tree: `"${other.id}"` })
    const both = await openMemory(objects)
    const rewritten = await both.upkeep.rewrite({
      snapshots: await both.snapshots(),
      include: patterns('/home'),
      forget: true,
    })
    expect(rewritten.filter(({ isAnyIncluded }) => !isAnyIncluded).map((each) => each.id)).toEqual([id])
    const after = await repository.snapshots()
    expect(after.map((each) => each.id).sort()).toEqual([id, ...rewritten.flatMap(({ newId }) => newId ?? [])].sort())
  })

  test('what no pattern leads to is not read, and what one leads to is', async () => {
    const lost = dirNode('lost', 'ab'.repeat(32))
    const { id: home, blob } = treeOf([fileNode('a')])
    const root = treeOf([dirNode('home', home), lost])
    const { repository } = await withTree({ id: root.id, blobs: [blob, root.blob] })
    const snapshots = await repository.snapshots()
    const anywhere = repository.upkeep.rewrite({ snapshots, include: patterns('a') })
    await expect(anywhere).rejects.toMatchObject({ code: 'object_missing' })
    const [rewritten] = await repository.upkeep.rewrite({ snapshots, include: patterns('/home/a'), forget: true })
    expect(rewritten?.excluded).toEqual(['/lost'])
    expect((await repository.check({ readData: true })).problems).toEqual([])
  })

  test('not together with what is excluded', async () => {
    const { repository } = await withTree(blobsOf(planted))
    const both = { snapshots: await repository.snapshots(), include: patterns('home'), exclude: () => false }
    await expect(repository.upkeep.rewrite(both)).rejects.toMatchObject({ code: 'options_invalid' })
    const target = join(await scratch(), 'target')
    const [same] = await repository.upkeep.rewrite({ ...both, include: [], hostname: 'other' })
    await repository.loadDirectory((await repository.findSnapshot(same?.newId ?? '')).tree, target)
    expect(await readdir(target)).toEqual(['home', 'none', 'srv'])
  })
})
