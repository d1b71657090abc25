/**
 * Owns looking up entries in the bytes of an earlier tree, in its order, without decoding what has not changed: an entry
 * whose JSON is what would be written now is equal. Trees are sorted alike whoever wrote them (format/tree.ts).
 *
 * A wrong answer "not there" costs reading a file again, nothing else; "equal" is given for equal bytes only.
 */
import { type BlobId, isId } from '../format/ids.ts'
import { jsonString } from '../format/json.ts'
import { bytesFromName, quoteName, unquoteName } from '../format/node-name.ts'
import type { Timestamp } from '../format/timestamp.ts'
import { decodeTree, type FileNode, sameFile, type TreeNode } from '../format/tree.ts'

/** Equal: all metadata are; of a file, its content is that of the parent. */
export type FoundNode =
  | { readonly isEqual: true; readonly content: readonly BlobId[] }
  | { readonly isEqual: false; readonly node: TreeNode }

export interface ParentTree {
  /** Where the search has come to, to go on from there with the names that follow. */
  readonly position: number
  /** The entry of the node's name. `json`: of the node, of a file without content. Names come in the order of trees. */
  find(node: TreeNode, json: string): FoundNode | undefined
  /** The entry of a name, decoded. */
  lookUp(name: string): TreeNode | undefined
}

const wrapStart = '{"nodes":['
const wrapEnd = ']}\n'
const emptyContent = ']}'

/** The tree of encoded nodes, sorted. Written once, in one piece: the tree of a large directory takes much memory. */
export function treeOfEncoded(nodes: readonly string[]): Buffer {
  let bytes = wrapStart.length + wrapEnd.length + Math.max(0, nodes.length - 1)
  for (const node of nodes) bytes += Buffer.byteLength(node)
  const tree = Buffer.allocUnsafeSlow(bytes)
  let at = tree.write(wrapStart, 0, 'latin1')
  nodes.forEach((node, number) => {
    if (number > 0) at += tree.write(',', at, 'latin1')
    at += tree.write(node, at, 'utf8')
  })
  tree.write(wrapEnd, at, 'latin1')
  return tree
}

/** The same with the content of a file that had none. */
export function withContent(json: string, content: readonly string[]): string {
  if (content.length === 0) return json
  return `${json.slice(0, -emptyContent.length)}"${content.join('","')}"${emptyContent}`
}

/** So much is looked at as one text: of a directory of a million, whoever looks for some would read all. */
const textBytes = 4 << 20
/** The text that is looked at next begins when no more than this is left. */
const restBytes = 1 << 20
/** How far ahead an entry is looked for first: some entries. */
const stepBytes = 2 << 10
// biome-ignore lint/suspicious/noControlCharactersInRegex: the range of ASCII
const ascii = /^[\x00-\x7f]*$/

/** One character per byte of UTF-8. */
const bytewise = (text: string) => (ascii.test(text) ? text : Buffer.from(text, 'utf8').toString('latin1'))

export function createParentTree(tree: Uint8Array, at: number): ParentTree {
  const bytes = Buffer.from(tree.buffer, tree.byteOffset, tree.length)
  // One character per byte, so that positions are those of the bytes.
  const textFrom = (start: number, length: number) => bytes.toString('latin1', start, start + length)
  /** Where in the tree the text begins. */
  let base = at
  let text = textFrom(base, textBytes)
  /** In the text. */
  let position = 0

  const isLast = () => base + text.length >= bytes.length

  /** Takes what follows into the text, twice as much. False where nothing follows. */
  function readOn(): boolean {
    if (isLast()) return false
    text = textFrom(base, 2 * text.length)
    return true
  }

  /** Leaves out what lies behind. */
  function moveOn(): void {
    if (text.length - position >= restBytes || isLast()) return
    base += position
    text = textFrom(base, textBytes)
    position = 0
  }

  /** A node that begins here, decoded. */
  function decodedAt(start: number): TreeNode | undefined {
    let end = nodeEnd(text, start)
    while (end === undefined && readOn()) end = nodeEnd(text, start)
    const json = text.slice(start, end ?? treeEnd(text))
    try {
      return decodeTree(Buffer.from(`${wrapStart}${json}${wrapEnd}`, 'latin1'))[0]
    } catch {
      return undefined // not as trees are written: as good as not there
    }
  }

  /** Where the entry of this name begins. What comes before it lies behind then. */
  function beginOf(name: string): number | undefined {
    const named = bytewise(`{"name":${jsonString(quoteName(name))},"type":"`)
    const comesBefore = ({ json }: SeenNode) => compareNames(json, name) < 0
    for (;;) {
      moveOn()
      const next = text.indexOf(nodeStart, position)
      if (next >= 0 && text.startsWith(named, next)) return next
      const first = nodeFrom(text, position)
      if (first !== undefined && !comesBefore(first))
        return text.startsWith(named, first.begin) ? first.begin : undefined
      const found = first === undefined ? undefined : firstNot(text, first.begin, comesBefore)
      if (found?.node !== undefined) {
        position = found.node.begin
        return text.startsWith(named, position) ? position : undefined
      }
      if (isLast()) return undefined
      // It lies beyond this text: behind the last entry that can be seen, or behind an entry that does not end in it.
      const last = found?.last ?? 0
      if (last > position) position = last
      else position = Math.max(position + 1, text.length - nameTextMax)
    }
  }

  function lookUp(name: string): TreeNode | undefined {
    const begin = beginOf(name)
    if (begin === undefined) return undefined
    position = begin + 1
    const node = decodedAt(begin)
    return node?.name === name ? node : undefined
  }

  function contentEnd(start: number): number {
    let end = text.indexOf(emptyContent, start)
    while (end < 0 && readOn()) end = text.indexOf(emptyContent, start)
    return end
  }

  return {
    get position() {
      return base + position
    },
    lookUp,
    find(node, json) {
      const begin = beginOf(node.name)
      if (begin === undefined) return undefined
      const coded = bytewise(json)
      const until = node.type === 'file' ? coded.length - emptyContent.length : coded.length
      while (begin + until > text.length && readOn()) {
        // until the whole of it could be there
      }
      if (text.startsWith(coded.slice(0, until), begin)) {
        const end = node.type === 'file' ? contentEnd(begin + until) : begin + until
        const content = end < 0 ? undefined : idsIn(text.slice(begin + until, end))
        if (content !== undefined) {
          position = node.type === 'file' ? end + emptyContent.length : end
          return { isEqual: true, content }
        }
      }
      const decoded = lookUp(node.name)
      return decoded === undefined ? undefined : { isEqual: false, node: decoded }
    },
  }
}

/** One by one: a pattern for a list of 50,000, a file of 50 GB, exhausts the stack. */
function idsIn(list: string): readonly BlobId[] | undefined {
  if (list === '') return []
  const ids = list.slice(1, -1).split('","')
  return list.startsWith('"') && list.endsWith('"') && ids.every(isId) ? (ids as BlobId[]) : undefined
}

/** Where the node that begins at `start` ends, if another one follows in the text. */
function nodeEnd(text: string, start: number): number | undefined {
  // Inside a node only extended attributes are objects with a name, and what follows that is no type.
  const next = /\},\{"name":"(?:[^"\\]|\\.)*","type":"/g
  next.lastIndex = start
  const match = next.exec(text)
  return match === null ? undefined : match.index + 1
}

const nodeStart = '{"name":"'
/** A name of 255 bytes, each written as four characters of which one is escaped once more, and what is around it. */
const nameTextMax = 4 << 10

/** The JSON of the name of a node that begins here; undefined where it is none, such as an extended attribute. */
function nameAt(text: string, begin: number): string | undefined {
  const [, json] = /^\{"name":("(?:[^"\\]|\\.)*"),"type":"/.exec(text.slice(begin, begin + nameTextMax)) ?? []
  return json
}

interface SeenNode {
  readonly begin: number
  /** Its name. */
  readonly json: string
}

/** The first node that begins there or later. */
function nodeFrom(text: string, from: number): SeenNode | undefined {
  for (let begin = text.indexOf(nodeStart, from); begin >= 0; begin = text.indexOf(nodeStart, begin + 1)) {
    const json = nameAt(text, begin)
    if (json !== undefined) return { begin, json }
  }
  return undefined
}

/**
 * Of nodes in an order, the first for which the answer is no; undefined where there is none in the text. And the last one
 * for which it is known to be yes, which it is of the node that begins at `begin`. Steps that grow, then halves: those that
 * are looked for mostly lie near.
 */
function firstNot(text: string, begin: number, isYes: (node: SeenNode) => boolean) {
  let last = begin
  let node: SeenNode | undefined
  let end = text.length
  for (let step = stepBytes; last + step < text.length; step *= 2) {
    const seen = nodeFrom(text, last + step)
    if (seen === undefined) break
    if (!isYes(seen)) {
      node = seen
      end = seen.begin
      break
    }
    last = seen.begin
  }
  // No node of whom it is not known begins between `end` and `node`.
  while (end - last > 1) {
    const middle = Math.floor((last + end) / 2)
    const seen = nodeFrom(text, middle)
    if (seen === undefined || seen.begin >= end) end = middle
    else if (isYes(seen)) last = seen.begin
    else {
      node = seen
      end = seen.begin
    }
  }
  return { node, last }
}

/** In the order of trees. `json`: a name as it stands in one, a character per byte. */
function compareNames(json: string, name: string): number {
  try {
    const text = JSON.parse(Buffer.from(json, 'latin1').toString('utf8')) as string
    return bytesFromName(unquoteName(text)).compare(bytesFromName(name))
  } catch {
    return 0 // not as trees are written
  }
}

/** Where the last node of a tree ends. */
function treeEnd(text: string): number {
  const end = text.lastIndexOf(']}')
  return end < 0 ? text.length : end
}

export interface UnchangedRules {
  readonly parentTime: Timestamp | undefined
  readonly ignoreCtime: boolean
  readonly ignoreInode: boolean
}

/** Twice the coarsest times of common file systems. */
const racyNs = 2_000_000_000n

/** The content of a file that is as the parent has it, or undefined where it must be read. */
export function unchangedSince(found: FoundNode, node: FileNode, rules: UnchangedRules): readonly BlobId[] | undefined {
  const { parentTime, ignoreCtime, ignoreInode } = rules
  const changedAt = ignoreCtime ? node.mtime : node.ctime
  if (parentTime !== undefined && changedAt > parentTime - racyNs) return undefined
  if (found.isEqual) return found.content
  const { node: parent } = found
  if (parent.type !== 'file') return undefined
  const compared = {
    ...node,
    ...(ignoreCtime ? { ctime: parent.ctime } : {}),
    ...(ignoreInode ? { inode: parent.inode } : {}),
  }
  return sameFile(parent, compared) ? parent.content : undefined
}
