/**
 * Owns looking at an entry of a directory in a thread: it tells which files are as the parent has them, reads small ones
 * into a window, and names directories. What is out of the ordinary (large, changing, failing, of special kinds) it leaves
 * to the caller, who has all the time: save-entry.ts. Extended attributes and second names are ordinary: there are systems
 * where each file has a label, and trees where each is linked from a store.
 *
 * Invariant: an entry is done only if its status before and after tells the same file, unchanged.
 */
import { closeSync, constants, fstatSync, readlinkSync, readSync } from 'node:fs'
import { errnoOf } from '../blob/storage-failure.ts'
import { chunkingOf, pageHeadBytes } from '../chunk/page-structure.ts'
import { type AttributesRead, attributesOfOpen, readAttributes } from '../extended-attributes.ts'
import { blobId, sha256 } from '../format/ids.ts'
import { nameFromBytes } from '../format/node-name.ts'
import type { Timestamp } from '../format/timestamp.ts'
import { type ExtendedAttribute, encodeNode, type FileNode, type NodeMetadata, type TreeNode } from '../format/tree.ts'
import type { FileStatus } from '../native/file-status.ts'
import { type EntryAt, openEntry, pathOf, statusOf } from '../native/folder-entries.ts'
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
  readonly at: EntryAt
  /** The directory in the parent. */
  readonly parents: ParentTree | undefined
  /** Whether the entry is left out by its status. */
  readonly isOut: ((name: string, status: FileStatus) => boolean) | undefined
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
    const status = statusOf(at)
    if (place.isOut?.(name, status) === true) return out
    if (status.isDirectory()) return folder
    if (status.isFile())
      return place.parents === undefined ? newFile(scan, place, status) : fileEntry(scan, place, status)
    return status.isSymbolicLink() ? linkEntry(scan, place, status) : other
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
  readonly status: FileStatus
}

type LinkNode = Extract<TreeNode, { type: 'symlink' }>

/** Undefined where the caller is to look, and to tell what is wrong. */
function metadataFor(
  { rules }: Scan,
  { name }: EntryPlace,
  { status, read }: { readonly status: FileStatus; readonly read: AttributesRead },
): NodeMetadata | undefined {
  if (read.failure !== undefined || !areFew(read.attributes)) return undefined
  return { ...metadataOf(name, status, rules), extendedAttributes: read.attributes }
}

function linkEntry(scan: Scan, place: EntryPlace, status: FileStatus): EntryScan {
  const path = pathOf(place.at)
  const metadata = metadataFor(scan, place, { status, read: readAttributes(path) })
  if (metadata === undefined) return other
  const target = nameFromBytes(readlinkSync(path, { encoding: 'buffer' }))
  const node: LinkNode = { ...metadata, type: 'symlink', target }
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

/** In a directory that the parent has. */
function fileEntry(scan: Scan, place: EntryPlace, status: FileStatus): EntryScan {
  const { rules, findings } = scan
  const metadata = metadataFor(scan, place, { status, read: readAttributes(pathOf(place.at)) })
  if (metadata === undefined) return other
  const node: FileNode = { ...metadata, type: 'file', bytes: Number(status.size), content: [] }
  const json = encodeNode(node)
  const found = place.parents?.find(node, json)
  const content = found === undefined || rules.readsAll ? undefined : unchangedSince(found, node, rules)
  if (content !== undefined) {
    findings.known(content)
    findings.done(doneEntry(scan, place, { node: { ...node, content }, status, found, isRead: false }))
    return { kind: 'done', json: withContent(json, content) }
  }
  const read = readWhole(scan, place, { status })
  return read instanceof Uint8Array ? readEntry(scan, place, { node, status, found, read, json }) : read
}

/** In one that it has not: the file is to be read, and its attributes are asked of it when it is open. */
function newFile(scan: Scan, place: EntryPlace, status: FileStatus): EntryScan {
  let metadata: NodeMetadata | undefined
  const read = readWhole(scan, place, {
    status,
    whileOpen(descriptor) {
      const attributes = attributesOfOpen(descriptor, () => pathOf(place.at))
      metadata = metadataFor(scan, place, { status, read: attributes })
      return metadata !== undefined
    },
  })
  if (!(read instanceof Uint8Array)) return read
  if (metadata === undefined) return other
  const node: FileNode = { ...metadata, type: 'file', bytes: read.length, content: [] }
  return readEntry(scan, place, { node, status, found: undefined, read, json: encodeNode(node) })
}

interface ReadFile extends Seen<FileNode> {
  readonly found: FoundNode | undefined
  /** What is in it, in the window. */
  readonly read: Uint8Array
  readonly json: string
}

function readEntry(scan: Scan, place: EntryPlace, { node, status, found, read, json }: ReadFile): EntryScan {
  const { findings } = scan
  const content = read.length === 0 ? [] : [blobId(sha256(read))]
  for (const id of content) findings.read({ id, offset: scan.filled, length: read.length })
  scan.filled += read.length
  findings.done(doneEntry(scan, place, { node: { ...node, content }, status, found, isRead: true }))
  return { kind: 'done', json: withContent(json, content) }
}

interface FileToRead {
  readonly status: FileStatus
  /** Whether to go on. */
  readonly whileOpen?: (descriptor: number) => boolean
}

/** The file's content, if it is one chunk and did not change: at the end of what is filled of the window. */
function readWhole(scan: Scan, { at }: EntryPlace, { status, whileOpen }: FileToRead): Uint8Array | EntryScan {
  const { rules, window, filled } = scan
  const length = Number(status.size)
  if (length > rules.fileBytesMax) return other
  // One byte more, so that a file that has grown is found out.
  if (filled + length + 1 > window.length) return full
  const target = window.subarray(filled, filled + length + 1)
  // Non-blocking: what was a file when we looked may be a fifo without a writer now.
  const descriptor = openEntry(at, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    if (whileOpen?.(descriptor) === false || readInto(descriptor, target) !== length) return other
    const after = fstatSync(descriptor, { bigint: true })
    if (after.nlink !== status.nlink || !isSameContent(after, status, rules.ctimeTells)) return other
  } finally {
    closeSync(descriptor)
  }
  const read = target.subarray(0, length)
  return chunkingOf(read.subarray(0, pageHeadBytes), length).kind === 'pages' ? other : read
}

/** How much there is, of one byte more than there should be. */
function readInto(descriptor: number, target: Uint8Array): number {
  let filled = 0
  // A read that ends where the file should end was cut short there: another one would find nothing.
  do {
    const bytes = readSync(descriptor, target, filled, target.length - filled, null)
    if (bytes === 0) break
    filled += bytes
  } while (filled < target.length - 1)
  return filled
}
