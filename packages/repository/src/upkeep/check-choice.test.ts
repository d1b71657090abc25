/** A check of some snapshots: it finds what is wrong with what they need, reads the packs of that, and no others. */
import { describe, expect, test } from 'vitest'
import { type MemoryObjects, openMemoryStore } from '../blob/memory-store.ts'
import { packId, type SnapshotId, sha256 } from '../format/ids.ts'
import { initRepository, openVault } from '../repository.ts'
import { clock, entropy, password, scryptCost, world } from '../testing/testbed.ts'
import { dirNode, fileNode, type HostileBlob, plant, plantSnapshot, treeOf } from '../torture/hostile.ts'
import { type CheckOptions, checkRepository } from './check.ts'
import type { CoverageStore } from './coverage-file.ts'
import { parseDataSubset } from './data-subset.ts'
import { parseReadBudget } from './read-coverage.ts'
import type { SnapshotSelection } from './select-snapshots.ts'

const never = new AbortController().signal

const data = (text: string): HostileBlob => ({ type: 'data', plaintext: Buffer.from(text.padEnd(100, '.')) })
const fileOf = (name: string, blobs: readonly HostileBlob[]) => {
  const ids = blobs.map(({ plaintext }) => `"${sha256(plaintext)}"`)
  return fileNode(name, `"size":${ids.length * 100},"content":[${ids.join(',')}]`)
}

/** Which packs were read and sound, as the last run says it. */
function remembering(): CoverageStore & { readonly names: () => readonly string[] } {
  let kept = new Map<string, number>()
  return {
    async load(take) {
      for (const [name, readMs] of kept) take(name, readMs)
    },
    async save(times) {
      kept = new Map(times)
    },
    names: () => [...kept.keys()].sort(),
  }
}

/**
 * Two snapshots, each with a file of its own and one that both have, and blobs that none needs. Each thing is in a pack of
 * its own, by its name here.
 */
async function twoSnapshots() {
  const objects: MemoryObjects = new Map()
  const store = openMemoryStore(objects)
  await initRepository({ store, password, entropy, clock, scryptCost })
  const vault = await openVault({ store, password, ...world, threads: 0 })
  const packs = new Map<string, string>()
  async function put(name: string, blobs: readonly HostileBlob[]): Promise<void> {
    const before = new Set(objects.keys())
    await plant(vault, blobs)
    const [key] = [...objects.keys()].filter((each) => each.startsWith('pack/') && !before.has(each))
    packs.set(name, key?.slice('pack/'.length) ?? expect.fail())
  }
  const pack = (name: string) => packs.get(name) ?? expect.fail(name)
  const [ofOne, ofTwo, shared] = [data('one'), data('two'), data('shared')]
  const below = treeOf([fileOf('below', [ofTwo])])
  const one = treeOf([fileOf('own', [ofOne]), fileOf('shared', [shared])])
  const two = treeOf([dirNode('below', below.id), fileOf('shared', [shared])])
  await put('data of one', [ofOne])
  await put('data of two', [ofTwo])
  await put('shared', [shared, data('beside the shared one')])
  await put('tree of one', [one.blob])
  await put('tree below two', [below.blob])
  await put('tree of two', [two.blob])
  await put('of none', [data('none')])
  const seal = (day: number, tree: string, fields: Readonly<Record<string, string>>) =>
    plantSnapshot(vault, { time: `"2026-11-${day}T00:00:00Z"`, tree: `"${tree}"`, ...fields })
  const ids = {
    one: await seal(21, one.id, { hostname: '"h1"', tags: '["a","b"]', paths: '["/x"]' }),
    two: await seal(22, two.id, { hostname: '"h2"', tags: '["a"]', paths: '["/x","/y"]' }),
  }
  const packsOf = {
    one: ['data of one', 'shared', 'tree of one'].map(pack).sort(),
    two: ['data of two', 'shared', 'tree below two', 'tree of two'].map(pack).sort(),
  }
  function flip(key: string): void {
    const bytes = objects.get(key) ?? expect.fail(key)
    bytes[20] = (bytes[20] ?? 0) ^ 1
  }
  const checked = async (options: CheckOptions) => {
    const { problems, ...report } = await checkRepository(vault, never, options)
    return { ...report, problems: problems.map(({ code, message }) => `${code} ${message}`) }
  }
  const only = (...named: readonly string[]) => ({ ids: named, selection: {} })
  return {
    objects,
    vault,
    put,
    pack,
    seal,
    ids,
    packsOf,
    only,
    checked,
    damage: (name: string) => flip(`pack/${pack(name)}`),
    damageSnapshot: (id: SnapshotId) => flip(`snapshot/${id}`),
  }
}

describe('what only one of the snapshots needs', () => {
  test.each(['data of two', 'tree below two', 'tree of two'])(
    '%s, damaged, is found for this one only',
    async (name) => {
      const { ids, packsOf, only, pack, checked, damage } = await twoSnapshots()
      damage(name)
      const sound = await checked({ only: only(ids.one), readData: true })
      expect(sound).toMatchObject({ problems: [], isPartial: true, snapshots: 1, trees: 1 })
      expect(sound).toMatchObject({ packs: 7, packsRead: packsOf.one.length })
      const { problems } = await checked({ only: only(ids.two), readData: true })
      expect(problems).toContainEqual(expect.stringContaining(`object_damaged pack ${pack(name)} `))
      for (const all of [only(), only(ids.one, ids.two)]) {
        expect((await checked({ only: all, readData: true })).problems).toEqual(problems)
      }
    },
  )

  test('a damaged tree is found without reading data, damaged data is not', async () => {
    const { ids, only, checked, damage } = await twoSnapshots()
    damage('data of two')
    expect((await checked({ only: only(ids.two) })).problems).toEqual([])
    damage('tree below two')
    expect((await checked({ only: only(ids.one) })).problems).toEqual([])
    expect((await checked({ only: only(ids.two) })).problems).toEqual([
      expect.stringContaining(`snapshot ${ids.two}:/below/: `),
    ])
  })

  test('a tree or a blob that is missing is found for this one only', async () => {
    const { ids, only, put, seal, checked } = await twoSnapshots()
    const lost = treeOf([dirNode('lost', 'ab'.repeat(32)), fileOf('short', [data('nowhere')])])
    await put('tree of three', [lost.blob])
    const three = await seal(23, lost.id, {})
    for (const readData of [false, true]) {
      expect((await checked({ only: only(ids.one, ids.two), readData })).problems).toEqual([])
      expect((await checked({ only: only(three), readData })).problems).toEqual([
        expect.stringMatching(/^object_missing data blob .* is in no index$/),
        expect.stringMatching(/^object_missing snapshot .*\/lost\/: /),
      ])
    }
  })
})

describe('packs', () => {
  test('of both snapshots are read for either, with all that is in them', async () => {
    const { ids, only, objects, pack, checked, damage } = await twoSnapshots()
    const bytes = objects.get(`pack/${pack('shared')}`) ?? expect.fail()
    const sealed = Buffer.from(bytes)
    damage('shared')
    const judge = async () => {
      for (const id of [ids.one, ids.two]) {
        const { problems } = await checked({ only: only(id), readData: true })
        expect(problems).toEqual([expect.stringContaining(`object_damaged pack ${pack('shared')} `)])
      }
    }
    await judge()
    sealed.copy(bytes)
    expect((await checked({ readData: true })).problems).toEqual([])
    bytes[160] = (bytes[160] ?? 0) ^ 1 // in the blob that none needs
    await judge()
  })

  test('are all read that a blob lies in', async () => {
    const { ids, packsOf, only, put, pack, checked } = await twoSnapshots()
    await put('again', [data('filler'), data('one')])
    const coverage = remembering()
    await checked({ only: only(ids.one), readData: true, coverage })
    expect(coverage.names()).toEqual([...packsOf.one, pack('again')].sort())
  })

  test('that no snapshot needs, or no index file names, are read for a check of everything only', async () => {
    const { ids, only, objects, checked } = await twoSnapshots()
    const stray = Buffer.from('no pack')
    const id = packId(sha256(stray))
    objects.set(`pack/${id}`, stray)
    const partial = await checked({ only: only(ids.one, ids.two), readData: true })
    expect(partial).toMatchObject({ problems: [], packs: 8, packsRead: 6, unreferencedPacks: [id] })
    const { problems, ...all } = await checked({ only: only(), readData: true })
    expect(all).toMatchObject({ isPartial: false, snapshots: 2, packs: 8, packsRead: 8, unreferencedPacks: [id] })
    expect(problems).toEqual([expect.stringContaining(`object_damaged pack ${id} `)])
  })

  test('that are missing are told whoever needs them', async () => {
    const { ids, only, objects, pack, checked } = await twoSnapshots()
    objects.delete(`pack/${pack('data of two')}`)
    const { problems, packsRead } = await checked({ only: only(ids.one), readData: true })
    expect(problems).toEqual([expect.stringContaining(`object_missing pack ${pack('data of two')} `)])
    expect(packsRead).toBe(3)
  })
})

describe('a part of the data', () => {
  test('is of the packs of the chosen snapshots', async () => {
    const { ids, packsOf, only, checked } = await twoSnapshots()
    const read = async (part: string) => {
      const coverage = remembering()
      const { packsRead } = await checked({ only: only(ids.two), dataSubset: parseDataSubset(part), coverage })
      expect(coverage.names()).toHaveLength(packsRead)
      return coverage.names()
    }
    expect(await read('100%')).toEqual(packsOf.two)
    expect(await read('1T')).toEqual(packsOf.two)
    expect([...(await read('1/2')), ...(await read('2/2'))].sort()).toEqual(packsOf.two)
    for (const [part, count] of [['50%', 2] as const, ['1%', 1] as const, ['1', 1] as const]) {
      const names = await read(part)
      expect(names).toHaveLength(count)
      expect(packsOf.two).toEqual(expect.arrayContaining([...names]))
    }
  })

  test('within a budget goes round them, and the times of others stay', async () => {
    const { ids, packsOf, only, checked } = await twoSnapshots()
    const coverage = remembering()
    const read = (id: SnapshotId, budget: string) =>
      checked({ only: only(id), readBudget: parseReadBudget(budget), coverage })
    for (let run = 1; run <= packsOf.two.length; run += 1) {
      const report = await read(ids.two, '1')
      expect(report).toMatchObject({ packsRead: 1, coverage: { packs: 7, packsWithin: run, packsNever: 7 - run } })
    }
    expect(coverage.names()).toEqual(packsOf.two)
    expect(await read(ids.one, '100%')).toMatchObject({ packsRead: 3, coverage: { packsNever: 1 } })
    expect(coverage.names()).toEqual([...new Set([...packsOf.one, ...packsOf.two])].sort())
  })
})

describe('snapshots', () => {
  test('are chosen by id, its beginning, or latest, each once', async () => {
    const { ids, packsOf, checked } = await twoSnapshots()
    const choose = async (named: readonly string[], selection: SnapshotSelection = {}) => {
      const coverage = remembering()
      const { snapshots } = await checked({ only: { ids: named, selection }, readData: true, coverage })
      return { snapshots, names: coverage.names() }
    }
    expect(await choose([ids.one])).toEqual({ snapshots: 1, names: packsOf.one })
    expect(await choose([ids.one.slice(0, 12)])).toEqual({ snapshots: 1, names: packsOf.one })
    expect(await choose(['latest'])).toEqual({ snapshots: 1, names: packsOf.two })
    expect(await choose(['latest'], { hostnames: ['h1'] })).toEqual({ snapshots: 1, names: packsOf.one })
    expect(await choose([ids.two, ids.two.slice(0, 12), 'latest'])).toEqual({ snapshots: 1, names: packsOf.two })
    expect(await choose([ids.one], { hostnames: ['h2'] })).toEqual({ snapshots: 1, names: packsOf.one })
  })

  test.each<[string, SnapshotSelection, 'one' | 'two']>([
    ['host', { hostnames: ['h1'] }, 'one'],
    ['tags', { tags: [['a', 'b']] }, 'one'],
    ['paths', { paths: ['/x', '/y'] }, 'two'],
    ['host and tag', { hostnames: ['h2'], tags: [['a']] }, 'two'],
  ])('are chosen by %s', async (_, selection, name) => {
    const { packsOf, checked } = await twoSnapshots()
    const coverage = remembering()
    const report = await checked({ only: { ids: [], selection }, readData: true, coverage })
    expect(report).toMatchObject({ isPartial: true, snapshots: 1, problems: [] })
    expect(coverage.names()).toEqual(packsOf[name])
  })

  test.each<[string, Partial<CheckOptions>]>([
    ['all data', { readData: true }],
    ['a share', { dataSubset: parseDataSubset('5%') }],
    ['a size', { dataSubset: parseDataSubset('5') }],
    ['a budget', { readBudget: parseReadBudget('5%'), coverage: remembering() }],
  ])('that no filter matches are none: nothing is read of %s', async (_, options) => {
    const { checked } = await twoSnapshots()
    const report = await checked({ only: { ids: [], selection: { tags: [['nobody has it']] } }, ...options })
    expect(report).toMatchObject({ isPartial: true, snapshots: 0, trees: 0, packs: 7, packsRead: 0, problems: [] })
  })

  test('that are named and not there are refused', async () => {
    const { ids, only, checked } = await twoSnapshots()
    const absent = { code: 'snapshot_absent' }
    await expect(checked({ only: only(ids.one, 'ab'.repeat(32)) })).rejects.toMatchObject(absent)
    await expect(checked({ only: only('no id') })).rejects.toMatchObject(absent)
    const selection = { tags: [['nobody has it']] }
    await expect(checked({ only: { ids: ['latest'], selection } })).rejects.toMatchObject(absent)
  })

  test('that are damaged are found where they are looked at, and the others checked', async () => {
    const { ids, only, checked, damageSnapshot } = await twoSnapshots()
    damageSnapshot(ids.two)
    const found = { problems: [expect.stringContaining(`object_damaged snapshot ${ids.two} `)], snapshots: 1 }
    expect(await checked({ only: only(ids.one) })).toMatchObject({ problems: [], snapshots: 1 })
    expect(await checked({ only: only(ids.two, ids.one) })).toMatchObject(found)
    expect(await checked({ only: { ids: [], selection: { hostnames: ['h1'] } } })).toMatchObject(found)
    expect(await checked({ only: only('latest', ids.one) })).toMatchObject(found)
  })
})
