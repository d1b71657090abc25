/** The immutable collections of large states, against a plain array and a plain map. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AssertionError } from './assert.ts'
import { ChunkedList, ChunkedMap } from './chunked.ts'

describe('a chunked list', () => {
  test('is what an array is, and no change is seen by who holds an older one', () => {
    const change = fc.record({ place: fc.nat(), item: fc.integer(), isNew: fc.boolean() })
    fc.assert(
      fc.property(fc.array(fc.integer(), { maxLength: 200 }), fc.array(change, { maxLength: 80 }), (items, changes) => {
        let list = ChunkedList.of(items)
        let model: readonly number[] = items
        const older: [ChunkedList<number>, readonly number[]][] = []
        for (const { place, item, isNew } of changes) {
          older.push([list, model])
          if (isNew || model.length === 0) {
            list = list.plus(item)
            model = [...model, item]
          } else {
            list = list.with(place % model.length, item)
            model = model.with(place % model.length, item)
          }
        }
        for (const [one, expected] of [...older, [list, model] as const]) {
          expect([...one]).toEqual(expected)
          expect(one.length).toBe(expected.length)
        }
        for (const [index, item] of model.entries()) expect(list.at(index)).toBe(item)
        expect(list).toEqual(ChunkedList.of(model))
      }),
      { numRuns: 60 },
    )
  })

  test('copies a chunk, and shares the others', () => {
    const list = ChunkedList.of(Array.from({ length: 1_000 }, (_, index) => index))
    const changed = list.with(500, -1)
    expect(changed.chunks.filter((chunk, index) => chunk !== list.chunks[index])).toHaveLength(1)
    expect(list.plus(1).chunks.filter((chunk, index) => chunk !== list.chunks[index])).toHaveLength(1)
  })

  test.each([-1, 3, 0.5, Number.NaN])('has nothing at %s', (index) => {
    const list = ChunkedList.of([1, 2, 3])
    expect(() => list.at(index)).toThrow(AssertionError)
    expect(() => list.with(index, 0)).toThrow(AssertionError)
  })
})

describe('a chunked map', () => {
  const map = ChunkedMap.of([
    ['a', 1],
    ['b', 2],
  ])

  test('has its keys for ever, in their order', () => {
    const changed = map.with('a', 3)
    expect([...map]).toEqual([
      ['a', 1],
      ['b', 2],
    ])
    expect([...changed.values()]).toEqual([3, 2])
    expect(changed.map((value, key) => value + key.length)).toEqual(map.with('a', 4).with('b', 3))
    expect([changed.size, changed.has('b'), changed.has('c'), changed.placeOf('b'), changed.placeOf('c')]).toEqual([
      2,
      true,
      false,
      1,
      undefined,
    ])
    expect([changed.get('a'), changed.get('c')]).toEqual([3, undefined])
  })

  test('takes no key that it does not have, and none twice', () => {
    expect(() => map.with('c', 1)).toThrow('c is not a key')
    expect(() => ChunkedMap.of([['a', 1] as const, ['a', 2] as const])).toThrow('twice')
  })
})
