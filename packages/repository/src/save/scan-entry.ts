/**
 * Owns looking at an entry of a directory in a thread: it tells which files are as the parent has them, reads small ones
 * into a window, and names directories. What is out of the ordinary (large, changing, failing, of special kinds) it leaves
 * to the caller, who has all the time: save-entry.ts. Extended attributes and second names are ordinary: there are systems
 * where each file has a label, and trees where each is linked from a store.
 *
 * Invariant: an entry is done only if its status before and after tells the same file, unchanged.
 */
import { type BigIntStats, closeSync, constants, fstatSync, lstatSync, openSync, readlinkSync, readSync } from 'node:fs'
import { errnoOf } from '../blob/storage-failure.ts'
import { chunkingOf, pageHeadBytes } from '../chunk/page-structure.ts'
import { readAttributes } from '../extended-attributes.ts'
import { blobId, sha256 } from '../format/ids.ts'
import { nameFromBytes } from '../format/node-name.ts'
import type { Timestamp } from '../format/timestamp.ts'
import { type ExtendedAttribute, encodeNode, type FileNode, type TreeNode } from '../format/tree.ts'
import { changeOf } from './entry-change.ts'
import { fingerprintOf, isSameContent, metadataOf } from './file-status.ts'
import type { DoneEntry, FindingsMaker } from './findings.ts'
import { type FoundNode, type ParentTree, unchangedSince, withContent } from './parent-tree.ts'

export interface ScanRules {
  /** See `readAccountNames`. */
  readonly accounts: string
  readonly parentTime: Timestamp | undefined
  readonly ignoreCtime: boolean
  readonly ignoreInode: boolean
  readonly ctimeTells: boolean
  /** Larger files are left to the caller. */
  readonly fileBytesMax: number
  readonly wantsFingerprints: boolean
  /** See `SaveDirectoryOptions`. */
  readonly withAtime: boolean
  /** Rules by which entries are left out, encoded; undefined: there are none. */
  readonly excludes: string | undefined
  /** Nothing is taken from the parent, for what it refers to may not be there: it only tells what has changed. */
  readonly readsAll: boolean
}

/** What a task has to look with. */
export interface Scan {
  readonly rules: ScanRules
  /** Shared memory for content. */
  readonly window: Uint8Array
  readonly findings: FindingsMaker
  /** Of the window. */
  filled: number
}

export interface EntryPlace {
  readonly name: string
  /** In findings. */
  readonly path: string
  /** Where the operating system finds it. */
  readonly at: Buffer
  /** The directory in the parent. */
  readonly parents: ParentTree | undefined
  /** Whether the entry is left out by its status. */
  readonly isOut: ((name: string, status: BigIntStats) => boolean) | undefined
}

/** Full: the window is, for this entry. */
export type EntryScan =
  | { readonly kind: 'done'; readonly json: string }
  | { readonly kind: 'folder' | 'other' | 'out' | 'full' }

const other: EntryScan = { kind: 'other' }
const folder: EntryScan = { kind: 'folder' }
const out: EntryScan = { kind: 'out' }
const full: EntryScan = { kind: 'full' }

/** What goes wrong here goes wrong again, and is told, where the caller looks itself. */
export function scanEntry(scan: Scan, place: EntryPlace): EntryScan {
  const { name, at } = place
  try {
    const status = lstatSync(at, { bigint: true })
    if (place.isOut?.(name, status) === true) return out
    if (status.isDirectory()) return folder
    if (!status.isFile() && !status.isSymbolicLink()) return other
    const { attributes, failure } = readAttributes(at)
    if (failure !== undefined || !areFew(attributes)) return other
    const metadata = { ...metadataOf(name, status, scan.rules), extendedAttributes: attributes }
    if (status.isSymbolicLink()) {
      const target = nameFromBytes(readlinkSync(at, { encoding: 'buffer' }))
      return linkEntry(scan, place, { node: { ...metadata, type: 'symlink', target }, status })
    }
    const node: FileNode = { ...metadata, type: 'file', bytes: Number(status.size), content: [] }
    return fileEntry(scan, place, { node, status })
  } catch (error) {
    if (errnoOf(error) === undefined) throw error
    return other
  }
}

/** What a thread tells of: a label, a list of who may do what. */
const attributeBytesMax = 4 << 10

function areFew(attributes: readonly ExtendedAttribute[]): boolean {
  return attributes.reduce((sum, { name, value }) => sum + name.length + value.length, 0) <= attributeBytesMax
}

interface Seen<Node extends TreeNode> {
  readonly node: Node
  readonly status: BigIntStats
}

type LinkNode = Extract<TreeNode, { type: 'symlink' }>

function linkEntry(scan: Scan, place: EntryPlace, { node, status }: Seen<LinkNode>): EntryScan {
  const json = encodeNode(node)
  const found = place.parents?.find(node, json)
  scan.findings.done(doneEntry(scan, place, { node, status, found, isRead: false }))
  return { kind: 'done', json }
}

interface FoundEntry extends Seen<FileNode | LinkNode> {
  readonly found: FoundNode | undefined
  readonly isRead: boolean
}

function doneEntry({ rules }: Scan, { path }: EntryPlace, { node, status, found, isRead }: FoundEntry): DoneEntry {
  return {
    path,
    type: node.type,
    bytes: node.type === 'file' ? node.bytes : 0,
    change: changeOf(node, found === undefined ? undefined : foundNode(node, found)),
    isRead,
    fingerprint: rules.wantsFingerprints ? fingerprintOf(status) : undefined,
  }
}

/** What the parent has: where only the content of a file may differ, the same with the content of the parent. */
function foundNode(node: TreeNode, found: FoundNode): TreeNode {
  if (!found.isEqual) return found.node
  return node.type === 'file' && node.content !== found.content ? { ...node, content: found.content } : node
}

function fileEntry(scan: Scan, place: EntryPlace, { node, status }: Seen<FileNode>): EntryScan {
  const { rules, window, findings } = scan
  const json = encodeNode(node)
  const found = place.parents?.find(node, json)
  const content = found === undefined || rules.readsAll ? undefined : unchangedSince(found, node, rules)
  if (content !== undefined) {
    findings.known(content)
    findings.done(doneEntry(scan, place, { node: { ...node, content }, status, found, isRead: false }))
    return { kind: 'done', json: withContent(json, content) }
  }
  if (node.bytes > rules.fileBytesMax) return other
  // One byte more, so that a file that has grown is found out.
  if (scan.filled + node.bytes + 1 > window.length) return full
  const target = window.subarray(scan.filled, scan.filled + node.bytes + 1)
  if (!readUnchanged(place.at, target, { status, ctimeTells: rules.ctimeTells })) return other
  const bytes = target.subarray(0, node.bytes)
  if (chunkingOf(bytes.subarray(0, pageHeadBytes), node.bytes).kind === 'pages') return other
  const read: FileNode = { ...node, content: node.bytes === 0 ? [] : [blobId(sha256(bytes))] }
  for (const id of read.content) findings.read({ id, offset: scan.filled, length: node.bytes })
  scan.filled += node.bytes
  findings.done(doneEntry(scan, place, { node: read, status, found, isRead: true }))
  return { kind: 'done', json: withContent(json, read.content) }
}

/** Whether the file of this status was read, whole, and is the same afterwards. */
function readUnchanged(
  path: Buffer,
  target: Uint8Array,
  expected: { readonly status: BigIntStats; readonly ctimeTells: boolean },
): boolean {
  // Non-blocking: what was a file when we looked may be a fifo without a writer now.
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const { status, ctimeTells } = expected
    let filled = 0
    // A read that ends where the file should end was cut short there: another one would find nothing.
    do {
      const bytes = readSync(descriptor, target, filled, target.length - filled, null)
      if (bytes === 0) break
      filled += bytes
    } while (filled < target.length - 1)
    const after = fstatSync(descriptor, { bigint: true })
    return filled === target.length - 1 && after.nlink === status.nlink && isSameContent(after, status, ctimeTells)
  } finally {
    closeSync(descriptor)
  }
}
