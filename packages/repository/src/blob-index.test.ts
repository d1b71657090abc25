import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type BlobIndex, type BlobPlace, createBlobIndex } from './blob-index.ts'
import { type BlobType, packId, sha256 } from './format/ids.ts'
import { columnsOf, type IndexedPack } from './format/index-file.ts'
import { blobPlainBytes, type PackEntry, packBytes } from './format/pack.ts'
import { createBlobLengths } from './index-memory/blob-lengths.ts'
import { entropy, seeded } from './testing/world.ts'

const idOf = (number: number) => sha256(Buffer.from(`${number}`))
const packNamed = (number: number) => packId(sha256(Buffer.from(`pack ${number}`)))

/** Few ids, so that blobs lie in several packs. */
const blob = fc.record({
  number: fc.integer({ min: 0, max: 40 }),
  type: fc.constantFrom<BlobType>('data', 'tree'),
  length: fc.constantFrom(32, 50, 0xff_ffff, 0x100_0000, 0xffff_ffff),
  plain: fc.constantFrom(undefined, 1, 0xff_fffe, 0xff_ffff, 0xffff_ffff),
  gap: fc.constantFrom(0, 0, 0, 7),
})

/** Packs as index files have them: in any order of entries, with gaps, the same one in several files. */
const packList = fc.array(
  fc.record({
    pack: fc.integer({ min: 0, max: 3 }),
    blobs: fc.array(blob, { maxLength: 90 }),
    isReversed: fc.boolean(),
  }),
  { maxLength: 6 },
)

function entriesOf(
  blobs: readonly { number: number; type: BlobType; length: number; plain: number | undefined; gap: number }[],
) {
  const entries: PackEntry[] = []
  let offset = 0
  for (const { number, type, length, plain, gap } of blobs) {
    offset += gap
    if (offset > 0xffff_ffff) break
    entries.push({ id: idOf(number), type, offset, length, plainBytes: plain })
    offset += length
  }
  return entries
}

const lineOf = (place: BlobPlace) =>
  [place.pack, place.id, place.type, place.offset, place.length, place.plainBytes].join(' ')

function expectModel(index: BlobIndex, model: ReadonlyMap<string, BlobPlace>): void {
  for (let number = 0; number <= 41; number += 1) {
    for (const type of ['data', 'tree'] as const) {
      const id = idOf(number)
      const expected = [...model.values()].filter((entry) => entry.id === id && entry.type === type)
      expect(index.places(id, type).map(lineOf).sort()).toEqual(expected.map(lineOf).sort())
      expect(index.has(id, type)).toBe(expected.length > 0)
      const lengths = expected.map(blobPlainBytes)
      expect(lengths.length === 0 ? [undefined] : lengths).toContain(index.plainBytes(id, type))
    }
  }
  expect(index.size - index.removedRows).toBe(model.size)
}

function changedInOneField(entry: PackEntry | undefined): readonly PackEntry[] {
  if (entry === undefined) return []
  const { id, type, offset, length, plainBytes } = entry
  const near = (value: number) => (value === 0 ? 1 : value - 1)
  return [
    { ...entry, id: `${id.slice(0, -1)}${id.endsWith('0') ? '1' : '0'}` },
    { ...entry, type: type === 'tree' ? 'data' : 'tree' },
    { ...entry, offset: near(offset) },
    { ...entry, length: near(length) },
    { ...entry, plainBytes: near(plainBytes ?? 0) },
  ]
}

describe('an index in memory', () => {
  test('agrees with a simple model, whatever the packs and their order', () => {
    fc.assert(
      fc.property(packList, fc.boolean(), (given, asOneFile) => {
        const index = createBlobIndex(entropy)
        const model = new Map<string, BlobPlace>()
        const packs = given.map(({ pack, blobs, isReversed }): IndexedPack => {
          const entries = entriesOf(blobs)
          for (const entry of entries) {
            const place = { ...entry, pack: packNamed(pack) }
            model.set(lineOf(place), place)
          }
          return { id: packNamed(pack), entries: isReversed ? entries.reverse() : entries }
        })
        if (asOneFile) index.addColumns(columnsOf(packs))
        else for (const pack of packs) index.add(pack)
        expectModel(index, model)
        const summaries = new Map<string, { blobs: number; fileBytes: number }>()
        index.eachPack(({ number, ...summary }) => summaries.set(index.packId(number), summary))
        for (const id of new Set(packs.map((pack) => pack.id))) {
          const places = [...model.values()].filter(({ pack }) => pack === id)
          expect(summaries.get(id)).toEqual({ blobs: places.length, fileBytes: packBytes(places) })
          expect(index.hasPack(id)).toBe(true)
          expect(index.agrees({ id, entries: places })).toBe(true)
          const [, ...fewer] = places
          if (places.length > 0) expect(index.agrees({ id, entries: fewer })).toBe(false)
          for (const other of changedInOneField(places.at(-1))) {
            expect(index.agrees({ id, entries: [...places.slice(0, -1), other] })).toBe(false)
          }
        }
      }),
      { numRuns: 60 },
    )
  })

  test('forgets packs, and knows them again', () => {
    fc.assert(
      fc.property(packList, fc.integer({ min: 0, max: 15 }), (given, keptMask) => {
        const index = createBlobIndex(entropy)
        const all = new Map(given.map(({ pack, blobs }) => [pack, entriesOf(blobs)]))
        const numbers = new Map<number, number>()
        for (const [pack, entries] of all) {
          const [number = -1] = index.addColumns(columnsOf([{ id: packNamed(pack), entries }]))
          numbers.set(number, pack)
        }
        const isKept = (pack = 0) => ((keptMask >> pack) & 1) === 1
        const model = new Map<string, BlobPlace>()
        const learn = (pack: number, entries: readonly PackEntry[]) => {
          for (const entry of entries) {
            const place = { ...entry, pack: packNamed(pack) }
            model.set(lineOf(place), place)
          }
        }
        index.removePacks((number) => isKept(numbers.get(number)))
        for (const [pack, entries] of all) if (isKept(pack)) learn(pack, entries)
        expectModel(index, model)
        for (const [pack, entries] of all) expect(index.agrees({ id: packNamed(pack), entries })).toBe(isKept(pack))
        for (const [pack, entries] of all) {
          index.add({ id: packNamed(pack), entries })
          learn(pack, entries)
        }
        expectModel(index, model)
        expect(index.isContradictory).toBe(false)
      }),
      { numRuns: 40 },
    )
  })

  test('says when two files say different things about a pack, and has both', () => {
    const index = createBlobIndex(entropy)
    const entry = (number: number): PackEntry => ({
      id: idOf(number),
      type: 'data',
      offset: number * 50,
      length: 50,
      plainBytes: undefined,
    })
    index.add({ id: packNamed(1), entries: [entry(0), entry(1)] })
    index.add({ id: packNamed(1), entries: [entry(1), entry(0)] })
    expect(index.isContradictory).toBe(false)
    index.add({ id: packNamed(1), entries: [entry(1), entry(2)] })
    expect(index.isContradictory).toBe(true)
    expect([0, 1, 2, 3].map((number) => index.has(idOf(number), 'data'))).toEqual([true, true, true, false])
    expect(index.places(idOf(1), 'data')).toHaveLength(1)
  })

  test('a blob of one type is none of the other', () => {
    const index = createBlobIndex(entropy)
    index.add({
      id: packNamed(1),
      entries: [{ id: idOf(1), type: 'tree', offset: 0, length: 50, plainBytes: undefined }],
    })
    expect([index.has(idOf(1), 'tree'), index.has(idOf(1), 'data')]).toEqual([true, false])
  })

  test('ids that differ in one digit are different blobs', () => {
    const index = createBlobIndex(entropy)
    const id = idOf(1)
    index.add({ id: packNamed(1), entries: [{ id, type: 'data', offset: 0, length: 50, plainBytes: undefined }] })
    for (let at = 0; at < 64; at += 1) {
      for (const digit of '0123456789abcdef') {
        const other = id.slice(0, at) + digit + id.slice(at + 1)
        expect(index.has(other, 'data')).toBe(other === id)
      }
    }
  })
})

/** Adds packs of 16 blobs, as packs of 16 MiB have them. Returns the most that a blob took from `from` blobs on. */
function worstBytesPerBlob(blobsMax: number, from: number): number {
  const index = createBlobIndex(entropy)
  const random = seeded(7)
  let worst = 0
  while (index.size < blobsMax) {
    const entries = Array.from({ length: 16 }, (_, at): PackEntry => {
      return { id: random.bytes(32).toString('hex'), type: 'data', offset: at * 1000, length: 1000, plainBytes: 4000 }
    })
    index.add({ id: packId(random.bytes(32).toString('hex')), entries })
    if (index.size >= from) worst = Math.max(worst, index.bytes / index.size)
  }
  return worst
}

describe('the memory of an index', () => {
  // Every size on the way is looked at, so that those just after growing are among them.
  test('is at most 40 bytes per blob at any size from 4,000 blobs on', () => {
    expect(worstBytesPerBlob(100_000, 4000)).toBeLessThanOrEqual(40)
  })

  test('is at most 32 bytes per blob at any size from 50,000 blobs on', () => {
    expect(worstBytesPerBlob(150_000, 50_000)).toBeLessThanOrEqual(32)
  })

  test('is at most 27 bytes per blob where the number is known before', () => {
    const index = createBlobIndex(entropy)
    index.expect(200_000)
    const random = seeded(8)
    while (index.size < 200_000) {
      const entries = Array.from({ length: 16 }, (_, at): PackEntry => {
        return { id: random.bytes(32).toString('hex'), type: 'data', offset: at * 1000, length: 1000, plainBytes: 9 }
      })
      index.add({ id: packId(random.bytes(32).toString('hex')), entries })
    }
    expect(index.bytes / index.size).toBeLessThanOrEqual(27)
  })

  test('lengths of 16 MiB and more are kept, and cost more', () => {
    const lengths = createBlobLengths()
    const values = [0, 1, 0xff_fffe, 0xff_ffff, 0x100_0000, 0xffff_ffff]
    for (const [row, value] of values.entries()) lengths.add(row, value, 0xffff_ffff - value)
    for (const [row, value] of values.entries()) {
      expect([lengths.sealed(row), lengths.plain(row)]).toEqual([value, 0xffff_ffff - value])
    }
  })
})

test('finds what it has and nothing else among 70,000 blobs, across every change of its table', () => {
  const index = createBlobIndex(entropy)
  for (let pack = 0; pack < 70; pack += 1) {
    const entries = Array.from({ length: 1000 }, (_, at): PackEntry => {
      return { id: idOf(pack * 1000 + at), type: 'data', offset: at * 100, length: 100, plainBytes: undefined }
    })
    index.add({ id: packNamed(pack), entries })
  }
  expect(index.size).toBe(70_000)
  let wrong = 0
  for (let number = 0; number < 70_000; number += 1) {
    const [place, ...more] = index.places(idOf(number), 'data')
    const isRight = place?.pack === packNamed(Math.floor(number / 1000)) && place.offset === (number % 1000) * 100
    if (!isRight || more.length > 0) wrong += 1
    if (index.has(idOf(number + 70_000), 'data')) wrong += 1
  }
  expect(wrong).toBe(0)
})
