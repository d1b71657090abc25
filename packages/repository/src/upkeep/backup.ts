/**
 * Owns saving paths of this machine as one snapshot, laid out as restic lays it out: absolute paths below the root as
 * they are, relative ones as they were given; the snapshot names all of them as absolute paths.
 *
 * Invariants: 1. what could not be read is in `problems`, never dropped in silence. 2. The lock is held from the first byte
 * to the snapshot. 3. Nothing is deduplicated by time stamps that may not tell: see save-directory.ts. 4. The tree is
 * walked once: what is counted is counted on the way, and what the snapshot reaches was found stored on the way.
 */
import { lstatSync, readdirSync } from 'node:fs'
import { lstat } from 'node:fs/promises'
import { basename, dirname, join, normalize, resolve } from 'node:path'
import { Failure, type TreeId } from '@stillpoint/core/kernel'
import { readAccountNames } from '../account-names.ts'
import { errnoOf, storageFailure } from '../blob/storage-failure.ts'
import type { SnapshotId } from '../format/ids.ts'
import type { IndexedPack } from '../format/index-file.ts'
import { bytesFromName, nameFromBytes } from '../format/node-name.ts'
import { blobPlainBytes, packBytes } from '../format/pack.ts'
import type { SnapshotSummary } from '../format/snapshot-summary.ts'
import { type Timestamp, timestampFromMs } from '../format/timestamp.ts'
import type { Snapshot } from '../load/snapshots.ts'
import type { LoadedIndex } from '../loaded-index.ts'
import { eachOf } from '../parallel.ts'
import { metadataOf } from '../save/file-status.ts'
import { createParentPaths, type ParentPaths } from '../save/parent-paths.ts'
import { type Save, startSave } from '../save/save.ts'
import { writeSnapshot } from '../save/seal.ts'
import { completeEntry, type TreeEntry } from '../save/tree-entry.ts'
import {
  type DirectoryProgress,
  type PathProblem,
  type SaveDirectoryOptions,
  type SavedDirectory,
  type SavedEntries,
  type SavedEntry,
  savedEntry,
} from '../save/walk.ts'
import type { ExcludeRules } from '../selection/exclude-rules.ts'
import { createTurns } from '../turns.ts'
import type { Vault } from '../vault.ts'
import { dryVault } from './dry-run.ts'
import { createEntryCounter, type EntryCounter, type EntryCounts } from './entry-counts.ts'
import type { LockKeeper } from './lock.ts'

export interface BackupProgress {
  readonly files: number
  readonly bytes: number
  readonly path: string
}

/** Directories of targets that are walked at the same time. */
const groupsInFlightMax = 8
/** The same of directories that are put together from targets, at each level. */
const foldersInFlightMax = 4

/** With its path in the snapshot. */
export type BackedUpEntry = SavedEntry

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
  /** When the work began, for the summary. Default: when it is called. */
  readonly startTime?: Timestamp
  readonly programVersion: string
  /** Unchanged files of it are not read again. */
  readonly parent?: Snapshot
  /** By absolute path. Directories for which it returns true are left out with all that is in them. */
  readonly exclude?: (path: string) => boolean
  /** What else is left out; see `SaveDirectoryOptions`. */
  readonly excludeRules?: ExcludeRules
  /** Patterns that these go by, for whoever looks at the snapshot. */
  readonly excludes?: readonly string[]
  /** See `SaveDirectoryOptions`. */
  readonly withAtime?: boolean
  readonly ignoreCtime?: boolean
  readonly ignoreInode?: boolean
  /** Reads and counts everything, and stores nothing; the id is that of a snapshot that is not there. */
  readonly dryRun?: boolean
  /** Makes no snapshot where everything is as the parent has it; the id is then the parent's. */
  readonly skipIfUnchanged?: boolean
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: BackupProgress) => void
  /** Called for each file, directory and link, a directory after what is in it. */
  readonly onEntry?: (entry: BackedUpEntry) => void
}

export interface BackupReport {
  readonly id: SnapshotId
  /** False where there is no new snapshot: see `skipIfUnchanged`. */
  readonly isSealed: boolean
  readonly tree: TreeId
  readonly files: number
  /** The sum of their lengths. */
  readonly bytes: number
  /** What has changed since the parent. */
  readonly counts: EntryCounts
  /** What could not be read and is not in the snapshot. */
  readonly problems: readonly PathProblem[]
  /** Files that changed or vanished while they were read. */
  readonly changed: readonly string[]
  readonly skipped: readonly string[]
  readonly added: {
    readonly dataBlobs: number
    readonly treeBlobs: number
    readonly bytes: number
    /** What the new packs take, with their headers. */
    readonly storedBytes: number
  }
  /** The same, as the snapshot has it. */
  readonly summary: SnapshotSummary
}

interface Added {
  dataBlobs: number
  treeBlobs: number
  bytes: number
  storedBytes: number
}

interface Folder {
  /** Where its metadata comes from; empty where it is on no disk. */
  readonly path: string
  /** Where it lies in the snapshot, ending with "/". */
  readonly place: string
  readonly folders: Map<string, Folder>
  readonly entries: Map<string, TreeEntry>
}

interface Backup {
  readonly vault: Vault
  readonly parents: ParentPaths
  readonly save: Save
  readonly options: BackupOptions
  readonly root: Folder
  readonly counter: EntryCounter
  readonly problems: PathProblem[]
  readonly changed: string[]
  readonly skipped: string[]
  files: number
  bytes: number
  /** The same while walks are under way. */
  readonly shown: { files: number; bytes: number }
  readonly accounts: string
  /** What lies at the root where the only target has no name of its own. */
  whole: TreeId | undefined
}

/** @throws Failure `backup_empty` (nothing of what was named is there), `repository_locked`, `no_space`, … */
export async function backup(vault: Vault, locks: LockKeeper, options: BackupOptions): Promise<BackupReport> {
  return locks.withLock('shared', async (lockSignal) => {
    const backupStart = options.startTime ?? timestampFromMs(vault.clock.wallMs())
    const target = options.dryRun === true ? dryVault(vault) : vault
    const added: Added = { dataBlobs: 0, treeBlobs: 0, bytes: 0, storedBytes: 0 }
    const counting: Vault = { ...target, index: countingIndex(target.index, added) }
    const accounts = await readAccountNames()
    const parents = createParentPaths(vault, options.parent?.tree)
    const save = await startSave(counting, await locks.acquire('shared'))
    const root = newFolder('/', '/')
    const shown = { files: 0, bytes: 0 }
    const found = { problems: [], changed: [], skipped: [], files: 0, bytes: 0, shown, whole: undefined }
    const counter = createEntryCounter()
    const work: Backup = { vault, save, parents, accounts, options, root, counter, ...found }
    let tree: TreeId
    try {
      await saveSource(work)
      tree = work.whole ?? (await saveFolder(work, root))
      options.signal?.throwIfAborted()
      await save.finish()
    } catch (error) {
      await save.discard()
      throw error
    }
    lockSignal.throwIfAborted()
    const same = options.skipIfUnchanged === true && options.parent?.tree === tree ? options.parent.id : undefined
    const { counts, totals } = work.counter
    const report = { tree, ...totals, counts, added }
    const backupEnd = timestampFromMs(vault.clock.wallMs())
    const summary = summaryOf(report, { backupStart, backupEnd })
    const id = same ?? (await seal(target, tree, { options, summary }))
    const { problems, changed, skipped } = work
    return { id, isSealed: same === undefined, ...report, problems, changed, skipped, summary }
  })
}

function summaryOf(
  { files, bytes, counts, added }: Pick<BackupReport, 'files' | 'bytes' | 'counts' | 'added'>,
  times: Pick<SnapshotSummary, 'backupStart' | 'backupEnd'>,
): SnapshotSummary {
  return {
    ...times,
    filesNew: BigInt(counts.files.new),
    filesChanged: BigInt(counts.files.changed),
    filesUnmodified: BigInt(counts.files.unmodified),
    dirsNew: BigInt(counts.dirs.new),
    dirsChanged: BigInt(counts.dirs.changed),
    dirsUnmodified: BigInt(counts.dirs.unmodified),
    dataBlobs: BigInt(added.dataBlobs),
    treeBlobs: BigInt(added.treeBlobs),
    dataAdded: BigInt(added.bytes),
    dataAddedPacked: BigInt(added.storedBytes),
    totalFilesProcessed: BigInt(files),
    totalBytesProcessed: BigInt(bytes),
  }
}

async function saveSource(work: Backup): Promise<void> {
  const { source } = work.options
  if (source.kind === 'stream') await saveStream(work, source.name, source.stream)
  else if (source.paths.length === 1 && componentsOf(source.paths[0] ?? '').length === 0) {
    await saveWhole(work, resolve(work.options.cwd, source.paths[0] ?? ''))
  } else await savePaths(work, source.paths)
  if (work.whole === undefined && !hasEntries(work.root)) throw empty(work.problems)
}

const newFolder = (path: string, place: string): Folder => ({ path, place, folders: new Map(), entries: new Map() })

function hasEntries({ folders, entries }: Folder): boolean {
  return entries.size > 0 || [...folders.values()].some(hasEntries)
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
    ...index,
    get blobs() {
      return index.blobs
    },
    get files() {
      return index.files
    },
    adopt(name, packs: readonly IndexedPack[]) {
      for (const { entries } of packs) {
        for (const entry of entries) {
          if (entry.type === 'data') added.dataBlobs += 1
          else added.treeBlobs += 1
          added.bytes += blobPlainBytes(entry)
        }
        added.storedBytes += packBytes(entries)
      }
      index.adopt(name, packs)
    },
  }
}

interface Sealed {
  readonly options: BackupOptions
  readonly summary: SnapshotSummary
}

async function seal(vault: Vault, tree: TreeId, { options, summary }: Sealed): Promise<SnapshotId> {
  const { source, cwd, time, hostname, username, tags, programVersion, parent, excludes = [] } = options
  const paths = source.kind === 'stream' ? [resolve('/', source.name)] : source.paths.map((path) => resolve(cwd, path))
  const settings = {
    time,
    paths: [...new Set(paths)].sort(),
    hostname,
    username,
    tags,
    programVersion,
    excludes,
    summary,
  }
  // Invariant 4: nothing is looked for again.
  return writeSnapshot(vault, tree, { ...settings, ...(parent === undefined ? {} : { parent: parent.id }) })
}

/** Components below the root of the snapshot: of a relative path without what leads up. */
function componentsOf(path: string): readonly string[] {
  return normalize(path)
    .split('/')
    .filter((component) => component !== '' && component !== '.' && component !== '..')
}

/** Targets in one directory. */
interface TargetGroup {
  /** Absolute. */
  readonly directory: string
  readonly folder: Folder
  readonly names: string[]
}

/** Each directory is walked once for all that is named in it: a list may name every file of a tree. */
async function savePaths(work: Backup, paths: readonly string[]): Promise<void> {
  const groups = new Map<string, TargetGroup>()
  for (const found of await targetsOf(work, paths)) {
    if ('failure' in found) work.problems.push(found)
    else addTarget(work, groups, found.path)
  }
  const saved = new Map<TargetGroup, SavedEntries>()
  await eachOf(groups.values(), groupsInFlightMax, async (group) => {
    const { directory, folder, names } = group
    work.options.signal?.throwIfAborted()
    const parentTree = await work.parents.treeAt(componentsOf(folder.place))
    const options = walkOptions(work, { below: directory, place: folder.place })
    const given = { ...options, ...(parentTree === undefined ? {} : { parentTree }), names }
    saved.set(group, await work.save.saveEntries(directory, given))
  })
  for (const group of groups.values()) {
    const found = saved.get(group)
    if (found === undefined) continue
    takeOver(work, found, group.directory)
    for (const [name, node] of found.nodes) group.folder.entries.set(name, node)
  }
}

/** A path as it was given, or below one that has no name of its own; or why there is none. */
type Target = { readonly path: string } | PathProblem

async function targetsOf(work: Backup, paths: readonly string[]): Promise<readonly Target[]> {
  const found: Target[] = []
  const turns = createTurns(work.vault.clock)
  for (const path of paths) {
    work.options.signal?.throwIfAborted()
    if (turns.isDue) await turns.give()
    found.push(...targetsAt(work, path))
  }
  return found
}

/** Blocks: a list may name every file of a tree, and a promise for each would take ten times as long. */
function targetsAt(work: Backup, path: string): readonly Target[] {
  const absolute = resolve(work.options.cwd, path)
  try {
    if (componentsOf(path).length > 0) {
      lstatSync(bytesFromName(absolute))
      return [{ path }]
    }
    // A path without a name of its own ("/", "."): what is in it lies at the root.
    const names = readdirSync(absolute, { encoding: 'buffer' }).sort(Buffer.compare).map(nameFromBytes)
    return names.map((name) => ({ path: join(path, name) }))
  } catch (error) {
    if (!isErrno(error)) throw error
    return [{ path: absolute, failure: storageFailure(error, 'reading', absolute) }]
  }
}

function addTarget(work: Backup, groups: Map<string, TargetGroup>, path: string): void {
  const absolute = resolve(work.options.cwd, path)
  const components = componentsOf(path)
  const directory = dirname(absolute)
  const folder = folderAt(work, components.slice(0, -1), absolute)
  const key = `${folder.place}\0${directory}`
  const group = groups.get(key) ?? { directory, folder, names: [] }
  groups.set(key, group)
  group.names.push(basename(absolute))
}

const isErrno = (error: unknown) => /^E[A-Z0-9]+$/.test(errnoOf(error) ?? '')

/** The only target has no name of its own: what is in it is the root. */
async function saveWhole(work: Backup, absolute: string): Promise<void> {
  const { parent } = work.options
  const saved = await work.save.saveDirectory(absolute, {
    ...walkOptions(work, { below: absolute, place: '/' }),
    ...(parent === undefined ? {} : { parentTree: parent.tree }),
  })
  takeOver(work, saved, absolute)
  work.whole = saved.tree
}

interface WalkPlace {
  /** The directory on this machine from which paths of the walk are counted. */
  readonly below: string
  /** The same in the snapshot, ending with "/". */
  readonly place: string
}

function walkOptions(work: Backup, { below, place }: WalkPlace): Omit<SaveDirectoryOptions, 'parentTree' | 'expect'> {
  const { options } = work
  const { exclude, excludeRules, parent, signal, onProgress } = options
  const last = { files: 0, bytes: 0 }
  return {
    ...(signal === undefined ? {} : { signal }),
    ...(exclude === undefined ? {} : { exclude: (path: string) => exclude(join(below, path)) }),
    ...(excludeRules === undefined ? {} : { excludeRules }),
    ...(parent === undefined ? {} : { parentTime: parent.time }),
    withAtime: options.withAtime ?? false,
    ignoreCtime: options.ignoreCtime ?? false,
    ignoreInode: options.ignoreInode ?? false,
    onEntry: (entry) => tell(work, { ...entry, path: `${place}${entry.path}` }),
    ...(onProgress === undefined
      ? {}
      : {
          onProgress: ({ files, bytes, path }: DirectoryProgress) => {
            // Several walks at a time are one to whoever looks.
            work.shown.files += files - last.files
            work.shown.bytes += bytes - last.bytes
            Object.assign(last, { files, bytes })
            onProgress({ ...work.shown, path: join(below, path) })
          },
        }),
  }
}

function tell(work: Backup, entry: BackedUpEntry): void {
  work.counter.add(entry)
  work.options.onEntry?.(entry)
}

function takeOver(work: Backup, saved: Omit<SavedDirectory, 'tree'>, below: string): void {
  work.files += saved.files
  work.bytes += saved.bytes
  work.changed.push(...saved.changed.map((path) => join(below, path)))
  work.skipped.push(...saved.skipped.map((path) => join(below, path)))
  work.problems.push(...saved.errors.map(({ path, failure }) => ({ path: join(below, path), failure })))
}

/** The folder of these components; made where it is not there yet. */
function folderAt(work: Backup, components: readonly string[], absolute: string): Folder {
  let folder = work.root
  components.forEach((component, at) => {
    let next = folder.folders.get(component)
    if (next === undefined) {
      // As many levels up from the target as components are left.
      const up = Array.from({ length: components.length - at }, () => '..')
      next = newFolder(resolve(absolute, ...up), `${folder.place}${component}/`)
      folder.folders.set(component, next)
    }
    folder = next
  })
  return folder
}

async function saveStream(work: Backup, name: string, stream: AsyncIterable<Uint8Array>): Promise<void> {
  const { options, root, vault } = work
  const components = componentsOf(name)
  const last = components.at(-1)
  if (last === undefined) throw new Failure({ code: 'options_invalid', message: 'the stream has no name' })
  let folder = root
  for (const component of components.slice(0, -1)) {
    const next = newFolder('', `${folder.place}${component}/`)
    folder.folders.set(component, next)
    folder = next
  }
  const path = `${folder.place}${last}`
  const saved = await work.save.saveStream(stream, {
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    onProgress: ({ bytes }) => options.onProgress?.({ files: 0, bytes, path }),
  })
  work.files += 1
  work.bytes += saved.bytes
  const mtime = timestampFromMs(vault.clock.wallMs())
  const entry = completeEntry({ name: last, type: 'file', permissions: 0o644, mtime, ...saved }, mtime)
  folder.entries.set(last, entry)
  tell(work, savedEntry(path, entry, await work.parents.nodeAt(components)))
}

/** Saves a folder that was put together from several targets. Its metadata is that of the directory on this machine. */
async function saveFolder(work: Backup, folder: Folder): Promise<TreeId> {
  const entries = [...folder.entries.values()]
  await eachOf(folder.folders, foldersInFlightMax, async ([name, below]) => {
    if (folder.entries.has(name) || !hasEntries(below)) return // a target that contains this one was saved as a whole
    const subtree = await saveFolder(work, below)
    const metadata = await folderMetadata(work, name, below)
    const node = completeEntry({ ...metadata, type: 'dir', subtree }, work.options.time)
    entries.push(node)
    tell(work, savedEntry(below.place.slice(0, -1), node, await work.parents.nodeAt(componentsOf(below.place))))
  })
  return work.save.saveTree(entries)
}

async function folderMetadata({ accounts }: Backup, name: string, { path }: Folder) {
  if (path === '') return { name, permissions: 0o755 }
  try {
    return metadataOf(name, await lstat(bytesFromName(path), { bigint: true }), { accounts })
  } catch (error) {
    throw isErrno(error) ? storageFailure(error, 'reading', path) : error
  }
}

/** Where a path of the command line lies in a snapshot. */
export function pathInSnapshot(path: string): string {
  return `/${componentsOf(path).join('/')}`
}
