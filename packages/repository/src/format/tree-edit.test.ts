import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { blobId, treeId } from './ids.ts'
import { decodeTree } from './tree.ts'
import { editTree, type NodeEdit } from './tree-edit.ts'

const id = (digit: string) => digit.repeat(64)

describe('editing a stored tree', () => {
  test('keeps every byte that is not edited', () => {
    const windows =
      '{"name":"C","type":"dir","mode":2147484159,"mtime":"2024-01-01T00:00:00+01:00","uid":0,"gid":0,' +
      '"generic_attributes":{"windows.creation_time":"AIDm\\u003c==","windows.file_attributes":16},' +
      `"content":null,"subtree":"${id('a')}"}`
    const odd = `{ "name" : "a\\\\x00\\"}],[{" ,\n"type":"file","size":1,"size" : 2.0e0, "future":[{"nodes":[]},"]"],"content":["${id('b')}"]}`
    const other = '{"name":"z","type":"door","mode":524288,"inode":18446744073709551615}'
    const tree = Buffer.from(`{"later":{"nodes":1},"nodes":[${windows},${odd} ,  ${other}],"end":"]"}\n`)
    const keep: NodeEdit = { kind: 'keep' }
    expect(editTree(tree, [keep, keep, keep]).toString()).toBe(
      `{"later":{"nodes":1},"nodes":[${windows},${odd},${other}],"end":"]"}\n`,
    )
    const edited = editTree(tree, [
      { kind: 'subtree', subtree: treeId(id('c')) },
      { kind: 'content', content: [blobId(id('d'))], bytes: 7 },
      { kind: 'remove' },
    ]).toString()
    const changed = odd.replace('2.0e0', '7').replace(id('b'), id('d'))
    expect(edited).toBe(`{"later":{"nodes":1},"nodes":[${windows.replace(id('a'), id('c'))},${changed}],"end":"]"}\n`)
    const none = editTree(tree, [{ kind: 'remove' }, { kind: 'remove' }, { kind: 'remove' }]).toString()
    expect(none).toBe('{"later":{"nodes":1},"nodes":[],"end":"]"}\n')
  })

  test('adds what a node does not have', () => {
    const tree = Buffer.from('{"nodes":[{"name":"d","type":"dir"},{"name":"f","type":"file","content":null}]}\n')
    const subtree = treeId(id('e'))
    const edited = editTree(tree, [
      { kind: 'subtree', subtree },
      { kind: 'content', content: [], bytes: 0 },
    ])
    expect(edited.toString()).toBe(
      `{"nodes":[{"name":"d","type":"dir","subtree":"${subtree}"},{"name":"f","type":"file","content":[],"size":0}]}\n`,
    )
  })

  test('whatever stands in it: the edited nodes are what is decoded, the others are as they were', () => {
    const spaces = fc.constantFrom('', ' ', '\n\t')
    const extra = fc.dictionary(fc.string({ minLength: 9, maxLength: 12 }), fc.jsonValue(), { maxKeys: 3 })
    const node = fc.record({ extra, size: fc.nat(), digit: fc.constantFrom('1', '2', '3') })
    const action = fc.constantFrom('keep' as const, 'remove' as const, 'content' as const)
    fc.assert(
      fc.property(fc.array(fc.tuple(node, action), { maxLength: 6 }), spaces, (all, space) => {
        const nodes = all.map(([{ extra: fields, size, digit }], at) => ({
          ...fields,
          name: `n${at}`,
          type: 'file',
          size,
          content: [id(digit)],
        }))
        const tree = Buffer.from(JSON.stringify({ nodes }, null, space))
        const edits = all.map(([, kind]): NodeEdit => {
          return kind === 'content' ? { kind, content: [blobId(id('9'))], bytes: 99 } : { kind }
        })
        const edited = editTree(tree, edits)
        const expected = nodes.flatMap((each, at) => {
          const kind = edits[at]?.kind
          return kind === 'remove' ? [] : [kind === 'content' ? { ...each, size: 99, content: [id('9')] } : each]
        })
        expect(JSON.parse(edited.toString())).toEqual(JSON.parse(JSON.stringify({ nodes: expected })))
        expect(decodeTree(edited)).toHaveLength(expected.length)
      }),
    )
  })
})
