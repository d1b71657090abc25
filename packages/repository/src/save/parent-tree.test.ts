import { describe, expect, test } from 'vitest'
import { blobId, sha256, treeId } from '../format/ids.ts'
import { encodeNode, encodeTree, type FileNode, type NodeContent, type TreeNode } from '../format/tree.ts'
import { seeded } from '../testing/world.ts'
import { createParentTree, treeOfEncoded, unchangedSince, withContent } from './parent-tree.ts'
import { completeEntry } from './tree-entry.ts'

const id = (text: string) => blobId(sha256(Buffer.from(text)))
const at = 1_700_000_000_123_456_789n
const nodeOf = (name: string, content: NodeContent): TreeNode => ({
  ...completeEntry({ name, ...content }, at),
  inode: 7n,
})

function fileOf(name: string, content: readonly string[] = []): FileNode {
  const node = nodeOf(name, { type: 'file', bytes: content.length, content: content.map(id) })
  if (node.type !== 'file') throw new Error('not a file')
  return node
}

const nodes: readonly TreeNode[] = [
  fileOf('a', ['1']),
  fileOf('b{"name":"c","type":"file"', ['1', '2']),
  nodeOf('d', { type: 'dir', subtree: treeId(sha256(Buffer.from('tree'))) }),
  {
    ...fileOf('e', ['3']),
    extendedAttributes: [
      { name: 'f', value: Buffer.from('x') },
      { name: 'g', value: Buffer.from('y') },
    ],
  },
  fileOf('f', []),
  nodeOf('g', { type: 'symlink', target: '","type":"file"' }),
  fileOf('h é\udcff', ['4']),
]
const tree = encodeTree(nodes)
const emptied = (node: FileNode): FileNode => ({ ...node, content: [] })

describe('an earlier tree', () => {
  test('gives the content of equal files, in its order, whatever lies between', () => {
    const parents = createParentTree(tree, 0)
    for (const node of nodes) {
      if (node.type !== 'file') continue
      expect(parents.find(emptied(node), encodeNode(emptied(node)))).toEqual({ isEqual: true, content: node.content })
    }
  })

  test('can be looked through in parts', () => {
    const [first, second, , , , , last] = nodes
    if (first?.type !== 'file' || second?.type !== 'file' || last?.type !== 'file') throw new Error('not files')
    const before = createParentTree(tree, 0)
    expect(before.find(emptied(first), encodeNode(emptied(first)))?.isEqual).toBe(true)
    const after = createParentTree(tree, before.position)
    expect(after.find(emptied(first), encodeNode(emptied(first)))).toBeUndefined()
    expect(after.find(emptied(last), encodeNode(emptied(last)))).toEqual({ isEqual: true, content: last.content })
  })

  test('gives what has other metadata decoded, and finds nothing by a part of a name', () => {
    const changed = { ...fileOf('e'), mtime: at + 1n }
    const found = createParentTree(tree, 0).find(changed, encodeNode(changed))
    expect(found).toEqual({ isEqual: false, node: nodes[3] })
    for (const name of ['c', 'x', 'g ']) {
      expect(createParentTree(tree, 0).find(fileOf(name), encodeNode(fileOf(name)))).toBeUndefined()
    }
    expect(createParentTree(tree, 0).lookUp('d')).toEqual(nodes[2])
    expect(nodes.map((node) => createParentTree(tree, 0).lookUp(node.name))).toEqual(nodes)
  })

  test('of any size is looked through in parts, also where one entry is longer than those', () => {
    // 67 bytes each: 5 MB of ids.
    const chunks = Array.from({ length: 75_000 }, (_, chunk) => id(`${chunk}`))
    const long: FileNode = { ...fileOf('m'), content: chunks }
    const last: FileNode = { ...long, name: 'z' }
    const short = Array.from({ length: 30_000 }, (_, at) => fileOf(`n${String(at).padStart(6, '0')}`, [`${at}`]))
    const parents = createParentTree(encodeTree([long, ...short, last]), 0)
    for (const node of [long, ...short]) {
      const found = parents.find(emptied(node), encodeNode(emptied(node)))
      if (found?.isEqual !== true || found.content.join() !== node.content.join()) throw new Error(node.name)
    }
    const touched = { ...last, mtime: at + 1n }
    const found = parents.find(emptied(touched), encodeNode(emptied(touched)))
    expect(found?.isEqual === false && found.node.type === 'file' ? found.node.content.length : 0).toBe(75_000)
  })

  test('is passed over as far as it has to be: what lies between may be of any length', () => {
    const names = Array.from({ length: 20_000 }, (_, number) => `${number}`.padStart(5, '0'))
    const attribute = { name: 'user.note', value: Buffer.from('x') }
    const long = encodeTree(
      names.map((name) => ({ ...fileOf(`${name} é`, [name]), extendedAttributes: [attribute, attribute] })),
    )
    const parents = createParentTree(long, 0)
    const wanted = ['00001 é', '00002', '09999 é', '15000 é', '15000 éa', '19999 é', '2']
    const found = wanted.map((name) => parents.lookUp(name)?.name)
    expect(found).toEqual(['00001 é', undefined, '09999 é', '15000 é', undefined, '19999 é', undefined])
    // What is not there is not looked for beyond its place.
    const before = createParentTree(long, 0)
    expect(before.lookUp('00000')).toBeUndefined()
    expect(before.position).toBeLessThan(1 << 20)
  })

  test.each([1, 2, 3])('seed %d: has what is in it and nothing else, in the order of names', (seed) => {
    const random = seeded(seed)
    const letters = 'ab"\\é\u2028{}[],:'
    const randomName = () =>
      Array.from({ length: 1 + random.below(6) }, () => letters.charAt(random.below(12))).join('')
    const chunks = Array.from({ length: 40_000 }, (_, number) => id(`${number}`))
    const sizes = [0, 1, 2, 200, 40_000]
    const byName = new Map(
      Array.from({ length: 2000 }, () => randomName()).map((name) => {
        const few = random.below(150) === 0 ? random.below(5) : random.below(3)
        return [name, { ...fileOf(name), content: chunks.slice(0, sizes[few]) }]
      }),
    )
    const whole = encodeTree([...byName.values()])
    const wanted = [...new Set([...byName.keys(), ...Array.from({ length: 2000 }, () => randomName())])]
    wanted.sort((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other)))
    for (const share of [1, 5, 100, 1000]) {
      const parents = createParentTree(whole, 0)
      for (const name of wanted) {
        if (random.below(share) > 0) continue
        const found = parents.lookUp(name)
        const expected = byName.get(name)
        if (found?.type !== expected?.type) throw new Error(`${JSON.stringify(name)} of one in ${share}`)
        if (found?.type === 'file') expect(found.content.length).toBe(expected?.content.length)
      }
    }
  })

  test('that is no tree has nothing', () => {
    for (const text of ['', '{"nodes":null}\n', '{"name":"a","type":"file"', 'x'.repeat(100)]) {
      const parents = createParentTree(Buffer.from(text), 0)
      expect(parents.find(fileOf('a'), encodeNode(fileOf('a')))).toBeUndefined()
    }
  })

  test('tells unchanged files as the rules have it', () => {
    const rules = { parentTime: undefined, ignoreCtime: false, ignoreInode: false }
    const parent = fileOf('a', ['1'])
    const found = { isEqual: false, node: parent } as const
    expect(unchangedSince(found, fileOf('a'), rules)).toBeUndefined() // another length
    const same = { ...parent, user: 'another' }
    expect(unchangedSince(found, same, rules)).toEqual(parent.content)
    expect(unchangedSince(found, same, { ...rules, parentTime: at + 1_000_000_000n })).toBeUndefined()
    expect(unchangedSince(found, same, { ...rules, parentTime: at + 3_000_000_000n })).toEqual(parent.content)
    const moved = { ...same, inode: 8n, ctime: at + 5n }
    expect(unchangedSince(found, moved, rules)).toBeUndefined()
    expect(unchangedSince(found, moved, { ...rules, ignoreCtime: true, ignoreInode: true })).toEqual(parent.content)
    expect(
      unchangedSince({ isEqual: true, content: parent.content }, same, { ...rules, parentTime: at }),
    ).toBeUndefined()
  })
})

test('a tree of encoded nodes is the encoded tree', () => {
  const encoded = nodes.map((node) =>
    node.type === 'file' ? withContent(encodeNode(emptied(node)), node.content) : encodeNode(node),
  )
  expect(treeOfEncoded(encoded).equals(tree)).toBe(true)
  expect(treeOfEncoded([]).equals(encodeTree([]))).toBe(true)
})
