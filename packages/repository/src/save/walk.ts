/**
 * Owns what a walk of a directory is asked, what it has found so far, and what becomes of what goes wrong.
 *
 * Invariant: nothing is dropped in silence: what is not in the tree is in `changed` (vanished), `errors` or `skipped`.
 */
import { join, resolve } from 'node:path'
import { Failure, type TreeId } from '@stillpoint/core/kernel'
import { errnoOf, storageFailure } from '../blob/storage-failure.ts'
import type { Chunking } from '../chunk/cutter.ts'
import type { Timestamp } from '../format/timestamp.ts'
import type { TreeNode } from '../format/tree.ts'
import { type ExcludeRules, encodeRules } from '../selection/exclude-rules.ts'
import { createExcluder, type Excluder } from '../selection/excluder.ts'
import { changeOf, type EntryChange } from './entry-change.ts'
import type { DirectoryManifest, ManifestOptions } from './manifest.ts'
import type { SaveContext } from './save.ts'
import type { SavedContent } from './save-content.ts'
import type { ScannedFolder } from './scan-folders.ts'

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
  /** What else is left out. Threads can be asked this, and not the function `exclude`, which makes a walk slower. */
  readonly excludeRules?: ExcludeRules
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

export interface SaveEntriesOptions extends Omit<SaveDirectoryOptions, 'expect'> {
  /** Entries of the directory. */
  readonly names: readonly string[]
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
export interface SavedEntries extends Omit<SavedDirectory, 'tree'> {
  /** By name; without those that were left out, vanished, cannot be read or cannot be saved by their nature. */
  readonly nodes: ReadonlyMap<string, TreeNode>
}

export interface Walk {
  readonly context: SaveContext
  /** The absolute path of the directory that paths of the walk are relative to. */
  readonly below: string
  readonly excluder: Excluder | undefined
  /** The same as a text, see `encodeRules`. */
  readonly excludes: string | undefined
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

export async function startWalk(context: SaveContext, below: string, options: SaveDirectoryOptions): Promise<Walk> {
  const { lockSignal } = context
  const { excludeRules } = options
  return {
    context,
    below: resolve(below),
    excluder: excludeRules === undefined ? undefined : createExcluder(excludeRules),
    excludes: excludeRules === undefined ? undefined : encodeRules(excludeRules),
    options,
    accounts: await context.accounts(),
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

export function whatWalkFound(walk: Walk): Omit<SavedDirectory, 'tree'> {
  for (const vanished of walk.unseen) walk.changed.add(vanished)
  const { files, bytes, errors, skipped } = walk
  return { files, bytes, changed: [...walk.changed].sort(), errors, skipped }
}

/** By a path relative to where the walk begins. */
export function isOutByName({ options, excluder, below }: Walk, path: string): boolean {
  return options.exclude?.(path) === true || excluder?.isOutByName(join(below, path)) === true
}

/** What the operating system says about one path is recorded; failures to store, aborts and bugs go up. */
export async function recordingProblems(walk: Walk, path: string, action: () => Promise<void>): Promise<void> {
  walk.options.signal?.throwIfAborted()
  walk.context.lockSignal.throwIfAborted()
  if (isOutByName(walk, path)) return
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

export function savedEntry(path: string, node: TreeNode, parent: TreeNode | undefined): SavedEntry {
  return { path, type: node.type, bytes: node.type === 'file' ? node.bytes : 0, change: changeOf(node, parent) }
}
