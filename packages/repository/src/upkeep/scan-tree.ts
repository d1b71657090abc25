/**
 * Owns looking at a tree entry by entry, without an object for each at once or for each blob: a directory of a million
 * files is a document of 350 MB, a disk image of a terabyte has a million ids. The document is cut between entries; ids of
 * content are left out and taken where their digits lie; the rest is decoded in small pieces (cut-tree.ts).
 * Does not own what a tree means: that is for format/tree.ts to decode, and to refuse.
 *
 * Invariant: what is given out is what `decodeTree` says of the whole document, and what it refuses is refused. A document
 * that is not written exactly as restic and we write it is left to it as a whole.
 */
import { Failure, type TreeId } from '@stillpoint/core/kernel'
import type { Digits } from '../blob-index.ts'
import { giveBack } from '../format/crypto.ts'
import { DamageError, sound } from '../format/damage.ts'
import { type BlobId, blobId, idBytes } from '../format/ids.ts'
import { decodeTree, type FileNode, type TreeNode } from '../format/tree.ts'
import { readBlob } from '../load/blob-reader.ts'
import type { Vault } from '../vault.ts'
import { contentEnd, contentStride, cutTree, type TreeCuts } from './cut-tree.ts'

/** Ids of a file's content. */
export interface ContentDigits {
  readonly count: number
  /** Where the digits of this id lie; valid until the next question. */
  digits(number: number): Digits
}

export type ScannedFile = Omit<FileNode, 'content'> & { readonly content: ContentDigits }
export type ScannedNode = Exclude<TreeNode, FileNode> | ScannedFile

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
  for (const { first, nodes } of piecesOf(bytes, cuts, true)) {
    nodes.forEach((node, at) => {
      const { count, contentAt } = cuts.at(first + at)
      const isLeftOut = count > 0 && node.type === 'file'
      visit(isLeftOut ? { ...node, content: digitsIn(bytes, contentAt, count) } : withDigits(node))
    })
  }
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
    else for (const { nodes } of piecesOf(bytes, cuts, false)) yield* nodes
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

interface Piece {
  /** Number of its first node. */
  readonly first: number
  readonly nodes: readonly TreeNode[]
}

/** All nodes in their order; `withoutContent`: content that was cut is left out. @throws DamageError */
function* piecesOf(bytes: Buffer, cuts: TreeCuts, withoutContent: boolean): Generator<Piece> {
  let piece = usualPiece
  let end = head.copy(piece)
  let first = 0

  function take(next: number): Piece {
    end += tail.copy(piece, end)
    const nodes = decodeTree(piece.subarray(0, end))
    sound(nodes.length === next - first, 'its entries are not as they are written')
    const taken = { first, nodes }
    first = next
    end = head.length
    return taken
  }

  for (let at = 0; at < cuts.nodes; at += 1) {
    const { begin, end: nodeEnd, contentAt, count } = cuts.at(at)
    const isCut = withoutContent && count > 0
    // Up to the bracket that opens the content, and from the one that closes it.
    const openEnd = isCut ? contentAt - 1 : nodeEnd
    const restAt = isCut ? contentEnd(contentAt, count) : nodeEnd
    const needed = openEnd - begin + (nodeEnd - restAt) + tail.length + 1
    if (end + needed > piece.length && first < at) yield take(at)
    if (end + needed > piece.length) {
      piece = Buffer.allocUnsafeSlow(head.length + needed)
      head.copy(piece)
    }
    if (first < at) piece[end++] = comma
    end += bytes.copy(piece, end, begin, openEnd)
    end += bytes.copy(piece, end, restAt, nodeEnd)
  }
  if (first < cuts.nodes) yield take(cuts.nodes)
}

function withDigits(node: TreeNode): ScannedNode {
  if (node.type !== 'file') return node
  const digits = Buffer.from(node.content.join(''), 'latin1')
  return { ...node, content: contentOf({ bytes: digits, at: 0 }, node.content.length, digitsPerId) }
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
