/** Orders of `ls`, beside a dumb model: pairs that are compared by bytes of UTF-8. */
import type { TreeNode } from '@stillpoint/repository'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { inOrder, sortKeys } from './ls-order.ts'
import type { ListedEntry } from './ncdu.ts'

const about = { permissions: 0o644, uid: 0, gid: 0, user: '', group: '', inode: 0n, deviceId: 0n, links: 1n } as const

function file(name: string, { bytes, time }: { readonly bytes: number; readonly time: number }): ListedEntry {
  const times = { mtime: BigInt(time), atime: BigInt(-time), ctime: BigInt(time % 3) }
  const node: TreeNode = { ...about, ...times, name, type: 'file', bytes, content: [], extendedAttributes: [] }
  return { path: `/${name}`, node }
}

async function* walked(entries: readonly ListedEntry[]) {
  yield* entries
}

async function ordered(entries: readonly ListedEntry[], order: Parameters<typeof inOrder>[1]) {
  const paths: string[] = []
  for await (const path of inOrder(walked(entries), order, (entry) => entry.path)) paths.push(path)
  return paths
}

/** As Go's `filepath.Ext`. */
const extension = (path: string) => /\.[^./]*$/u.exec(path)?.[0] ?? ''

function isAscending(sort: (typeof sortKeys)[number], left: ListedEntry, right: ListedEntry): boolean {
  const keyOf = ({ path, node }: ListedEntry) => {
    const bytes = node.type === 'file' ? node.bytes : 0
    const { mtime, atime, ctime } = node
    return { name: 0, size: bytes, time: mtime, mtime, atime, ctime, extension: extension(path) }[sort]
  }
  const [one, other] = [keyOf(left), keyOf(right)]
  if (typeof one === 'string' && typeof other === 'string' && one !== other) {
    return Buffer.compare(Buffer.from(one), Buffer.from(other)) < 0
  }
  if (one !== other) return one < other
  return Buffer.compare(Buffer.from(left.path), Buffer.from(right.path)) <= 0
}

test('by each key, ties by path, and back', async () => {
  const name = fc.string({ unit: fc.constantFrom('a', '.', '/', '-', 'é', '\uffee', '😀', '\ud800'), minLength: 1 })
  const some = fc.array(fc.tuple(name, fc.integer({ min: 0, max: 3 }), fc.integer({ min: -4, max: 4 })))
  await fc.assert(
    fc.asyncProperty(some, fc.constantFrom(...sortKeys), async (rows, sort) => {
      const entries = rows.map(([text, bytes, time]) => file(text, { bytes, time }))
      const paths = await ordered(entries, { sort, reverse: false })
      expect([...paths].sort()).toEqual(entries.map(({ path }) => path).sort())
      expect(await ordered(entries, { sort, reverse: true })).toEqual([...paths].reverse())
      if (sort === 'name') {
        expect(paths).toEqual(entries.map(({ path }) => path))
        return
      }
      // Which of those of one path comes first is not seen.
      const left = new Map<string, ListedEntry[]>()
      for (const entry of entries) left.set(entry.path, [...(left.get(entry.path) ?? []), entry])
      if ([...left.values()].some((same) => same.length > 1)) return
      const shown = paths.flatMap((path) => left.get(path) ?? [])
      for (const [at, entry] of shown.entries()) {
        const next = shown[at + 1]
        if (next !== undefined)
          expect(isAscending(sort, entry, next), `${sort}: ${entry.path}, ${next.path}`).toBe(true)
      }
    }),
  )
})

test('in the order in which they are read, each is given out before the next one is read', async () => {
  let read = 0
  async function* counted() {
    for (const name of ['b', 'a']) {
      read += 1
      yield file(name, { bytes: 0, time: 0 })
    }
  }
  const seen: number[] = []
  for await (const _ of inOrder(counted(), { sort: 'name', reverse: false }, ({ path }) => path)) seen.push(read)
  expect(seen).toEqual([1, 2])
})
