/**
 * Owns the task that looks at many entries of one directory at once: it tells which files are as the parent has them, and
 * reads small ones into a window, and which are directories. What is out of the ordinary (large, linked twice, changing, failing, with extended
 * attributes, of special kinds) it leaves to the caller, who has all the time: save-directory.ts.
 *
 * Invariant: an entry is `known` or `read` only if its status before and after tells the same file, unchanged.
 */
import { type BigIntStats, closeSync, constants, fstatSync, lstatSync, openSync, readlinkSync, readSync } from 'node:fs'
import { errnoOf } from '../blob/storage-failure.ts'
import { chunkingOf, pageHeadBytes } from '../chunk/page-structure.ts'
import { readAttributes } from '../extended-attributes.ts'
import { sha256 } from '../format/ids.ts'
import { bytesFromName, nameFromBytes } from '../format/node-name.ts'
import type { Timestamp } from '../format/timestamp.ts'
import type { FileNode, TreeNode } from '../format/tree.ts'
import { changeOf, type EntryChange } from './entry-change.ts'
import { accountNamesOf, fingerprintOf, isSameContent, metadataOf } from './file-status.ts'
import {
  createParentTree,
  encodedNode,
  type FoundNode,
  type ParentTree,
  unchangedSince,
  withContent,
} from './parent-tree.ts'

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
}

export interface ScanFilesInput {
  /** Of the directory, ending with "/". */
  readonly path: Uint8Array
  /** Sorted by their bytes. */
  readonly names: readonly string[]
  /** Shared memory for content. */
  readonly window: Uint8Array
  readonly rules: ScanRules
  /** The directory's tree in the parent, and where in it the first of the names may be. */
  readonly parent: { readonly tree: Uint8Array; readonly at: number } | undefined
}

interface Scanned {
  /** As it stands in a tree. */
  readonly json: string
  readonly bytes: number
  readonly type: TreeNode['type']
  readonly change: EntryChange
  /** Where it is wanted. */
  readonly fingerprint?: string
}

export type ScannedEntry =
  | (Scanned & { readonly kind: 'known'; readonly content: readonly string[] })
  /** `offset`: in the window. An empty file has no id. */
  | (Scanned & { readonly kind: 'read'; readonly id: string | undefined; readonly offset: number })
  | { readonly kind: 'folder' }
  | { readonly kind: 'other' }

export interface ScannedFiles {
  /** Of the first names: the window may be too small for all. */
  readonly entries: readonly ScannedEntry[]
  /** Where in the parent's tree the next name may be. */
  readonly parentAt: number
}

interface Scan {
  readonly input: ScanFilesInput
  readonly parents: ParentTree | undefined
  filled: number
}

const other: ScannedEntry = { kind: 'other' }
const folder: ScannedEntry = { kind: 'folder' }

export function scanFiles(input: ScanFilesInput): ScannedFiles {
  const parents = input.parent === undefined ? undefined : createParentTree(input.parent.tree, input.parent.at)
  const scan: Scan = { input, parents, filled: 0 }
  const entries: ScannedEntry[] = []
  for (const name of input.names) {
    const before = parents?.position ?? 0
    const entry = scanEntry(scan, name)
    if (entry === 'full') return { entries, parentAt: before }
    entries.push(entry)
  }
  return { entries, parentAt: parents?.position ?? 0 }
}

/** What goes wrong here goes wrong again, and is told, where the caller looks itself. */
function scanEntry(scan: Scan, name: string): ScannedEntry | 'full' {
  const { input } = scan
  const path = Buffer.concat([input.path, bytesFromName(name)])
  try {
    const status = lstatSync(path, { bigint: true })
    if (status.isDirectory()) return folder
    if (!status.isFile() && !status.isSymbolicLink()) return other
    const { attributes, failure } = readAttributes(path)
    if (attributes.length > 0 || failure !== undefined) return other
    const metadata = metadataOf(name, status, accountNamesOf(input.rules.accounts))
    if (status.isSymbolicLink()) {
      const target = nameFromBytes(readlinkSync(path, { encoding: 'buffer' }))
      return linkEntry(scan, { ...metadata, type: 'symlink', target }, status)
    }
    return fileEntry(scan, { ...metadata, type: 'file', bytes: Number(status.size), content: [] }, { path, status })
  } catch (error) {
    if (errnoOf(error) === undefined) throw error
    return other
  }
}

function linkEntry(scan: Scan, node: Extract<TreeNode, { type: 'symlink' }>, status: BigIntStats): ScannedEntry {
  const json = encodedNode(node)
  const found = scan.parents?.find(node, json)
  return { kind: 'known', json, bytes: 0, content: [], ...told(scan, { node, status, found }) }
}

interface FoundEntry {
  readonly node: TreeNode
  readonly status: BigIntStats
  readonly found: FoundNode | undefined
}

/** Not the node, nor that of the parent: a message takes as long for each as it took to look at the file. */
function told({ input }: Scan, { node, status, found }: FoundEntry): Omit<Scanned, 'json' | 'bytes'> {
  const { type } = node
  const change = changeOf(node, found === undefined ? undefined : foundNode(node, found))
  return input.rules.wantsFingerprints ? { type, change, fingerprint: fingerprintOf(status) } : { type, change }
}

/** What the parent has: where only the content of a file may differ, the same with the content of the parent. */
function foundNode(node: TreeNode, found: FoundNode): TreeNode {
  if (!found.isEqual) return found.node
  return node.type === 'file' && node.content !== found.content ? { ...node, content: found.content } : node
}

interface FilePlace {
  readonly path: Buffer
  readonly status: BigIntStats
}

function fileEntry(scan: Scan, node: FileNode, { path, status }: FilePlace): ScannedEntry | 'full' {
  const { input } = scan
  const { rules, window } = input
  const json = encodedNode(node)
  const found = scan.parents?.find(node, json)
  const content = found === undefined ? undefined : unchangedSince(found, node, rules)
  if (content !== undefined) {
    const same = { ...node, content }
    const about = told(scan, { node: same, status, found })
    return { kind: 'known', json: withContent(json, content), bytes: node.bytes, content, ...about }
  }
  if (node.links > 1n || node.bytes > rules.fileBytesMax) return other
  // One byte more, so that a file that has grown is found out.
  if (scan.filled + node.bytes + 1 > window.length) return 'full'
  const target = window.subarray(scan.filled, scan.filled + node.bytes + 1)
  if (!readUnchanged(path, target, { status, ctimeTells: rules.ctimeTells })) return other
  const bytes = target.subarray(0, node.bytes)
  if (chunkingOf(bytes.subarray(0, pageHeadBytes), node.bytes).kind === 'pages') return other
  const offset = scan.filled
  scan.filled += node.bytes
  const id = node.bytes === 0 ? undefined : sha256(bytes)
  const read: FileNode = { ...node, content: id === undefined ? [] : [id as FileNode['content'][number]] }
  return {
    kind: 'read',
    id,
    offset,
    json: withContent(json, read.content),
    bytes: node.bytes,
    ...told(scan, { node: read, status, found }),
  }
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
