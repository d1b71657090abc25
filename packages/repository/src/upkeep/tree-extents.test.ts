import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createTreeExtents, type TreeExtent } from './tree-extents.ts'

/** Trees that hold only trees of smaller numbers, some several times. */
const forest = fc.array(fc.record({ entries: fc.nat(9), folders: fc.array(fc.nat(), { maxLength: 4 }) }), {
  minLength: 1,
  maxLength: 25,
})

test('agrees with counting by recursion, whatever the order in which trees are told', () => {
  const order = fc.infiniteStream(fc.nat())
  fc.assert(
    fc.property(forest, order, (given, chance) => {
      const trees = given.map(({ entries, folders }, at) => ({
        entries,
        folders: at === 0 ? [] : folders.map((one) => one % at),
      }))
      const extentOf = (tree: number): TreeExtent => {
        const { entries = 0, folders = [] } = trees[tree] ?? {}
        const below = folders.map(extentOf)
        return {
          depth: Math.max(0, ...below.map(({ depth }) => depth + 1)),
          entries: below.reduce((sum, one) => sum + one.entries, entries),
        }
      }
      const extents = createTreeExtents()
      const untold = trees.map((_, at) => at)
      while (untold.length > 0) {
        const [tree = 0] = untold.splice((chance.next().value ?? 0) % untold.length, 1)
        extents.tell(tree, trees[tree]?.entries ?? 0, trees[tree]?.folders ?? [])
      }
      for (const tree of trees.keys()) expect(extents.of(tree)).toEqual(extentOf(tree))
    }),
  )
})

test('counts on where no number is exact any more, and as deep as anybody likes', () => {
  const extents = createTreeExtents()
  for (let tree = 100_000; tree > 0; tree -= 1) extents.tell(tree, 2, [tree - 1, tree - 1])
  expect(extents.of(100_000)).toBeUndefined()
  extents.tell(0, 1, [])
  expect(extents.of(0)).toEqual({ depth: 0, entries: 1 })
  expect(extents.of(40)).toEqual({ depth: 40, entries: 2 ** 40 + 2 * (2 ** 40 - 1) })
  expect(extents.of(100_000)).toEqual({ depth: 100_000, entries: 2 ** 63 })
})
