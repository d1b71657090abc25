import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type BlobType, sha256 } from '../format/ids.ts'
import { createBlobSet } from './blob-set.ts'

/** Few ids, and some that differ only at their ends. */
const id = fc.tuple(fc.integer({ min: 0, max: 5 }), fc.constantFrom('', '0', '1', 'f')).map(([number, end]) => {
  const whole = sha256(Buffer.of(number))
  return whole.slice(0, 64 - end.length) + end
})
const action = fc.record({
  id,
  type: fc.constantFrom<BlobType>('data', 'tree'),
  what: fc.constantFrom('add', 'add', 'count'),
})

test('agrees with a map', () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 300 }), (actions) => {
      const set = createBlobSet()
      const model = new Map<string, number>()
      for (const { id: blob, type, what } of actions) {
        const line = `${type} ${blob}`
        const count = model.get(line)
        expect(set.has(blob, type)).toBe(count !== undefined)
        if (what === 'add') {
          expect(set.add(blob, type)).toBe(count === undefined)
          model.set(line, count ?? 0)
        } else if (count !== undefined) {
          set.counts.increment(set.rowOf(blob, type))
          model.set(line, count + 1)
        } else expect(set.rowOf(blob, type)).toBe(-1)
      }
      const found: [string, number][] = []
      set.each((blob, type, row) => found.push([`${type} ${blob}`, set.counts.get(row)]))
      expect(found).toEqual([...model])
      expect(set.size).toBe(model.size)
    }),
  )
})

test('keeps its rows while it grows, and counts to 255', () => {
  const set = createBlobSet()
  const rows: number[] = []
  for (let number = 0; number < 30_000; number += 1) {
    const blob = sha256(Buffer.from(`${number}`))
    set.add(blob, 'data')
    rows.push(set.rowOf(blob, 'data'))
  }
  expect(rows.every((row, number) => set.rowOf(sha256(Buffer.from(`${number}`)), 'data') === row)).toBe(true)
  expect(new Set(rows).size).toBe(30_000)
  for (let turn = 0; turn < 300; turn += 1) set.counts.increment(rows[5] ?? -1)
  expect([4, 5, 6].map((number) => set.counts.get(rows[number] ?? -1))).toEqual([0, 255, 0])
})
