import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createBlobIndex } from '../blob-index.ts'
import { type BlobType, packId, sha256 } from '../format/ids.ts'
import { entropy } from '../testing/world.ts'
import { createReachedBlobs } from './reached-blobs.ts'

const idOf = (number: number) => sha256(Buffer.from(`${number}`))
const blob = fc.record({ number: fc.nat(12), type: fc.constantFrom<BlobType>('data', 'tree') })

test('agrees with a set of ids, and marks every place of what was met', () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(blob, { maxLength: 6 }), { maxLength: 5 }),
      fc.array(fc.record({ blob, byDigits: fc.boolean() }), { maxLength: 40 }),
      (packs, met) => {
        const index = createBlobIndex(entropy)
        /** Of the rows of the index, in their order. */
        const rows = packs.flat().map(({ number, type }) => `${type} ${idOf(number)}`)
        packs.forEach((blobs, at) => {
          const entries = blobs.map(({ number, type }, place) => ({
            id: idOf(number),
            type,
            offset: place * 50,
            length: 50,
            plainBytes: undefined,
          }))
          index.add({ id: packId(sha256(Buffer.from(`pack ${at}`))), entries })
        })
        const reached = createReachedBlobs(index)
        const model = new Set<string>()
        for (const {
          blob: { number, type },
          byDigits,
        } of met) {
          const id = idOf(number)
          const digits = { bytes: Buffer.from(`..${id}`), at: 2 }
          const isNew = byDigits && type === 'data' ? reached.addDigits(digits) : reached.add(id, type)
          expect(isNew).toBe(!model.has(`${type} ${id}`))
          model.add(`${type} ${id}`)
        }
        expect(reached.size).toBe(model.size)
        const unknown: string[] = []
        reached.unknown.each((id, type) => unknown.push(`${type} ${id}`))
        expect(unknown).toEqual([...model].filter((line) => !rows.includes(line)))
        const first: number[] = []
        reached.eachFirst((row) => first.push(row))
        expect(first).toEqual(
          [...rows.keys()].filter((row) => model.has(rows[row] ?? '') && rows.indexOf(rows[row] ?? '') === row),
        )
        for (const [row, line] of rows.entries()) {
          expect(reached.hasRow(row)).toBe(model.has(line))
          expect(reached.isRepeated(row)).toBe(model.has(line) && rows.indexOf(line) !== rows.lastIndexOf(line))
        }
      },
    ),
  )
})
