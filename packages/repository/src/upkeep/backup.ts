/**
 * Owns saving paths of this machine as one snapshot, laid out as restic lays it out: absolute paths below the root as
 * they are, relative ones as they were given; the snapshot names all of them as absolute paths.
 *
 * Invariants: 1. what could not be read is in `problems`, never dropped in silence. 2. The lock is held from the first byte
 * to the snapshot. 3. Nothing is deduplicated by time stamps that may not tell: see save-directory.ts.
 */
import { createReadStream } from 'node:fs'
import { lstat, readlink } from 'node:fs/promises'
import { join, normalize, resolve } from 'node:path'
import { Failure, type TreeId } from '@stillpoint/core/kernel'
import { errnoOf, storageFailure } from '../blob/storage-failure.ts'
import type { SnapshotId } from '../format/ids.ts'
import type { IndexedPack } from '../format/index-file.ts'
import { nameFromBytes } from '../format/node-name.ts'
import { blobPlainBytes } from '../format/pack.ts'
import { type Timestamp, timestampFromMs } from '../format/timestamp.ts'
import { resolvePath } from '../load/resolve.ts'
import type { Snapshot } from '../load/snapshots.ts'
import type { LoadedIndex } from '../loaded-index.ts'
import { metadataOf, readAccountNames } from '../save/file-status.ts'
import { type Save, startSave } from '../save/save.ts'
import type { PathProblem } from '../save/save-directory.ts'
import { sealSnapshot } from '../save/seal.ts'
import type { TreeEntry } from '../save/tree-entry.ts'
import type { Vault } from '../vault.ts'
import type { LockKeeper } from './lock.ts'

export interface BackupProgress {
  readonly files: number
  readonly bytes: number
  readonly path: string
}

export interface BackupOptions {
  /** Files and directories, absolute or relative to `cwd`; or one stream under a name. */
  readonly source:
    | { readonly kind: 'paths'; readonly paths: readonly string[] }
    | { readonly kind: 'stream'; readonly name: string; readonly stream: AsyncIterable<Uint8Array> }
  readonly cwd: string
  readonly hostname: string
  readonly username: string
  readonly tags: readonly string[]
  readonly time: Timestamp
  readonly programVersion: string
  /** Unchanged files of it are not read again. */
  readonly parent?: Snapshot
  /** By absolute path. Directories for which it returns true are left out with all that is in them. */
  readonly exclude?: (path: string) => boolean
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: BackupProgress) => void
}

export interface BackupReport {
  readonly id: SnapshotId
  readonly tree: TreeId
  readonly files: number
  readonly bytes: number
  /** What could not be read and is not in the snapshot. */
  readonly problems: readonly PathProblem[]
  /** Files that changed or vanished while they were read. */
  readonly changed: readonly string[]
  readonly skipped: readonly string[]
  readonly added: {
    readonly dataBlobs: number
    readonly treeBlobs: number
    readonly bytes: number
    readonly storedBytes: number
  }
}

interface Added {
  dataBlobs: number
  treeBlobs: number
  bytes: number
  storedBytes: number
}

interface Folder {
  /** Where its metadata comes from. */
  readonly path: string
  readonly folders: Map<string, Folder>
  readonly entries: Map<string, TreeEntry>
}

interface Backup {
  readonly vault: Vault
  readonly save: Save
  readonly options: BackupOptions
  readonly root: Folder
  readonly problems: PathProblem[]
  readonly changed: string[]
  readonly skipped: string[]
  files: number
  bytes: number
  /** What lies at the root where the target has no name of its own. */
  whole: TreeId | undefined
}

/** @throws Failure `backup_empty` (nothing of what was named is there), `repository_locked`, `no_space`, … */
export async function backup(vault: Vault, locks: LockKeeper, options: BackupOptions): Promise<BackupReport> {
  return locks.withLock('shared', async () => {
    const added: Added = { dataBlobs: 0, treeBlobs: 0, bytes: 0, storedBytes: 0 }
    const counting: Vault = { ...vault, index: countingIndex(vault.index, added) }
    const save = await startSave(counting, await locks.acquire('shared'))
    const root: Folder = { path: '/', folders: new Map(), entries: new Map() }
    const found = { problems: [], changed: [], skipped: [], files: 0, bytes: 0, whole: undefined }
    const work: Backup = { vault, save, options, root, ...found }
    let tree: TreeId
    try {
      const { source } = options
      if (source.kind === 'stream') await saveStream(work, source.name, source.stream)
      else for (const path of source.paths) await savePath(work, path)
      if (work.whole === undefined && !hasEntries(root)) throw empty(work.problems)
      tree = work.whole ?? (await saveFolder(work, root))
      await save.finish()
    } catch (error) {
      await save.discard()
      throw error
    }
    const { problems, changed, skipped, files, bytes } = work
    const id = await seal(vault, tree, options)
    return { id, tree, files, bytes, problems, changed, skipped, added }
  })
}

function hasEntries({ folders, entries }: Folder): boolean {
  return entries.size > 0 || [...folders.values()].some(hasEntries)
}

function notAlone(path: string): Failure {
  return new Failure({
    code: 'options_invalid',
    message: `${JSON.stringify(path)} can only be backed up alone: what is in it lies at the root of the snapshot`,
    hint: 'Name the directory by its absolute path.',
  })
}

function empty(problems: readonly PathProblem[]): Failure {
  const why = problems.map(({ failure }) => failure.message).join('; ')
  return new Failure({
    code: 'backup_empty',
    message: `nothing was backed up: nothing of what was named can be read${why === '' ? '' : `: ${why}`}`,
    hint: 'Name files or directories that are there.',
  })
}

/** Counts what a save adds: each pack is adopted once it is durable. */
function countingIndex(index: LoadedIndex, added: Added): LoadedIndex {
  return {
    get blobs() {
      return index.blobs
    },
    refresh: () => index.refresh(),
    adopt(name, packs: readonly IndexedPack[]) {
      for (const entry of packs.flatMap(({ entries }) => entries)) {
        if (entry.type === 'data') added.dataBlobs += 1
        else added.treeBlobs += 1
        added.bytes += blobPlainBytes(entry)
        added.storedBytes += entry.length
      }
      index.adopt(name, packs)
    },
  }
}

async function seal(vault: Vault, tree: TreeId, options: BackupOptions): Promise<SnapshotId> {
  const { source, cwd, time, hostname, username, tags, programVersion, parent } = options
  const paths = source.kind === 'stream' ? [`/${source.name}`] : source.paths.map((path) => resolve(cwd, path))
  const settings = { time, paths: [...new Set(paths)].sort(), hostname, username, tags, programVersion }
  return sealSnapshot(vault, tree, { ...settings, ...(parent === undefined ? {} : { parent: parent.id }) })
}

/** Components below the root of the snapshot: of a relative path without what leads up. */
function componentsOf(path: string): readonly string[] {
  return normalize(path)
    .split('/')
    .filter((component) => component !== '' && component !== '.' && component !== '..')
}

async function savePath(work: Backup, path: string): Promise<void> {
  const { options } = work
  const absolute = resolve(options.cwd, path)
  if (options.exclude?.(absolute) === true) return
  const components = componentsOf(path)
  const name = components.at(-1)
  try {
    // A path without a name of its own ("/", "."): what is in it lies at the root.
    if (name === undefined) {
      if (work.options.source.kind !== 'paths' || work.options.source.paths.length > 1) throw notAlone(path)
      work.whole = await saveDirectory(work, absolute, [])
      return
    }
    const parent = folderAt(work, components.slice(0, -1), absolute)
    const status = await lstat(absolute, { bigint: true })
    const metadata = metadataOf(name, status, await readAccountNames())
    if (status.isDirectory()) {
      const subtree = await saveDirectory(work, absolute, components)
      parent.entries.set(name, { ...metadata, type: 'dir', subtree })
    } else if (status.isFile()) {
      const saved = await work.save.saveStream(createReadStream(absolute), withSignal(options.signal))
      parent.entries.set(name, { ...metadata, type: 'file', ...saved })
      count(work, { files: 1, bytes: saved.bytes, path: absolute })
    } else if (status.isSymbolicLink()) {
      const target = nameFromBytes(await readlink(absolute, { encoding: 'buffer' }))
      parent.entries.set(name, { ...metadata, type: 'symlink', target })
    } else work.skipped.push(absolute)
  } catch (error) {
    if (!isAboutSource(error, absolute)) throw error
    work.problems.push({ path: absolute, failure: storageFailure(error, 'reading', absolute) })
  }
}

/** What the operating system says about the path itself; failures to store, aborts and bugs are none of it. */
function isAboutSource(error: unknown, absolute: string): boolean {
  if (error instanceof Failure) return error.message.startsWith(`reading ${absolute}:`)
  return /^E[A-Z0-9]+$/.test(errnoOf(error) ?? '')
}

function withSignal(signal: AbortSignal | undefined): { readonly signal?: AbortSignal } {
  return signal === undefined ? {} : { signal }
}

function count(work: Backup, done: BackupProgress): void {
  work.files += done.files
  work.bytes += done.bytes
  work.options.onProgress?.({ files: work.files, bytes: work.bytes, path: done.path })
}

/** The folder of these components; made where it is not there yet. */
function folderAt(work: Backup, components: readonly string[], absolute: string): Folder {
  let folder = work.root
  components.forEach((component, at) => {
    let next = folder.folders.get(component)
    if (next === undefined) {
      // As many levels up from the target as components are left.
      const up = Array.from({ length: components.length - at }, () => '..')
      next = { path: resolve(absolute, ...up), folders: new Map(), entries: new Map() }
      folder.folders.set(component, next)
    }
    folder = next
  })
  return folder
}

async function saveDirectory(work: Backup, absolute: string, components: readonly string[]): Promise<TreeId> {
  const { options } = work
  const before = { files: work.files, bytes: work.bytes }
  const parentTree = await treeInParent(work, components)
  const { exclude, parent } = options
  const saved = await work.save.saveDirectory(absolute, {
    ...withSignal(options.signal),
    ...(exclude === undefined ? {} : { exclude: (below: string) => exclude(join(absolute, below)) }),
    ...(parentTree === undefined || parent === undefined ? {} : { parentTree, parentTime: parent.time }),
    onProgress: ({ files, bytes, path }) =>
      options.onProgress?.({ files: before.files + files, bytes: before.bytes + bytes, path: join(absolute, path) }),
  })
  count(work, { files: saved.files, bytes: saved.bytes, path: absolute })
  work.changed.push(...saved.changed.map((path) => join(absolute, path)))
  work.skipped.push(...saved.skipped.map((path) => join(absolute, path)))
  work.problems.push(...saved.errors.map(({ path, failure }) => ({ path: join(absolute, path), failure })))
  return saved.tree
}

async function treeInParent({ vault, options }: Backup, components: readonly string[]): Promise<TreeId | undefined> {
  if (options.parent === undefined) return undefined
  if (components.length === 0) return options.parent.tree
  try {
    const node = await resolvePath(vault, options.parent.tree, components.join('/'))
    return node.type === 'dir' ? node.subtree : undefined
  } catch (error) {
    // A parent only saves work: where it has no such path, or is damaged, everything is read.
    if (error instanceof Failure) return undefined
    throw error
  }
}

async function saveStream(work: Backup, name: string, stream: AsyncIterable<Uint8Array>): Promise<void> {
  const components = componentsOf(name)
  const last = components.at(-1)
  if (last === undefined) throw new Failure({ code: 'options_invalid', message: 'the stream has no name' })
  let folder = work.root
  for (const component of components.slice(0, -1)) {
    const next: Folder = { path: '', folders: new Map(), entries: new Map() }
    folder.folders.set(component, next)
    folder = next
  }
  const saved = await work.save.saveStream(stream, withSignal(work.options.signal))
  const mtime = timestampFromMs(work.vault.clock.wallMs())
  folder.entries.set(last, { name: last, type: 'file', permissions: 0o644, mtime, ...saved })
  count(work, { files: 1, bytes: saved.bytes, path: name })
}

/** Saves a folder that was put together from several targets. Its metadata is that of the directory on this machine. */
async function saveFolder(work: Backup, folder: Folder): Promise<TreeId> {
  const accounts = await readAccountNames()
  const entries = [...folder.entries.values()]
  for (const [name, below] of folder.folders) {
    if (folder.entries.has(name) || !hasEntries(below)) continue // a target that contains this one was saved as a whole
    const subtree = await saveFolder(work, below)
    const status = below.path === '' ? undefined : await lstat(below.path, { bigint: true })
    const metadata = status === undefined ? { name, permissions: 0o755 } : metadataOf(name, status, accounts)
    entries.push({ ...metadata, type: 'dir', subtree })
  }
  return work.save.saveTree(entries)
}

/** Where a path of the command line lies in a snapshot. */
export function pathInSnapshot(path: string): string {
  return `/${componentsOf(path).join('/')}`
}
