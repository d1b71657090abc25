import { isFailure } from '@stillpoint/core/kernel'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DamageError } from '../format/damage.ts'
import { blobId, sha256, treeId } from '../format/ids.ts'
import { decodeTree, encodeTree, type TreeNode } from '../format/tree.ts'
import { cutTree } from './cut-tree.ts'
import { idOfDigits, nodesIn, scanTreeBytes } from './scan-tree.ts'
import { usualNode } from './usual-node.ts'

const idOf = (number: number) => sha256(Buffer.from(`${number}`))

const other = Buffer.from(`{"nodes":[{"name":"a","type":"file","content":["${idOf(3)}"]}]}`)

/** What an entry is and refers to: all that is looked at without decoding it. */
type Seen = readonly [type: string, name: string, refersTo: unknown]

function seenOf(node: TreeNode): Seen {
  if (node.type === 'file') return [node.type, node.name, { bytes: node.bytes, content: node.content }]
  return [node.type, node.name, node.type === 'dir' ? node.subtree : undefined]
}

/** Everything that is given out. */
function scanned(bytes: Buffer): Seen[] {
  const seen: Seen[] = []
  scanTreeBytes(bytes, (node) => {
    if (node.type === 'file') {
      const content = Array.from({ length: node.content.count }, (_, at) => idOfDigits(node.content.digits(at)))
      seen.push([node.type, node.name, { bytes: node.bytes, content }])
    } else seen.push([node.type, node.name, node.type === 'dir' ? node.subtree : undefined])
  })
  return seen
}

/** Whole nodes, one after another, between which others look at trees. */
function walked(bytes: Buffer): TreeNode[] {
  const nodes: TreeNode[] = []
  for (const node of nodesIn(bytes, treeId(idOf(0)))) {
    nodes.push(node)
    scanTreeBytes(other, () => {})
  }
  return nodes
}

function outcome(read: () => unknown): unknown {
  try {
    return read()
  } catch (error) {
    if (error instanceof DamageError || isFailure(error, 'object_damaged')) return 'damaged'
    throw error
  }
}

function expectSame(bytes: Buffer): void {
  const expected = outcome(() => decodeTree(bytes))
  expect(outcome(() => scanned(bytes))).toEqual(outcome(() => decodeTree(bytes).map(seenOf)))
  expect(outcome(() => walked(bytes))).toEqual(expected)
}

const name = fc.oneof(
  fc.constantFrom('"content":["', '\\', '"', '{', ']}', 'a"content', 'ü', '\u{1f600}', '\udc80', '<&>\u2028', '\n'),
  fc.string({ minLength: 1, maxLength: 8, unit: 'binary' }),
)
const time = fc.oneof(
  fc.constant(0n),
  fc.bigInt({ min: -62_000_000_000_000_000_000n, max: 253_000_000_000_000_000_000n }),
)
const common = {
  permissions: fc.constantFrom(0, 0o644),
  mtime: time,
  atime: time,
  ctime: time,
  uid: fc.nat(9),
  gid: fc.nat(9),
  user: fc.constantFrom('', '"}'),
  group: fc.constant(''),
  inode: fc.constantFrom(0n, 7n, (1n << 64n) - 1n),
  deviceId: fc.constant(1n),
  links: fc.constant(1n),
  extendedAttributes: fc.constantFrom(
    [],
    [{ name: '"content":[', value: Buffer.from('x') }],
    [
      { name: 'user.a', value: Buffer.alloc(0) },
      { name: 'security.selinux', value: Buffer.from('xyz') },
    ],
  ),
}
const content = fc.oneof(
  fc
    .record({
      type: fc.constant('file' as const),
      bytes: fc.nat(99),
      ids: fc.oneof({ weight: 9, arbitrary: fc.nat(2) }, fc.constant(900)),
    })
    .map((file) => {
      const ids = Array.from({ length: file.ids }, (_, at) => blobId(idOf(at)))
      return { type: file.type, bytes: file.bytes, content: ids }
    }),
  fc.constant({ type: 'dir' as const, subtree: treeId(idOf(1)) }),
  fc.record({ type: fc.constant('symlink' as const), target: name }),
  fc.constant({ type: 'fifo' as const }),
)
const nodes = fc
  .uniqueArray(fc.tuple(name, fc.record(common), content), { selector: ([first]) => first, maxLength: 12 })
  .map((list): TreeNode[] => list.map(([first, metadata, what]) => ({ ...metadata, name: first, ...what })))

/** Two names may be the same bytes, or no names: what cannot be written is not looked at. */
function encoded(list: readonly TreeNode[]): Buffer {
  try {
    return encodeTree(list)
  } catch {
    return encodeTree([])
  }
}

describe('looking at a tree entry by entry', () => {
  test('gives what decoding as a whole gives, whatever is in it', () => {
    fc.assert(
      fc.property(nodes, (list) => expectSame(encoded(list))),
      { numRuns: 300 },
    )
  })

  test('says the same of what is damaged anywhere', () => {
    const mutation = fc.record({
      at: fc.nat(),
      byte: fc.constantFrom(...Buffer.from('"\\{}[],:013679a=-+TZ. \n'), 0xff),
    })
    fc.assert(
      fc.property(nodes, fc.array(mutation, { minLength: 1, maxLength: 3 }), (list, mutations) => {
        const bytes = encoded(list)
        for (const { at, byte } of mutations) bytes[at % bytes.length] = byte
        expectSame(bytes)
      }),
      { numRuns: 1000 },
    )
  })

  test('what restic and we write of files, directories and links is not decoded', () => {
    const whole = {
      ...plain,
      permissions: 0o644,
      uid: 1,
      user: 'ü',
      group: 'g',
      inode: 5n,
      deviceId: 6n,
      mtime: 12_345_678_901n,
    }
    const extendedAttributes = [{ name: 'user.a', value: Buffer.from('value') }]
    const content = [blobId(idOf(1)), blobId(idOf(2))]
    const list: TreeNode[] = [
      { ...whole, name: 'a', type: 'file', bytes: 7, content },
      { ...whole, name: 'b', type: 'file', bytes: 7, content, extendedAttributes },
      { ...whole, name: 'c', type: 'dir', subtree: treeId(idOf(3)) },
      { ...whole, name: 'd ü', type: 'symlink', target: '../x' },
    ]
    const bytes = encodeTree(list)
    const cuts = cutTree(bytes)
    const taken = Array.from({ length: cuts?.nodes ?? 0 }, (_, at) => cuts && usualNode(bytes, cuts.at(at)))
    expect(taken.map((node) => node?.name)).toEqual(['a', 'b', 'c', 'd ü'])
    expectSame(bytes)
  })

  const [one, two] = [idOf(1), idOf(2)]
  test.each([
    ['white space', `{"nodes": [{"name":"a","type":"file","content":["${one}"]}]}`],
    ['white space before a field', `{"nodes":[{"name":"a","type":"file","content" :["${one}"]}]}`],
    ['white space in content', `{"nodes":[{"name":"a","type":"file","content":["${one}", "${two}"]}]}`],
    ['another field', `{"nodes":[{"name":"a","type":"file","content":["${one}"],"new":{"content":["${two}"]}}]}`],
    ['content before the type', `{"nodes":[{"content":["${one}"],"name":"a","type":"file"}]}`],
    ['content of a directory', `{"nodes":[{"name":"a","type":"dir","content":["${one}"],"subtree":"${two}"}]}`],
    ['content twice', `{"nodes":[{"name":"a","type":"file","content":["${one}"],"content":["${two}"]}]}`],
    ['content twice, none at last', `{"nodes":[{"name":"a","type":"file","content":["${one}"],"content":[]}]}`],
    ['content in disguise', `{"nodes":[{"name":"a","type":"file","content":["${one}"],"c\\u006fntent":["${two}"]}]}`],
    ['no content in disguise', `{"nodes":[{"name":"a","type":"file","content":["${one}"],"c\\u006fntent":null}]}`],
    ['nodes twice', `{"nodes":[{"name":"a","type":"fifo"}],"nodes":[{"name":"b","type":"fifo"}]}`],
    ['another field beside', `{"nodes":[{"name":"a","type":"fifo"}],"more":1}`],
    ['capital digits', `{"nodes":[{"name":"a","type":"file","content":["${one.toUpperCase()}"]}]}`],
    ['a content of numbers', '{"nodes":[{"name":"a","type":"file","content":[1]}]}'],
    ['a content of nothing', '{"nodes":[{"name":"a","type":"file","content":[]}]}'],
    ['a comma too many', '{"nodes":[{"name":"a","type":"fifo"},]}'],
    ['brackets of two kinds', '{"nodes":[{"name":"a","type":"fifo"],{"name":"b","type":"fifo"}]}'],
    ['an end in a string', `{"nodes":[{"name":"a`],
    ['an end in content', `{"nodes":[{"name":"a","type":"file","content":["${one}"`],
    ['nothing', ''],
    ['no nodes', '{}'],
    ['null', '{"nodes":null}'],
    ['an empty tree', '{"nodes":[]}\n'],
  ])('%s', (_, json) => expectSame(Buffer.from(json)))

  test('refuses more entries than can be read, as decoding as a whole does', () => {
    const entry = '{"name":"x","type":"fifo"},'
    const many = Buffer.from(`{"nodes":[${entry.repeat((2 << 20) + 1)}{"name":"y","type":"fifo"}]}`)
    expect(outcome(() => decodeTree(many))).toBe('damaged')
    expect(outcome(() => scanned(many))).toBe('damaged')
  })

  test('an entry that is larger than a piece', () => {
    const value = Buffer.alloc(100_000, 1)
    const list = ['a', 'b', 'c'].map((own, at) => ({
      ...plain,
      name: own,
      extendedAttributes: at === 1 ? [{ name: 'u', value }] : [],
    }))
    expectSame(encodeTree(list))
  })
})

const plain = {
  permissions: 0,
  mtime: 0n,
  atime: 0n,
  ctime: 0n,
  uid: 0,
  gid: 0,
  user: '',
  group: '',
  inode: 0n,
  deviceId: 0n,
  links: 1n,
  extendedAttributes: [],
  type: 'fifo',
} as const
