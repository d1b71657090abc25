import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createBlobIndex } from './blob-index.ts'
import { type BlobType, packId, sha256 } from './format/ids.ts'
import type { PackEntry } from './format/pack.ts'

/** Few ids, so that they collide, and a slot of the table is shared by many. */
const blob = fc.record({
  number: fc.integer({ min: 0, max: 40 }),
  type: fc.constantFrom<BlobType>('data', 'tree'),
  pack: fc.integer({ min: 0, max: 3 }),
  offset: fc.integer({ min: 0, max: 5 }),
})

test('agrees with a simple model', () => {
  fc.assert(
    fc.property(fc.array(blob, { maxLength: 200 }), (blobs) => {
      const index = createBlobIndex()
      const model = new Map<string, PackEntry & { pack: string }>()
      for (const { number, type, pack, offset } of blobs) {
        const entry: PackEntry = {
          id: sha256(Buffer.of(number)),
          type,
          offset,
          length: 50,
          plainBytes: number || undefined,
        }
        const name = packId(sha256(Buffer.of(200 + pack)))
        index.add({ id: name, entries: [entry] })
        model.set([entry.id, type, pack, offset].join(), { ...entry, pack: name })
      }
      expect(index.size).toBe(model.size)
      for (let number = 0; number <= 41; number += 1) {
        for (const type of ['data', 'tree'] as const) {
          const id = sha256(Buffer.of(number))
          const expected = [...model.values()].filter((entry) => entry.id === id && entry.type === type)
          expect(index.places(id, type)).toEqual(expected)
          expect(index.has(id, type)).toBe(expected.length > 0)
        }
      }
      expect([...index.byPack().values()].flat()).toHaveLength(model.size)
    }),
  )
})

test('grows', () => {
  const index = createBlobIndex()
  const idOf = (number: number) => sha256(Buffer.from(`${number}`))
  for (let pack = 0; pack < 10; pack += 1) {
    const entries = Array.from({ length: 1000 }, (_, at): PackEntry => {
      return { id: idOf(pack * 1000 + at), type: 'data', offset: at * 100, length: 100, plainBytes: undefined }
    })
    index.add({ id: packId(idOf(-1 - pack)), entries })
  }
  expect(index.size).toBe(10_000)
  for (let number = 0; number < 10_000; number += 1) {
    const place = { pack: idOf(-1 - Math.floor(number / 1000)), offset: (number % 1000) * 100 }
    expect(index.places(idOf(number), 'data')).toMatchObject([place])
  }
  expect(index.has(idOf(10_000), 'data')).toBe(false)
})
