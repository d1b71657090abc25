/**
 * Owns restoring a tree into a directory.
 *
 * Invariants: 1. nothing is written outside the target, whatever the tree contains and whoever changes the target
 * meanwhile (on Linux; elsewhere see anchored-directory.ts): names are checked before anything is written, directories
 * are reached through descriptors, files are created with O_EXCL and O_NOFOLLOW. 2. What cannot be restored is in
 * `problems` or `skipped`, never dropped in silence. 3. A crash leaves every file either as it was, or with a
 * modification time that is not the one in the snapshot: the next restore finds what is missing.
 *
 * Times: see file-times.ts. Files are not synced to disk.
 */

import { fstatSync, readFileSync } from 'node:fs'
import { Failure, type TreeId } from '@stillpoint/core/kernel'
import { type AccountNumbers, readAccountNumbers } from '../account-names.ts'
import { type HeldDirectory, holdDirectory, makeHeldDirectory } from '../anchored-directory.ts'
import { errnoOf, storageFailure } from '../blob/storage-failure.ts'
import { givesAcl } from '../extended-attributes.ts'
import type { TreeNode } from '../format/tree.ts'
import { createTurns } from '../turns.ts'
import type { Vault } from '../vault.ts'
import { attempt } from './attempt.ts'
import type { Load, LoadedEntry, Overwrite } from './load.ts'
import { type PlannedDirectories, planSections, rootDirectory, type Section } from './load-plan.ts'
import { finishDirectories, loadSection, unmade } from './load-section.ts'
import { createOpenDirectories } from './open-directories.ts'
import { isAloneIn } from './place-attributes.ts'
import { sweepRemains } from './sweep-remains.ts'
import type { TreeSurvey } from './tree-survey.ts'
import { verifySection } from './verify-section.ts'

export interface LoadProgress {
  readonly files: number
  readonly filesTotal: number
  readonly bytes: number
  readonly bytesTotal: number
  /** Directories and all others included. */
  readonly entriesTotal: number
  /** The entry that was worked on last. */
  readonly path: string
}

export interface LoadDirectoryOptions {
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: LoadProgress) => void
  /** What becomes of what is in the target. Default: the target must be absent or empty. */
  readonly overwrite?: Overwrite
  /**
   * Removes what is in the target and not in the tree: all of it, or what the function chooses by path. Only of
   * directories that are in the tree, never on another file system. Needs `overwrite`.
   */
  readonly delete?: boolean | ((path: string) => boolean)
  /** Changes nothing: the result says what would be done. */
  readonly dryRun?: boolean
  /** Reads back each file that was restored, and compares it with the ids of its content. */
  readonly verify?: boolean
  /** Entries for which it returns false are left out, directories with all that is in them. Paths are below the tree. */
  readonly select?: (path: string, node: TreeNode) => boolean
  /** Extended attributes for which it returns false are not restored, and left alone where they are. Default: all are. */
  readonly selectAttribute?: (name: string) => boolean
  /**
   * Owners and groups are those of the names in the tree, where /etc/passwd and /etc/group of this machine have them;
   * others, and those without a name, go by number. ACLs always do. Default: all go by number. Only root restores
   * owners.
   */
  readonly ownershipByName?: boolean
  /** `stop` (default): the first problem is thrown. `continue`: all that can be restored is, problems are returned. */
  readonly onProblem?: 'stop' | 'continue'
  /** Told about each entry when it is done: a directory after all that is in it. */
  readonly onEntry?: (entry: LoadedEntry) => void
  /** Told about each entry that was removed. */
  readonly onDeleted?: (path: string) => void
}

export interface LoadedDirectory {
  /** What was to be in the target: all entries but those that cannot be restored, and the length of files, of several names once. */
  readonly planned: { readonly entries: number; readonly bytes: number }
  /** Files that are in the target as they are in the tree, and their length. */
  readonly files: number
  readonly bytes: number
  /** Those among them that were there already: neither read from the repository nor written. */
  readonly unchanged: { readonly files: number; readonly bytes: number }
  /** Files that stayed as they were, since `overwrite` says so. */
  readonly kept: { readonly files: number; readonly bytes: number }
  /** Entries that were removed from the target. */
  readonly deleted: number
  /** Files that were read back; 0 unless that was asked for. */
  readonly verified: number
  readonly problems: readonly { readonly path: string; readonly failure: Failure }[]
  /**
   * What this system or this program cannot restore: sockets, devices without being root. With `stop`, also extended
   * attributes, which do not stop a restore.
   */
  readonly skipped: readonly { readonly path: string; readonly reason: string }[]
}

interface Where {
  readonly tree: TreeId
  readonly targetPath: string
  readonly lockSignal: AbortSignal
  /** How many files are planned at a time, for tests. */
  readonly sectionFilesMax?: number
  /** Names for `ownershipByName`, for tests. Default: this machine's. */
  readonly accounts?: AccountNumbers
}

interface Tally {
  readonly planned: { entries: number; bytes: number }
  files: number
  bytes: number
  readonly unchanged: { files: number; bytes: number }
  readonly kept: { files: number; bytes: number }
  deleted: number
  verified: number
  readonly problems: { path: string; failure: Failure }[]
  readonly skipped: { path: string; reason: string }[]
}

/** @throws Failure `tree_unsafe`, `target_not_empty`, `target_conflict`, `object_damaged`, `no_space`, … */
export async function loadDirectory(
  vault: Vault,
  where: Where,
  options: LoadDirectoryOptions = {},
): Promise<LoadedDirectory> {
  const tally = newTally()
  const signal = options.signal === undefined ? where.lockSignal : AbortSignal.any([options.signal, where.lockSignal])
  const abort = () => signal.throwIfAborted()
  const problem = (path: string, failure: Failure) => {
    if (options.onProblem !== 'continue') throw failure
    tally.problems.push({ path, failure })
  }
  const directories: PlannedDirectories = new Map()
  const { select } = options
  const passOverDamage = options.onProblem === 'continue'
  const accounts = options.ownershipByName === true ? (where.accounts ?? (await readAccountNumbers())) : undefined
  const planned = { abort, signal, select, problem, passOverDamage, accounts, directories }
  const { sectionFilesMax } = where
  const plan = planSections(vault, where.tree, {
    ...planned,
    ...(sectionFilesMax === undefined ? {} : { sectionFilesMax }),
  })
  // Planned, and its names found safe, before anything is written.
  const first = await plan.next()
  const root = openTarget(where.targetPath, options)
  try {
    const load = loadOf(vault, { root, options, tally, signal, abort, problem, directories })
    try {
      await beginTarget(load, root, where.targetPath)
      for (let next = first; next.done !== true; next = await plan.next()) {
        await loadPlanned(load, next.value, { tally, options })
      }
    } finally {
      load.open.close()
    }
  } finally {
    root?.close()
  }
  return tally
}

function newTally(): Tally {
  const none = () => ({ files: 0, bytes: 0 })
  const planned = { entries: 0, bytes: 0 }
  return { planned, ...none(), unchanged: none(), kept: none(), deleted: 0, verified: 0, problems: [], skipped: [] }
}

/** Undefined where a dry run finds nothing. */
function openTarget(path: string, { dryRun }: LoadDirectoryOptions): HeldDirectory | undefined {
  try {
    return dryRun === true ? holdDirectory(path) : makeHeldDirectory(path)
  } catch (error) {
    if (dryRun === true && errnoOf(error) === 'ENOENT') return undefined
    throw storageFailure(error, 'restoring into', path)
  }
}

async function beginTarget(load: Load, root: HeldDirectory | undefined, path: string): Promise<void> {
  const planned = load.directories.get(rootDirectory)
  if (planned === undefined) return
  if (root === undefined) {
    planned.made = unmade
    return
  }
  const isFresh = root.names().length === 0
  if (!isFresh && load.overwrite === 'refuse') {
    throw new Failure({
      code: 'target_not_empty',
      message: `${path} is not empty; nothing was restored`,
      hint: 'Choose an empty directory, or ask for what is there to be overwritten.',
    })
  }
  if (!isFresh) await attempt(load, '', () => sweepRemains(load, rootDirectory))
  const { ino, dev, mtimeNs } = fstatSync(root.fd, { bigint: true })
  planned.made = {
    inode: ino,
    device: dev,
    isFresh,
    isPlain: false,
    isAlone: isAloneIn(root),
    givesAcl: givesAcl(root.child),
    mtimeBefore: mtimeNs,
  }
}

interface LoadParts {
  readonly root: HeldDirectory | undefined
  readonly options: LoadDirectoryOptions
  readonly tally: Tally
  readonly signal: AbortSignal
  readonly abort: () => void
  readonly problem: (path: string, failure: Failure) => void
  readonly directories: PlannedDirectories
}

function loadOf(vault: Vault, { root, options, tally, signal, abort, problem, directories }: LoadParts): Load {
  const { delete: chosen, onEntry, onDeleted } = options
  return {
    vault,
    overwrite: options.overwrite ?? 'refuse',
    isDryRun: options.dryRun === true,
    removes: chosen === true ? () => true : chosen === false ? undefined : chosen,
    selectsAttribute: options.selectAttribute,
    owners: { canChange: process.getuid?.() === 0, uid: process.geteuid?.() ?? -1, gid: process.getegid?.() ?? -1 },
    umask: umaskOf(),
    signal,
    directories,
    open: createOpenDirectories(root, (directory) => {
      const planned = directories.get(directory)
      return directory === rootDirectory || planned?.made === undefined ? undefined : { ...planned, ...planned.made }
    }),
    linked: new Map(),
    turns: createTurns(vault.clock),
    abort,
    problem,
    skip(path, reason) {
      tally.planned.entries -= 1
      tally.skipped.push({ path, reason })
    },
    progressed: () => undefined,
    counted(entry) {
      const { kind, outcome, bytes } = entry
      if (kind === 'file' || kind === 'link') {
        if (outcome !== 'kept') tally.files += 1
        if (outcome === 'unchanged' || outcome === 'kept') {
          tally[outcome].files += 1
          tally[outcome].bytes += bytes
        }
        // Of what is written, each piece is counted when it is.
        if (outcome === 'unchanged' || (options.dryRun === true && outcome !== 'kept')) tally.bytes += bytes
      }
      onEntry?.(entry)
    },
    removed(path) {
      tally.deleted += 1
      onDeleted?.(path)
    },
    attributeProblem(path, failure) {
      if (options.onProblem === 'continue') tally.problems.push({ path, failure })
      else tally.skipped.push({ path, reason: failure.message })
    },
  }
}

/** As Linux tells it: Node's own function changes it for a moment, for all threads. */
function umaskOf(): number {
  const unknown = 0o7777
  try {
    const [, octal] = /^Umask:\s*([0-7]+)$/m.exec(readFileSync('/proc/self/status', 'latin1')) ?? []
    // Bits that change who a program runs as are given last, after the owner.
    return octal === undefined ? unknown : Number.parseInt(octal, 8) | 0o7000
  } catch (error) {
    if (errnoOf(error) === undefined) throw error
    return unknown
  }
}

async function loadPlanned(
  shared: Load,
  section: Section,
  { tally, options }: { readonly tally: Tally; readonly options: LoadDirectoryOptions },
): Promise<void> {
  const { files, directories, others, links, bytes } = section
  tally.planned.entries += files.size + directories.length + others.length
  tally.planned.bytes += links.reduce((left, { file }) => left - files.bytes(file), bytes)
  const load = { ...shared, progressed: progressOf(tally, section.total, options) }
  await loadSection(load, section)
  if (options.verify === true && options.dryRun !== true) tally.verified += await verifySection(load, section)
  await finishDirectories(load, section)
}

function progressOf(tally: Tally, total: TreeSurvey, { onProgress }: LoadDirectoryOptions) {
  return (path: () => string, bytes: number) => {
    tally.bytes += bytes
    if (onProgress === undefined) return
    const { files, bytes: bytesDone } = tally
    onProgress({
      files,
      filesTotal: total.files,
      bytes: bytesDone,
      bytesTotal: total.bytes,
      entriesTotal: total.entries,
      path: path(),
    })
  }
}
