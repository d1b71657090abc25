/**
 * Repositories that somebody with the keys has made to harm: names that lead elsewhere, bombs of depth, of size and of
 * number, sizes that lie, documents nested without end. Whatever is done with them ends, soon, well or with a `Failure`;
 * nothing is written outside, and memory stays within bounds.
 */
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { isFailure, type TreeId } from '@stillpoint/core/kernel'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type MemoryObjects, openMemoryStore } from '../blob/memory-store.ts'
import { sha256, treeId } from '../format/ids.ts'
import { initRepository, openRepository, openVault, type Repository } from '../repository.ts'
import { clock, entropy, world } from '../testing/world.ts'
import type { Vault } from '../vault.ts'
import { dirNode, fileNode, type HostileBlob, plant, plantSnapshot, treeOf } from './hostile.ts'
import { fastScratch } from './places.ts'
import { passwords, scryptCheapest } from './subject.ts'

const endsMsMax = 60_000
const memoryBytesMax = 3 * 2 ** 30

interface Planted {
  readonly objects: MemoryObjects
  readonly vault: Vault
}

async function emptyRepository(): Promise<Planted> {
  const objects: MemoryObjects = new Map()
  const store = openMemoryStore(objects)
  await initRepository({ store, password: passwords[0], entropy, clock, scryptCost: scryptCheapest })
  return { objects, vault: await openVault({ store, password: passwords[0], ...world }) }
}

interface Attempt {
  readonly repository: Repository
  readonly tree: TreeId
  /** An empty tree, to compare with. */
  readonly nothing: TreeId
  readonly target: string
}

async function drained(pieces: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of pieces);
}

/** What users do with a snapshot. */
const attempts: Readonly<Record<string, (attempt: Attempt) => Promise<unknown>>> = {
  check: async ({ repository }) => requireNone(await repository.check({ readData: true })),
  ls: ({ repository, tree }) => drained(repository.upkeep.walk(tree)),
  diff: ({ repository, tree, nothing }) => repository.upkeep.diff({ from: nothing, to: tree, onChange: () => {} }),
  'diff with itself': ({ repository, tree }) => repository.upkeep.diff({ from: tree, to: tree, onChange: () => {} }),
  stats: async ({ repository }) => {
    const snapshots = await repository.snapshots()
    for (const mode of ['restore-size', 'files-by-contents', 'raw-data', 'blobs-per-file'] as const) {
      await repository.upkeep.stats({ snapshots, mode })
    }
  },
  tar: ({ repository, tree }) => drained(repository.upkeep.tar(tree)),
  // zip takes its entries and their content from where tar does.
  restore: ({ repository, tree, target }) => repository.loadDirectory(tree, join(target, 'one')),
  'restore all that can be': async ({ repository, tree, target }) => {
    const { problems } = await repository.loadDirectory(tree, join(target, 'all'), { onProblem: 'continue' })
    if (problems[0] !== undefined) throw problems[0].failure
  },
  copy: async ({ repository }) => {
    const { objects } = await emptyRepository()
    const into = await openRepository({ store: openMemoryStore(objects), password: passwords[0], ...world })
    await into.upkeep.copyFrom(repository, { snapshots: await repository.snapshots() })
  },
  tag: async ({ repository }) => repository.upkeep.tag({ snapshots: await repository.snapshots(), add: ['t'] }),
  'repair snapshots': ({ repository }) => repository.upkeep.repairSnapshots({ dryRun: true }),
  prune: ({ repository }) => repository.upkeep.prune(),
}

function requireNone({ problems }: Awaited<ReturnType<Repository['check']>>): void {
  if (problems[0] !== undefined) throw problems[0]
}

type Ends = Readonly<Record<string, string>>

/** How each attempt ends: `well`, or the code of its failure. */
async function endsOf({ objects }: Planted, tree: TreeId, only = Object.keys(attempts)): Promise<Ends> {
  const scratch = await fastScratch()
  onTestFinished(() => scratch[Symbol.asyncDispose]())
  const target = join(scratch.path, 'below', 'target')
  await mkdir(target, { recursive: true })
  const ends: Record<string, string> = {}
  for (const [name, attempt] of Object.entries(attempts)) {
    if (!only.includes(name)) continue
    const copy: MemoryObjects = new Map(objects)
    const store = openMemoryStore(copy)
    const beganMs = performance.now()
    try {
      const repository = await openRepository({ store, password: passwords[0], ...world })
      await attempt({ repository, tree, nothing: treeOf([]).id, target })
      ends[name] = 'well'
    } catch (error) {
      if (!isFailure(error)) throw new Error(`${name} crashed`, { cause: error })
      ends[name] = error.code
    }
    expect(performance.now() - beganMs, name).toBeLessThan(endsMsMax)
    expect(process.memoryUsage().rss, name).toBeLessThan(memoryBytesMax)
  }
  expect(await readdir(scratch.path)).toEqual(['below'])
  expect(await readdir(join(scratch.path, 'below'))).toEqual(['target'])
  return ends
}

interface With {
  readonly fields?: Readonly<Record<string, string>>
  /** Default: all attempts. */
  readonly only?: string[]
}

async function endsWith(blobs: readonly HostileBlob[], tree: TreeId, { fields = {}, only }: With = {}) {
  const planted = await emptyRepository()
  await plant(planted.vault, [...blobs, treeOf([]).blob])
  await plantSnapshot(planted.vault, { tree: `"${tree}"`, ...fields })
  return endsOf(planted, tree, only)
}

/** Each level holds the next one so many times. */
function nested(levels: number, times: number): { readonly blobs: readonly HostileBlob[]; readonly tree: TreeId } {
  let below = treeOf([fileNode('f')])
  const blobs = [below.blob]
  for (let level = 1; level < levels; level += 1) {
    const subtree = below.id
    below = treeOf(Array.from({ length: times }, (_, at) => dirNode(`${at}`, subtree)))
    blobs.push(below.blob)
  }
  return { blobs, tree: below.id }
}

describe('hostile trees', () => {
  test.each(['..', '.', '', '/etc/passwd', '../../outside', 'a/../../b', 'nul\0byte'])('a name: %j', async (name) => {
    const inner = treeOf([fileNode('fine')])
    const { id, blob } = treeOf([fileNode(name), dirNode(`${name}`, inner.id)])
    const ends = await endsWith([inner.blob, blob], id)
    const refused = {
      check: 'tree_unsafe',
      restore: 'tree_unsafe',
      'restore all that can be': 'tree_unsafe',
      tar: 'tree_unsafe',
    }
    expect(ends).toMatchObject({ ...refused, ls: 'well', copy: 'well', prune: 'well' })
  })

  test('the same name twice, as a link that leads out and as a directory', async () => {
    const inner = treeOf([fileNode('outside')])
    const link = '{"name":"x","type":"symlink","mode":134218239,"linktarget":"../../.."}'
    const { id, blob } = treeOf([link, dirNode('x', inner.id)])
    const ends = await endsWith([inner.blob, blob], id)
    expect(ends).toMatchObject({ check: 'tree_unsafe', restore: 'tree_unsafe', ls: 'well', prune: 'well' })
  })

  test('100,000 levels', async () => {
    const { blobs, tree } = nested(100_000, 1)
    // Copying and checking them is only long: they are a hundred thousand sound blobs.
    const only = ['ls', 'diff', 'stats', 'tar', 'restore', 'repair snapshots', 'tag', 'prune']
    const ends = await endsWith(blobs, tree, { only })
    const refused = {
      ls: 'tree_unsafe',
      diff: 'tree_unsafe',
      restore: 'tree_unsafe',
      tar: 'tree_unsafe',
      stats: 'tree_unsafe',
    }
    expect(ends).toMatchObject(refused)
  }, 300_000)

  test('2^64 paths in 64 trees', async () => {
    const { blobs, tree } = nested(64, 2)
    const ends = await endsWith(blobs, tree)
    const refused = {
      ls: 'tree_unsafe',
      diff: 'tree_unsafe',
      restore: 'tree_unsafe',
      tar: 'tree_unsafe',
      stats: 'tree_unsafe',
    }
    expect(ends).toMatchObject({ ...refused, copy: 'well', prune: 'well' })
  })

  test('many equal directories are no bomb', async () => {
    const inner = treeOf([fileNode('f')])
    const { id, blob } = treeOf(Array.from({ length: 1000 }, (_, at) => dirNode(`${at}`, inner.id)))
    const ends = await endsWith([inner.blob, blob], id)
    expect(new Set(Object.values(ends))).toEqual(new Set(['well']))
  })

  test('a tree of three million entries', async () => {
    const nodes = Array.from({ length: 3_000_000 }, (_, at) => `{"name":"${at}","type":"fifo"}`)
    const { id, blob } = treeOf(nodes)
    const ends = await endsWith([blob], id)
    expect(ends).toMatchObject({ check: 'object_damaged', ls: 'object_damaged', restore: 'object_damaged' })
  })

  test.each([
    ['a size that lies', '"size":9007199254740991'],
    ['a size of zero', '"size":0'],
  ])('%s', async (_, size) => {
    const data: HostileBlob = { type: 'data', plaintext: Buffer.from('content') }
    const { id, blob } = treeOf([fileNode('f', `${size},"content":["${sha256(data.plaintext)}"]`)])
    const ends = await endsWith([data, blob], id)
    expect(ends).toMatchObject({
      check: 'object_damaged',
      restore: 'object_damaged',
      tar: 'object_damaged',
      prune: 'well',
    })
  })

  test.each(['-1', '1e999', '0.5', '"7"', '9'.repeat(1_000_000)])('a size of %.10s', async (size) => {
    const { id, blob } = treeOf([fileNode('f', `"size":${size},"content":[]`)])
    const ends = await endsWith([blob], id)
    expect(ends).toMatchObject({ check: 'object_damaged', ls: 'object_damaged', restore: 'object_damaged' })
  })

  test.each([
    ['more than it says', 10, 64 << 20],
    ['less than it says', 0xffff_ffff, 1000],
    ['less than an unbelievable size', (1 << 29) + 1, 1000],
  ])('a blob that unfolds to %s', async (_, claimedBytes, bytes) => {
    const data: HostileBlob = { type: 'data', plaintext: Buffer.alloc(bytes), claimedBytes }
    const tree = treeOf([fileNode('f', `"size":${claimedBytes},"content":["${sha256(data.plaintext)}"]`)])
    const ends = await endsWith([data, tree.blob], tree.id)
    expect(ends).toMatchObject({ check: 'object_damaged', restore: 'object_damaged', tar: 'object_damaged' })
  })

  test.each([
    ['arrays', '['.repeat(1_000_000)],
    ['objects', '{"nodes":'.repeat(300_000)],
    ['nodes', `{"nodes":[{"name":"x","type":"file","x":${'['.repeat(200_000)}${']'.repeat(200_000)}}]}`],
    [
      'exact numbers',
      `{"nodes":[{"name":"x","type":"file","inode":12345678901234567,"x":${'['.repeat(200_000)}${']'.repeat(200_000)}}]}`,
    ],
  ])('a tree that is nested %s', async (_, json) => {
    const blob: HostileBlob = { type: 'tree', plaintext: Buffer.from(json) }
    await endsWith([blob], treeOfJson(json))
  })
})

function treeOfJson(json: string): TreeId {
  return treeId(sha256(Buffer.from(json)))
}

describe('hostile snapshots', () => {
  const { id, blob } = treeOf([fileNode('f')])
  const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`

  test.each<[string, Readonly<Record<string, string>>, Ends]>([
    ['paths that lead out', { paths: '["../../etc","/\\u0000","\\u001b[2J"]' }, { check: 'well', restore: 'well' }],
    ['a tree that is a file', { tree: `"${sha256(Buffer.from('data'))}"` }, { check: 'object_missing' }],
    [
      'fields that are nested deep',
      { unknown: deep },
      { check: 'well', tag: 'object_damaged', copy: 'object_damaged' },
    ],
    ['a time that is none', { time: '"yesterday"' }, { check: 'object_damaged', tag: 'object_damaged' }],
    ['a tree that is no id', { tree: '"../../../etc/passwd"' }, { check: 'object_damaged' }],
  ])('with %s', async (_, fields, expected) => {
    const data: HostileBlob = { type: 'data', plaintext: Buffer.from('data') }
    expect(await endsWith([blob, data], id, { fields })).toMatchObject(expected)
  })

  test('repairing one with 150,000 files that have lost their content', async () => {
    const planted = await emptyRepository()
    const lost = `"size":7,"content":["${'ab'.repeat(32)}"]`
    const tree = treeOf(Array.from({ length: 150_000 }, (_, at) => fileNode(`${at}`.padStart(6, '0'), lost)))
    const root = treeOf([dirNode('d', tree.id)])
    await plant(planted.vault, [tree.blob, root.blob])
    await plantSnapshot(planted.vault, { tree: `"${root.id}"` })
    const ends = await endsOf(planted, root.id, ['repair snapshots'])
    expect(ends['repair snapshots']).toBe('well')
  })
})
