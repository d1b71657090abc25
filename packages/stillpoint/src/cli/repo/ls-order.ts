/**
 * In which order `ls` shows entries: as they are read, or by one of restic's keys. Pure.
 *
 * Invariants: 1. without a key and not reversed nothing is held back. 2. What is held back of an entry is what is shown of
 * it, its path and its key: not what it consists of.
 */
import type { TreeNode } from '@stillpoint/repository'
import type { ListedEntry } from './ncdu.ts'

export const sortKeys = ['name', 'size', 'time', 'mtime', 'atime', 'ctime', 'extension'] as const
export type SortKey = (typeof sortKeys)[number]

export interface ListOrder {
  /** `name`: the order of the trees, in which they are read. */
  readonly sort: SortKey
  readonly reverse: boolean
}

type Key = number | bigint | string

interface Row {
  readonly key: Key
  readonly path: string
  readonly text: string
}

/** Equal keys go by path; `reverse` turns all of it round, as restic does. */
export async function* inOrder(
  entries: AsyncIterable<ListedEntry>,
  { sort, reverse }: ListOrder,
  textOf: (entry: ListedEntry) => string,
): AsyncGenerator<string> {
  if (sort === 'name' && !reverse) {
    for await (const entry of entries) yield textOf(entry)
    return
  }
  const rows: Row[] = []
  for await (const entry of entries) {
    rows.push({ key: keyOf(entry, sort), path: entry.path, text: textOf(entry) })
  }
  if (sort !== 'name') rows.sort((left, right) => compare(left.key, right.key) || compareText(left.path, right.path))
  if (reverse) rows.reverse()
  for (const { text } of rows) yield text
}

function keyOf({ path, node }: ListedEntry, sort: SortKey): Key {
  switch (sort) {
    case 'name':
      return 0
    case 'size':
      return bytesOf(node)
    case 'time':
    case 'mtime':
      return node.mtime
    case 'atime':
      return node.atime
    case 'ctime':
      return node.ctime
    case 'extension':
      return extensionOf(path)
  }
}

const bytesOf = (node: TreeNode) => (node.type === 'file' ? node.bytes : 0)

/** From the last dot of the name, and also where that is its first character, as Go has it. */
function extensionOf(path: string): string {
  const at = path.lastIndexOf('.')
  return at > path.lastIndexOf('/') ? path.slice(at) : ''
}

function compare(left: Key, right: Key): number {
  if (typeof left === 'string' && typeof right === 'string') return compareText(left, right)
  return left < right ? -1 : Number(left > right)
}

const surrogate = /[\ud800-\udfff]/

/** By characters, which is by bytes of UTF-8: JavaScript compares halves of them, and so puts U+FFFD behind U+1F600. */
function compareText(left: string, right: string): number {
  if (left === right) return 0
  if (surrogate.test(left) || surrogate.test(right)) return Buffer.compare(Buffer.from(left), Buffer.from(right))
  return left < right ? -1 : 1
}
