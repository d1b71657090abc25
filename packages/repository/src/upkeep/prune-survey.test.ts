/** The arrays of a survey against a dumb count with maps of ids, on index files of every kind. */
import type { TreeId } from '@stillpoint/core/kernel'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { openMemoryStore } from '../blob/memory-store.ts'
import { type PackId, packId, sha256 } from '../format/ids.ts'
import { encodeIndex, type IndexedPack } from '../format/index-file.ts'
import { type PackEntry, packBytes } from '../format/pack.ts'
import { initRepository, openVault } from '../repository.ts'
import { clock, entropy, password, scryptCost, world } from '../testing/testbed.ts'
import { fileNode, plant, plantSnapshot, treeOf } from '../torture/hostile.ts'
import { writeDocument } from '../vault.ts'
import { listIndexFiles, readIndexFile } from './index-files.ts'
import { surveyForPrune } from './prune-survey.ts'

const idOf = (number: number) => sha256(Buffer.from(`${number}`))
const entry = fc.record({
  number: fc.nat(14),
  length: fc.integer({ min: 32, max: 3_000_000 }),
  plainBytes: fc.constantFrom(undefined, 1000),
})
const given = fc.record({
  packs: fc.array(
    fc.record({
      entries: fc.array(entry, { minLength: 1, maxLength: 8 }),
      /** Index files that name it. */
      files: fc.uniqueArray(fc.nat(2), { maxLength: 2 }),
      stored: fc.constantFrom('whole', 'whole', 'whole', 'whole', 'whole', 'longer', 'gone'),
    }),
    { maxLength: 8 },
  ),
  used: fc.uniqueArray(fc.nat(14), { maxLength: 8 }),
})

type Given = typeof given extends fc.Arbitrary<infer T> ? T : never

/** A repository with one file of the used blobs; packs of data are said to be there. */
async function repositoryOf({ packs, used }: Given) {
  const inner = openMemoryStore()
  const sizes = new Map<PackId, number>()
  const store: typeof inner = {
    ...inner,
    async *list(kind) {
      yield* inner.list(kind)
      if (kind === 'pack') yield [...sizes].map(([name, bytes]) => ({ name, bytes }))
    },
  }
  await initRepository({ store, password, entropy, clock, scryptCost })
  const vault = await openVault({ store, password, ...world })
  const ids = used.map((number) => `"${idOf(number)}"`)
  const tree = treeOf([fileNode('f', `"size":1,"content":[${ids.join(',')}]`)])
  await plant(vault, [tree.blob])
  await plantSnapshot(vault, { tree: `"${tree.id}"` })
  const files: IndexedPack[][] = [[], [], []]
  packs.forEach(({ entries, files: named, stored }, at) => {
    let offset = 0
    const id = packId(sha256(Buffer.from(`pack ${at}`)))
    const placed = entries.map(({ number, length, plainBytes }): PackEntry => {
      offset += length
      return { id: idOf(number), type: 'data', offset: offset - length, length, plainBytes }
    })
    for (const file of named) files[file]?.push({ id, entries: placed })
    if (stored !== 'gone') sizes.set(id, packBytes(placed) + (stored === 'longer' ? 1 : 0))
  })
  for (const file of files) await writeDocument(vault, 'index', encodeIndex(file))
  return { vault, sizes, tree: tree.id }
}

type Repository = Awaited<ReturnType<typeof repositoryOf>>

interface Counted {
  readonly id: PackId
  readonly files: string[]
  readonly isWhole: boolean
  readonly entries: readonly PackEntry[]
}

/** What index files say, as objects. */
async function countedPacks({ vault, sizes }: Repository, tree: TreeId): Promise<Counted[]> {
  const counted = new Map<PackId, Counted>()
  for (const file of await listIndexFiles(vault)) {
    for (const { id, entries } of await readIndexFile(vault, file)) {
      const isWhole = sizes.get(id) === packBytes(entries) || entries.some((one) => one.id === tree)
      const known = counted.get(id) ?? { id, files: [], isWhole, entries }
      known.files.push(file)
      counted.set(id, known)
    }
  }
  return [...counted.values()]
}

/** Of each used blob the one place that counts: in the pack with the least that is unused, then by ids and offsets. */
function keptPlaces(packs: readonly Counted[], isUsed: (one: PackEntry) => boolean): Map<string, string> {
  const unusedOf = ({ entries }: Counted) => entries.reduce((sum, one) => sum + (isUsed(one) ? 0 : one.length), 0)
  const kept = new Map<string, string>()
  const whole = packs.filter(({ isWhole }) => isWhole)
  whole.sort((one, other) => unusedOf(one) - unusedOf(other) || (one.id < other.id ? -1 : 1))
  for (const { id, entries } of whole) {
    for (const one of entries) if (isUsed(one) && !kept.has(one.id)) kept.set(one.id, `${id} ${one.offset}`)
  }
  return kept
}

const options = { abort: () => {}, ignoreSnapshots: new Set<never>(), onProgress: () => {} }

test('a survey agrees with a dumb count, and refuses exactly where a used blob has no place', async () => {
  await fc.assert(
    fc.asyncProperty(given, async (wanted) => {
      const repository = await repositoryOf(wanted)
      const { vault, sizes, tree } = repository
      const packs = await countedPacks(repository, tree)
      const used = new Set([tree, ...wanted.used.map(idOf)])
      const isUsed = (one: PackEntry) => used.has(one.id)
      const kept = keptPlaces(packs, isUsed)
      const survey = await surveyForPrune(vault, options).catch((error: { code?: string; message: string }) => error)
      if (kept.size < used.size) {
        expect(survey).toMatchObject({ code: 'prune_refused' })
        expect(survey).toMatchObject({ message: expect.stringContaining(`: ${used.size - kept.size} blobs`) })
        for (const id of 'message' in survey ? (survey.message.match(/(?<=blob )[0-9a-f]{64}/g) ?? []) : []) {
          expect(used.has(id) && !kept.has(id)).toBe(true)
        }
        return
      }
      if ('message' in survey) throw survey
      const { index, named, use } = survey
      expect([...named.order].map((pack) => index.packId(pack))).toEqual(packs.map(({ id }) => id))
      expect(survey.orphans.map(({ id }) => id)).toEqual(
        [...sizes.keys()].filter((id) => !packs.some((pack) => pack.id === id)),
      )
      for (const { id, files, isWhole, entries } of packs) {
        const pack = index.packNumber(id)
        const isKept = (one: PackEntry) => isWhole && kept.get(one.id) === `${id} ${one.offset}`
        const sumOf = (these: readonly PackEntry[]) => these.reduce((sum, { length }) => sum + length, 0)
        const [inUse, others] = [entries.filter(isKept), entries.filter((one) => !isKept(one))]
        expect([use.usedBlobs[pack], use.usedBytes[pack]]).toEqual([inUse.length, sumOf(inUse)])
        expect([use.unusedBlobs[pack], use.unusedBytes[pack]]).toEqual([others.length, sumOf(others)])
        expect([use.isWhole(pack), named.filesOf(pack)]).toEqual([isWhole, files])
        if (isWhole) expect(entries.map((one) => survey.isKept(pack, one))).toEqual(entries.map(isKept))
        expect(use.hasUncompressed(pack)).toBe(entries.some(({ plainBytes }) => plainBytes === undefined))
      }
    }),
    { numRuns: 50 },
  )
})
