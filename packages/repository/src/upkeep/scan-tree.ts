/**
 * Owns looking at a tree entry by entry, without an object for each at once or for each blob: a directory of a million
 * files is a document of 350 MB, a disk image of a terabyte has a million ids. The document is cut between entries
 * (cut-tree.ts); who asks what entries refer to gets it from where it lies (usual-node.ts), and an entry that is written in
 * another way is decoded alone; who asks for nodes gets them decoded in small pieces.
 * Does not own what a tree means: that is for format/tree.ts to decode, and to refuse.
 *
 * Invariant: what is given out is what `decodeTree` says of the whole document, and what it refuses is refused. A document
 * that cannot be cut is left to it as a whole.
 */
import { Failure, type TreeId } from '@stillpoint/core/kernel'
import type { Digits } from '../blob-index.ts'
import { DamageError, sound } from '../format/damage.ts'
import { giveBack } from '../format/give-back.ts'
import { type BlobId, blobId, idBytes, treeId } from '../format/ids.ts'
import { decodeTree, type TreeNode } from '../format/tree.ts'
import { readBlob } from '../load/blob-reader.ts'
import type { Vault } from '../vault.ts'
import { contentEnd, contentStride, cutTree, type NodeCut, type TreeCuts } from './cut-tree.ts'
import { type UsualNode, usualNode } from './usual-node.ts'

/** Ids of a file's content. */
export interface ContentDigits {
  readonly count: number
  /** Where the digits of this id lie; valid until the next question. */
  digits(number: number): Digits
}

/** Of an entry, what other objects are told by it. */
export type ScannedNode =
  | { readonly type: 'dir'; readonly name: string; readonly subtree: TreeId }
  | ScannedFile
  | { readonly type: Exclude<TreeNode['type'], 'dir' | 'file'>; readonly name: string }

export interface ScannedFile {
  readonly type: 'file'
  readonly name: string
  readonly bytes: number
  readonly content: ContentDigits
}

/**
 * All entries of a tree in their order; what is given out is valid during the call only. Where it throws, entries may have
 * been given out before.
 * @throws as `readTree`
 */
export async function scanTree(vault: Vault, tree: TreeId, visit: (node: ScannedNode) => void): Promise<void> {
  const bytes = await readBlob(vault, tree, 'tree')
  try {
    scanTreeBytes(bytes, visit)
  } catch (error) {
    throw damagedTree(tree, error)
  } finally {
    giveBack(bytes)
  }
}

/** @throws DamageError */
export function scanTreeBytes(bytes: Buffer, visit: (node: ScannedNode) => void): void {
  const cuts = cutIfUsual(bytes)
  if (cuts === undefined) {
    for (const node of decodeTree(bytes)) visit(withDigits(node))
    return
  }
  for (let at = 0; at < cuts.nodes; at += 1) {
    const cut = cuts.at(at)
    const usual = usualNode(bytes, cut)
    if (usual !== undefined) visit(scannedOf(bytes, cut, usual))
    else for (const node of decodeAlone(bytes, cut)) visit(node)
  }
}

function scannedOf(bytes: Buffer, { contentAt, count }: NodeCut, node: UsualNode): ScannedNode {
  const { type, name, subtreeAt } = node
  switch (type) {
    case 'dir':
      return { type, name, subtree: treeId(bytes.toString('latin1', subtreeAt, subtreeAt + digitsPerId)) }
    case 'file':
      return { type, name, bytes: node.bytes, content: digitsIn(bytes, contentAt, count) }
    case 'symlink':
      return { type, name }
  }
}

/** An entry that is written in another way. @throws DamageError */
function decodeAlone(bytes: Buffer, cut: NodeCut): readonly ScannedNode[] {
  const { begin, end, contentAt, count } = cut
  const text = (from: number, to: number) => bytes.subarray(from, to)
  const parts = count === 0 ? [text(begin, end)] : [text(begin, contentAt - 1), text(contentEnd(contentAt, count), end)]
  const nodes = decodeTree(Buffer.concat([head, ...parts, tail]))
  sound(nodes.length === 1, 'its entries are not as they are written')
  return nodes.map((node) =>
    node.type === 'file' && count > 0
      ? { type: 'file', name: node.name, bytes: node.bytes, content: digitsIn(bytes, contentAt, count) }
      : withDigits(node),
  )
}

/**
 * The nodes of a tree in their order, decoded as they are asked for: for who does it entry by entry, and takes long.
 * @throws as `readTree`
 */
export async function treeNodes(vault: Vault, tree: TreeId): Promise<Iterator<TreeNode, undefined>> {
  const bytes = await readBlob(vault, tree, 'tree')
  return nodesIn(bytes, tree)
}

/** @throws Failure `object_damaged` */
export function* nodesIn(bytes: Buffer, tree: TreeId): Generator<TreeNode, undefined> {
  try {
    const cuts = cutIfUsual(bytes)
    if (cuts === undefined) yield* decodeTree(bytes)
    else for (const nodes of piecesOf(bytes, cuts)) yield* nodes
  } catch (error) {
    throw damagedTree(tree, error)
  }
  return undefined
}

function damagedTree(tree: TreeId, error: unknown): unknown {
  if (!(error instanceof DamageError)) return error
  return new Failure({ code: 'object_damaged', message: `tree ${tree} is damaged: ${error.message}`, cause: error })
}

export function idOfDigits({ bytes, at }: Digits): BlobId {
  const { buffer, byteOffset } = bytes
  return blobId(Buffer.from(buffer, byteOffset + at, digitsPerId).toString('latin1'))
}

const digitsPerId = idBytes * 2

/** The same as decoding as a whole refuses, lest a check passes what cannot be restored. */
const treeBytesMax = 0x1fff_ffe8
const nodesMax = 2 << 20
const nodeBytesMin = 26

function cutIfUsual(bytes: Buffer): TreeCuts | undefined {
  sound(bytes.length <= treeBytesMax, `a tree of ${bytes.length} bytes is larger than can be read`)
  if (bytes.length > nodesMax * nodeBytesMin) requireFewNodes(bytes)
  return cutTree(bytes)
}

function requireFewNodes(bytes: Buffer): void {
  let braces = 0
  for (let at = bytes.indexOf(0x7b); at >= 0; at = bytes.indexOf(0x7b, at + 1)) braces += 1
  sound(braces <= nodesMax + 1, `a tree of more than ${nodesMax} entries`)
}

const head = Buffer.from('{"nodes":[')
const tail = Buffer.from(']}')
const comma = 0x2c
/** Taken once: most trees are small, and there may be millions. What is in it is decoded before anybody else can write. */
const usualPiece = Buffer.allocUnsafeSlow(64 << 10)

/** All nodes in their order. @throws DamageError */
function* piecesOf(bytes: Buffer, cuts: TreeCuts): Generator<readonly TreeNode[]> {
  let piece = usualPiece
  let end = head.copy(piece)
  let first = 0

  function take(next: number): readonly TreeNode[] {
    end += tail.copy(piece, end)
    const nodes = decodeTree(piece.subarray(0, end))
    sound(nodes.length === next - first, 'its entries are not as they are written')
    first = next
    end = head.length
    return nodes
  }

  for (let at = 0; at < cuts.nodes; at += 1) {
    const { begin, end: nodeEnd } = cuts.at(at)
    const needed = nodeEnd - begin + tail.length + 1
    if (end + needed > piece.length && first < at) yield take(at)
    if (end + needed > piece.length) {
      piece = Buffer.allocUnsafeSlow(head.length + needed)
      head.copy(piece)
    }
    if (first < at) piece[end++] = comma
    end += bytes.copy(piece, end, begin, nodeEnd)
  }
  if (first < cuts.nodes) yield take(cuts.nodes)
}

function withDigits(node: TreeNode): ScannedNode {
  if (node.type !== 'file') return node
  const { type, name } = node
  const digits = Buffer.from(node.content.join(''), 'latin1')
  return {
    type,
    name,
    bytes: node.bytes,
    content: contentOf({ bytes: digits, at: 0 }, node.content.length, digitsPerId),
  }
}

const digitsIn = (bytes: Buffer, at: number, count: number) => contentOf({ bytes, at }, count, contentStride)

function contentOf({ bytes, at: begin }: Digits, count: number, stride: number): ContentDigits {
  const digits: Digits = { bytes, at: begin }
  return {
    count,
    digits(number) {
      digits.at = begin + number * stride
      return digits
    },
  }
}
