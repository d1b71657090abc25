/** What a check says of trees: as much as a restore refuses. */
import type { TreeId } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { openMemoryStore } from '../blob/memory-store.ts'
import { surveyTree } from '../load/tree-survey.ts'
import { initRepository, openVault } from '../repository.ts'
import { clock, entropy, password, scryptCost, world } from '../testing/testbed.ts'
import { dirNode, fileNode, type HostileBlob, plant, plantSnapshot, treeOf } from '../torture/hostile.ts'
import { checkRepository } from './check.ts'

const never = new AbortController().signal

/** Codes and messages of what a check finds, and what a restore says. */
async function judged(blobs: readonly HostileBlob[], tree: TreeId) {
  const store = openMemoryStore()
  await initRepository({ store, password, entropy, clock, scryptCost })
  const vault = await openVault({ store, password, ...world })
  await plant(vault, blobs)
  await plantSnapshot(vault, { tree: `"${tree}"` })
  const { problems, trees } = await checkRepository(vault, never)
  const restore = await surveyTree(vault, tree, { signal: undefined, passOverDamage: false }).then(
    () => 'well',
    (error: { code?: string }) => error.code,
  )
  return { problems: problems.map(({ code, message }) => `${code} ${message}`), trees, restore }
}

/** So many directories, one in the other; the last one holds `inner`. */
function chain(levels: number, inner: readonly string[]) {
  let below = treeOf(inner)
  const blobs = [below.blob]
  for (let level = 0; level < levels; level += 1) {
    below = treeOf([dirNode(`${level}`, below.id)])
    blobs.push(below.blob)
  }
  return { blobs, tree: below.id }
}

describe('directories nested in each other', () => {
  test('2,048 levels are sound, one more is not', async () => {
    const most = chain(2048, [fileNode('f')])
    expect(await judged(most.blobs, most.tree)).toEqual({ problems: [], trees: 2049, restore: 'well' })
    const more = chain(2049, [fileNode('f')])
    const { problems, restore } = await judged(more.blobs, more.tree)
    expect(problems).toEqual([
      expect.stringMatching(/^tree_unsafe snapshot [0-9a-f]{64}:\/: tree [0-9a-f]{64} .*nested deeper than 2048$/),
    ])
    expect(restore).toBe('tree_unsafe')
  })

  test('too deep on one way, met on a shorter one before or after', async () => {
    const lower = chain(1100, [fileNode('f')])
    const upper = chain(1100, [dirNode('lower', lower.tree)])
    const long = dirNode('m', upper.tree)
    for (const nodes of [
      [dirNode('a', lower.tree), long],
      [long, dirNode('z', lower.tree)],
    ]) {
      const root = treeOf(nodes)
      const { problems } = await judged([...lower.blobs, ...upper.blobs, root.blob], root.id)
      expect(problems).toEqual([expect.stringContaining('nested deeper than 2048')])
    }
  })

  test('more entries than anybody can count', async () => {
    let below = treeOf([fileNode('f')])
    const blobs = [below.blob]
    for (let level = 0; level < 64; level += 1) {
      below = treeOf([dirNode('a', below.id), dirNode('b', below.id)])
      blobs.push(below.blob)
    }
    const { problems, trees, restore } = await judged(blobs, below.id)
    expect({ trees, restore }).toEqual({ trees: 65, restore: 'tree_unsafe' })
    expect(problems).toEqual([expect.stringMatching(/^tree_unsafe .*more than any file system holds$/)])
  })
})

describe('names', () => {
  test('that are not sorted are sound', async () => {
    const { id, blob } = treeOf([fileNode('b'), fileNode('a'), fileNode('c')])
    expect(await judged([blob], id)).toEqual({ problems: [], trees: 1, restore: 'well' })
  })

  test.each([
    ['side by side', ['a', 'a', 'b']],
    ['apart', ['a', 'b', 'a']],
    ['as the same bytes in two ways', ['\u00fc', 'b', '\\xc3\\xbc']],
  ])('that are equal: %s', async (_, names) => {
    const { id, blob } = treeOf(names.map((name) => fileNode(name)))
    const { problems, restore } = await judged([blob], id)
    expect(restore).toBe('tree_unsafe')
    expect(problems).toEqual([expect.stringMatching(/^tree_unsafe .*two entries named/)])
  })

  test('what is below a directory that is not safe is not looked at', async () => {
    const { id, blob } = treeOf([dirNode('gone', '0'.repeat(64)), fileNode('..')])
    const { problems, trees } = await judged([blob], id)
    expect(problems).toEqual([expect.stringMatching(/^tree_unsafe .*the name "\.\."/)])
    expect(trees).toBe(1)
  })
})

test('a missing blob, a wrong size and a missing directory are told with their paths', async () => {
  const data: HostileBlob = { type: 'data', plaintext: Buffer.from('content') }
  const dataTree = treeOf([
    fileNode('gone', `"size":3,"content":["${'1'.repeat(64)}"]`),
    fileNode('short', '"size":9,"content":["ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"]'),
    dirNode('sub', '2'.repeat(64)),
  ])
  const root = treeOf([dirNode('d', dataTree.id)])
  const { problems } = await judged([data, dataTree.blob, root.blob], root.id)
  expect(problems.sort()).toEqual([
    expect.stringMatching(
      /^object_damaged snapshot [0-9a-f]{64}:\/d\/short should have 9 bytes, but its content has 7$/,
    ),
    expect.stringMatching(/^object_missing data blob 1{64} of snapshot [0-9a-f]{64}:\/d\/gone is in no index$/),
    expect.stringMatching(/^object_missing snapshot [0-9a-f]{64}:\/d\/sub\/: tree blob 2{64} is in no index/),
  ])
})
