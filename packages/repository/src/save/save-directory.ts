/**
 * Owns saving a directory as a tree. Does not own what a consistent moment is: it reads files one after the other, and
 * tells which of them changed while it did.
 *
 * Invariants: 1. symbolic links are recorded, never followed. 2. Nothing is dropped in silence: what is not in the tree
 * is in `changed` (vanished), `errors` or `skipped`.
 */
import { type BigIntStats, constants } from 'node:fs'
import { type FileHandle, open, readlink } from 'node:fs/promises'
import { basename } from 'node:path'
import { Failure, type TreeId } from '@stillpoint/core/kernel'
import { type AnchoredDirectory, openAnchored } from '../anchored-directory.ts'
import { errnoOf, storageFailure } from '../blob/storage-failure.ts'
import type { Chunking } from '../chunk/cutter.ts'
import { chunkingOf, pageHeadBytes } from '../chunk/page-structure.ts'
import { directoryItself, readAttributes } from '../extended-attributes.ts'
import { bytesFromName, nameFromBytes } from '../format/node-name.ts'
import type { Timestamp } from '../format/timestamp.ts'
import { encodeNode, type FileNode, type NodeContent, type NodeMetadata, type TreeNode } from '../format/tree.ts'
import { eachOf } from '../parallel.ts'
import { changeOf, type EntryChange } from './entry-change.ts'
import {
  accountNamesOf,
  fingerprintOf,
  folderFingerprint,
  metadataOf,
  readAccountNames,
  typeOf,
} from './file-status.ts'
import { compareWithManifest, type DirectoryManifest, type ManifestOptions, statusOf } from './manifest.ts'
import { parentFolder } from './parent-folders.ts'
import { createParentTree, unchangedSince } from './parent-tree.ts'
import type { SaveContext } from './save.ts'
import type { SavedContent } from './save-content.ts'
import type { ScannedFolder } from './scan-folders.ts'
import {
  closeFolder,
  type FoundFolders,
  type OpenFolder,
  openedFolder,
  saveScanned,
  scanFolders,
} from './scanned-folder.ts'

export interface DirectoryProgress {
  readonly files: number
  readonly bytes: number
  /** The file that was worked on last. */
  readonly path: string
}

/** An entry that has been saved. */
export interface SavedEntry {
  readonly path: string
  readonly type: TreeNode['type']
  /** Of a file; else 0. */
  readonly bytes: number
  /** Since the earlier snapshot. */
  readonly change: EntryChange
}

export interface SaveDirectoryOptions extends ManifestOptions {
  /** Asked with the status of what `exclude` has let pass; where it is true, the entry is left out with all that is in it. */
  readonly excludeEntry?: (path: string, status: BigIntStats) => boolean | Promise<boolean>
  /** Called for each entry of the tree, a directory after what is in it. */
  readonly onEntry?: (entry: SavedEntry) => void
  /** Record when files were last read. Else each backup would make another tree of unchanged directories. */
  readonly withAtime?: boolean
  /** Do not take a file for changed because its ctime, or its inode, is another one: for file systems that do not keep them. */
  readonly ignoreCtime?: boolean
  readonly ignoreInode?: boolean
  readonly onProgress?: (progress: DirectoryProgress) => void
  /** Taken earlier with `takeManifest` and the same `exclude`; what differs from it is in `changed`. */
  readonly expect?: DirectoryManifest
  /** The tree of the same directory in an earlier snapshot: files with equal size, times and inode are not read again. */
  readonly parentTree?: TreeId
  /** When the earlier snapshot was taken. Files that changed as late as that are read: their times may not tell. */
  readonly parentTime?: Timestamp
  /**
   * Whether a file that gets another ctime while it is read has changed. False for a tree of hard links, whose other
   * names come and go: then size, modification time and inode tell. Default: true.
   */
  readonly ctimeTells?: boolean
  /** How a file is cut, by path and size in bytes. Default: as it begins, by pages or by content: page-structure.ts. */
  readonly chunking?: (path: string, bytes: number) => Chunking
}

export interface SaveEntryOptions extends Omit<SaveDirectoryOptions, 'parentTree' | 'expect'> {
  /** What an earlier snapshot has in its place. */
  readonly parent?: TreeNode
}

export interface PathProblem {
  readonly path: string
  readonly failure: Failure
}

export interface SavedDirectory {
  readonly tree: TreeId
  readonly files: number
  /** Sum of the files' lengths. */
  readonly bytes: number
  /** Files that changed or vanished while they were read, or that differ from `expect`. Relative paths, sorted. */
  readonly changed: readonly string[]
  /** What could not be read and is not in the tree, or is there without its extended attributes. */
  readonly errors: readonly PathProblem[]
  /** What cannot be saved by its nature (sockets) and is not in the tree. */
  readonly skipped: readonly string[]
}

/** Paths in it begin with the name of the entry. */
export interface SavedEntryAt extends Omit<SavedDirectory, 'tree'> {
  /** Undefined where it was left out, vanished, cannot be read or cannot be saved by its nature. */
  readonly node: TreeNode | undefined
}

/** Or as many as there are threads, where those are more: who asks for many reads from what answers late. */
const filesInFlightMin = 4
const branchesMin = 8
/** Directories in one task. */
const groupMax = 16

export interface Walk {
  readonly context: SaveContext
  readonly options: SaveDirectoryOptions
  /** See `readAccountNames`. */
  readonly accounts: string
  /** Aborted when it is to end. */
  readonly signal: AbortSignal
  readonly changed: Set<string>
  readonly errors: PathProblem[]
  readonly skipped: string[]
  readonly unseen: Set<string>
  /** Content of files with several names, by device and inode. */
  readonly linked: Map<string, SavedContent>
  files: number
  bytes: number
  /** Directories that are walked beside others. */
  branches: number
  /** Directories that threads have opened, until they are saved. */
  readonly open: Set<ScannedFolder>
}

async function startWalk(context: SaveContext, options: SaveDirectoryOptions): Promise<Walk> {
  const { lockSignal } = context
  return {
    context,
    options,
    accounts: await readAccountNames(),
    signal: options.signal === undefined ? lockSignal : AbortSignal.any([lockSignal, options.signal]),
    changed: new Set(),
    errors: [],
    skipped: [],
    unseen: new Set(options.expect?.keys()),
    linked: new Map(),
    files: 0,
    bytes: 0,
    branches: 0,
    open: new Set(),
  }
}

function whatWalkFound(walk: Walk): Omit<SavedDirectory, 'tree'> {
  for (const vanished of walk.unseen) walk.changed.add(vanished)
  const { files, bytes, errors, skipped } = walk
  return { files, bytes, changed: [...walk.changed].sort(), errors, skipped }
}

/** @throws Failure where the directory itself cannot be read or anything cannot be stored */
export async function saveDirectory(
  context: SaveContext,
  path: string,
  options: SaveDirectoryOptions,
): Promise<SavedDirectory> {
  const walk = await startWalk(context, options)
  const root = await openAnchored(path).catch((error: unknown) => {
    throw storageFailure(error, 'reading', path)
  })
  try {
    const parent = await parentBytes(walk, options.parentTree)
    const tree = await saveFolder(
      walk,
      { directory: root, names: await root.names() },
      { prefix: '', parent, trees: noTrees },
    )
    return { tree, ...whatWalkFound(walk) }
  } catch (error) {
    throw errnoOf(error) === undefined ? error : storageFailure(error, 'reading', path)
  } finally {
    await root.close()
  }
}

/** @throws Failure where anything cannot be stored; what cannot be read is in `errors` or `changed` */
export async function saveEntryAt(
  context: SaveContext,
  path: string,
  options: SaveEntryOptions,
): Promise<SavedEntryAt> {
  const walk = await startWalk(context, options)
  const name = basename(path)
  // Not anchored in the directory that it is in, which may be one that we may pass and not read.
  const place = { child: () => bytesFromName(path) }
  let node: TreeNode | undefined
  await recordingProblems(walk, name, async () => {
    const saved = await saveEntry(walk, place, name, '', options.parent)
    node = saved === 'folder' ? await saveFolderAt(walk, await openAnchored(path), name, options.parent) : saved
    if (node !== undefined) options.onEntry?.(savedEntry(name, node, options.parent))
  })
  return { node, ...whatWalkFound(walk) }
}

export function savedEntry(path: string, node: TreeNode, parent: TreeNode | undefined): SavedEntry {
  return { path, type: node.type, bytes: node.type === 'file' ? node.bytes : 0, change: changeOf(node, parent) }
}

const noTrees: FoundFolders['trees'] = new Map()

interface FolderPlace {
  /** Of the paths in it. */
  readonly prefix: string
  /** Its tree in the parent, in shared memory. */
  readonly parent: Uint8Array | undefined
  /** Trees of the parent that were read in advance. */
  readonly trees: FoundFolders['trees']
}

/** A directory in the making. */
interface FolderSave extends FolderPlace {
  readonly walk: Walk
  readonly directory: OpenFolder['directory']
  /** What is saved, as it stands in the tree. */
  readonly entries: Map<string, string>
  /** What was in it in the parent, of the entries that are saved one by one. */
  readonly parents: ReadonlyMap<string, TreeNode>
}

/** Who has opened the directory closes it. */
async function saveFolder(walk: Walk, opened: OpenFolder, place: FolderPlace): Promise<TreeId> {
  const { directory, names } = opened
  const { prefix, parent } = place
  const entries = new Map<string, string>()
  const left = await saveScanned(walk, { ...opened, prefix, parent, entries })
  const save: FolderSave = { ...place, walk, directory, entries, parents: parentNodes(parent, left.names) }
  const folders = new Set<string>()
  await eachOf(left.names, Math.max(filesInFlightMin, walk.context.vault.work.threads), async (name) => {
    const path = `${prefix}${name}`
    if (left.folders.has(name)) {
      walk.unseen.delete(path)
      compareWithManifest(walk, path, folderFingerprint)
      folders.add(name)
      return
    }
    await recordingProblems(walk, path, async () => {
      const node = await saveEntry(walk, directory, name, prefix, save.parents.get(name))
      if (node === 'folder') folders.add(name)
      else if (node !== undefined) took(save, name, node)
    })
  })
  const closed = left.names.filter((name) => folders.has(name) && left.folders.get(name) === undefined)
  const found = [...left.folders].flatMap(([name, folder]) => (folder === undefined ? [] : [{ name, folder }]))
  await eachBranch(walk, [
    ...found.map((each) => () => saveFound(save, each)),
    ...groupsOf(walk, closed).map((group) => () => saveClosed(save, group)),
  ])
  return walk.context.saveEncodedTree(names.flatMap((name) => entries.get(name) ?? []))
}

function took({ walk, prefix, parents, entries }: FolderSave, name: string, node: TreeNode): void {
  entries.set(name, encodeNode(node))
  walk.options.onEntry?.(savedEntry(`${prefix}${name}`, node, parents.get(name)))
}

interface NamedFolder {
  readonly name: string
  readonly folder: ScannedFolder
}

/** Saves a directory in it that a thread has opened, and closes it. */
async function saveFound(save: FolderSave, { name, folder }: NamedFolder): Promise<void> {
  const { walk, directory, trees } = save
  const path = `${save.prefix}${name}`
  try {
    await recordingProblems(walk, path, async () => {
      const at = directory.child(name)
      const opened = await openedFolder(walk, { folder, path, at, parent: save.parents.get(name), trees })
      const place = { prefix: `${path}/`, parent: opened.parent, trees }
      took(save, name, { ...folder.metadata, type: 'dir', subtree: await saveFolder(walk, opened, place) })
    })
  } finally {
    closeFolder(walk, folder)
  }
}

/** Saves directories in it, some at a time. */
async function saveClosed(save: FolderSave, names: readonly string[]): Promise<void> {
  const { walk, directory, prefix } = save
  for (let [first, ...rest] = names; first !== undefined; [first, ...rest] = rest) {
    const group = [first, ...rest]
    await recordingProblems(walk, `${prefix}${first}`, async () => {
      const { folders, trees, sealed } = await scanFolders(walk, directory, { ...save, names: group })
      rest = group.slice(folders.length)
      try {
        for (const [at, folder] of folders.entries()) {
          const name = group[at] ?? ''
          if (typeof folder === 'string') save.entries.set(name, folder)
          else await saveFound({ ...save, trees }, { name, folder })
        }
      } finally {
        for (const folder of folders) if (typeof folder !== 'string') closeFolder(walk, folder)
        await sealed
      }
    })
  }
}

/** Directories that a task begins with: all branches get some, and a task of small ones is worth its message. */
function groupsOf(walk: Walk, names: readonly string[]): readonly (readonly string[])[] {
  const size = Math.min(groupMax, Math.ceil(names.length / branchesMaxOf(walk)))
  return Array.from({ length: Math.ceil(names.length / size) || 0 }, (_, at) => names.slice(at * size, (at + 1) * size))
}

const branchesMaxOf = (walk: Walk) => Math.max(branchesMin, walk.context.vault.work.threads)

/** Some at a time, over the whole walk: what is at work at once, and what is open, stays bounded at any depth. */
async function eachBranch(walk: Walk, actions: readonly (() => Promise<void>)[]): Promise<void> {
  const branches: Promise<void>[] = []
  const branchesMax = branchesMaxOf(walk)
  let failed: { readonly error: unknown } | undefined
  for (const action of actions) {
    if (failed !== undefined) break
    const done = action().catch((error: unknown) => {
      failed ??= { error }
    })
    if (walk.branches < branchesMax) {
      walk.branches += 1
      branches.push(
        done.finally(() => {
          walk.branches -= 1
        }),
      )
    } else await done
  }
  await Promise.all(branches)
  if (failed !== undefined) throw failed.error
}

/** Takes over the opened directory, which is in none, and closes it however it ends: where it cannot be read, the walk goes on. */
async function saveFolderAt(
  walk: Walk,
  directory: AnchoredDirectory,
  path: string,
  node: TreeNode | undefined,
): Promise<TreeNode> {
  try {
    const status = await directory.handle.stat({ bigint: true })
    const metadata = metadataFor(walk, { path, status, at: directoryItself(directory.child) })
    const parent = await parentBytes(walk, subtreeOf(node))
    const opened = { directory, names: await directory.names() }
    const place = { prefix: `${path}/`, parent, trees: noTrees }
    return { ...metadata, type: 'dir', subtree: await saveFolder(walk, opened, place) }
  } finally {
    await directory.close()
  }
}

const subtreeOf = (node: TreeNode | undefined) => (node?.type === 'dir' ? node.subtree : undefined)

/** What the operating system says about one path is recorded; failures to store, aborts and bugs go up. */
async function recordingProblems(walk: Walk, path: string, action: () => Promise<void>): Promise<void> {
  walk.options.signal?.throwIfAborted()
  walk.context.lockSignal.throwIfAborted()
  if (walk.options.exclude?.(path) === true) return
  try {
    await action()
  } catch (error) {
    const errno = errnoOf(error)
    if (error instanceof Failure || errno === undefined || !/^E[A-Z0-9]+$/.test(errno)) throw error
    // Vanished, or replaced by something else between looking and opening.
    if (['ENOENT', 'ENOTDIR', 'ELOOP', 'ESTALE'].includes(errno)) walk.changed.add(path)
    else walk.errors.push({ path, failure: storageFailure(error, 'reading', path) })
  }
}

/** The tree of the parent, in memory that threads share. */
async function parentBytes(walk: Walk, tree: TreeId | undefined): Promise<Uint8Array | undefined> {
  return tree === undefined ? undefined : parentFolder(walk.context.vault, tree)
}

function parentNodes(tree: Uint8Array | undefined, names: readonly string[]): ReadonlyMap<string, TreeNode> {
  const nodes = new Map<string, TreeNode>()
  if (tree === undefined || names.length === 0) return nodes
  const parents = createParentTree(tree, 0)
  for (const name of names) {
    const node = parents.lookUp(name)
    if (node !== undefined) nodes.set(name, node)
  }
  return nodes
}

async function saveEntry(
  walk: Walk,
  directory: Pick<AnchoredDirectory, 'child'>,
  name: string,
  prefix: string,
  parent: TreeNode | undefined,
): Promise<TreeNode | 'folder' | undefined> {
  const path = `${prefix}${name}`
  const status = await statusOf(directory, name)
  walk.unseen.delete(path)
  if (status === undefined) {
    walk.changed.add(path)
    return undefined
  }
  const { excludeEntry } = walk.options
  if (excludeEntry !== undefined && (await excludeEntry(path, status))) return undefined
  compareWithManifest(walk, path, fingerprintOf(status))
  const type = typeOf(status)
  if (type === 'dir') return 'folder'
  if (type === 'file') return saveFile(walk, directory, { name, path }, parent)
  const content = await specialContent(directory, name, type, status.rdev)
  if (content !== undefined) return { ...metadataFor(walk, { path, status, at: directory.child(name) }), ...content }
  walk.skipped.push(path)
  return undefined
}

interface SeenEntry {
  readonly path: string
  readonly status: BigIntStats
  /** Where the operating system finds it. */
  readonly at: Buffer
}

function metadataFor({ accounts, options, errors }: Walk, { path, status, at }: SeenEntry): NodeMetadata {
  const { attributes: extendedAttributes, failure } = readAttributes(at)
  if (failure !== undefined) errors.push({ path, failure })
  const metadata = { ...metadataOf(basename(path), status, accountNamesOf(accounts)), extendedAttributes }
  return options.withAtime === true ? { ...metadata, atime: status.atimeNs } : metadata
}

async function specialContent(
  directory: Pick<AnchoredDirectory, 'child'>,
  name: string,
  type: Exclude<TreeNode['type'], 'file' | 'dir'>,
  device: bigint,
): Promise<NodeContent | undefined> {
  switch (type) {
    case 'symlink':
      return { type, target: nameFromBytes(await readlink(directory.child(name), { encoding: 'buffer' })) }
    case 'dev':
    case 'chardev':
      return { type, device }
    case 'fifo':
      return { type }
    case 'socket':
    case 'irregular':
      return undefined
  }
}

async function saveFile(
  walk: Walk,
  directory: Pick<AnchoredDirectory, 'child'>,
  at: { readonly name: string; readonly path: string },
  parent: TreeNode | undefined,
): Promise<TreeNode | undefined> {
  const { path } = at
  // Non-blocking: what was a file when we looked may be a fifo without a writer now.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
  const handle = await open(directory.child(at.name), flags)
  try {
    const before = await handle.stat({ bigint: true })
    if (!before.isFile()) {
      walk.changed.add(path)
      return undefined
    }
    const metadata = metadataFor(walk, { path, status: before, at: directory.child(at.name) })
    const unread: FileNode = { ...metadata, type: 'file', bytes: Number(before.size), content: [] }
    const known = knownContent(walk, unread, parent)
    if (known !== undefined) return counted(walk, path, { ...unread, content: known.content }, known.bytes)
    const counter = { bytes: 0 }
    const saved = await walk.context.content.saveFile(handle.fd, {
      bytes: unread.bytes,
      ...(walk.options.signal === undefined ? {} : { signal: walk.options.signal }),
      chunking: walk.options.chunking?.(path, unread.bytes) ?? (await chunkingByHead(handle, unread.bytes)),
      onProgress: ({ bytes }) => {
        walk.bytes += bytes - counter.bytes
        counter.bytes = bytes
        walk.options.onProgress?.({ files: walk.files, bytes: walk.bytes, path })
      },
    })
    const after = await handle.stat({ bigint: true })
    const ctimeTells = walk.options.ctimeTells ?? true
    if (fingerprintOf(before, ctimeTells) !== fingerprintOf(after, ctimeTells) || saved.bytes !== Number(after.size))
      walk.changed.add(path)
    else if (before.nlink > 1n) walk.linked.set(linkKey(unread), saved)
    return counted(walk, path, { ...unread, bytes: saved.bytes, content: saved.content }, 0)
  } finally {
    await handle.close()
  }
}

async function chunkingByHead(handle: FileHandle, bytes: number): Promise<Chunking> {
  const head = Buffer.alloc(pageHeadBytes)
  const { bytesRead } = await handle.read(head, 0, head.length, 0)
  return chunkingOf(head.subarray(0, bytesRead), bytes)
}

function counted(walk: Walk, path: string, node: FileNode, bytes: number): FileNode {
  walk.files += 1
  walk.bytes += bytes
  walk.options.onProgress?.({ files: walk.files, bytes: walk.bytes, path })
  return node
}

const linkKey = (node: FileNode) => `${node.deviceId}:${node.inode}:${node.ctime}`

/** Content that need not be read: of another name of the same file, or of the unchanged file in the parent. */
function knownContent(walk: Walk, node: FileNode, parent: TreeNode | undefined): SavedContent | undefined {
  const linked = node.links > 1n ? walk.linked.get(linkKey(node)) : undefined
  if (linked !== undefined) return linked
  if (parent?.type !== 'file') return undefined
  const { parentTime, ignoreCtime = false, ignoreInode = false } = walk.options
  const content = unchangedSince({ isEqual: false, node: parent }, node, { parentTime, ignoreCtime, ignoreInode })
  if (content === undefined) return undefined
  if (!parent.content.every((id) => walk.context.sink.has(id, 'data'))) return undefined
  return { content: parent.content, bytes: node.bytes }
}
