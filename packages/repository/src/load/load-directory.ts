/**
 * Owns restoring a tree into a directory.
 *
 * Invariants: 1. nothing is written outside the target, whatever the tree contains and whoever changes the target
 * meanwhile (on Linux; elsewhere see anchored-directory.ts): names are checked before anything is written, directories
 * are reached through descriptors, files are created with O_EXCL and O_NOFOLLOW. 2. What cannot be restored is in
 * `problems` or `skipped`, never dropped in silence.
 *
 * Not restored: extended attributes and ACLs, for which Node has no interface (they are in `skipped`). Times are set
 * to the microsecond. Files are not synced to disk.
 */
import { Failure, type TreeId } from '@stillpoint/core/kernel'
import { type AnchoredDirectory, makeAnchored } from '../anchored-directory.ts'
import { errnoOf, storageFailure } from '../blob/storage-failure.ts'
import type { DirNode, TreeNode } from '../format/tree.ts'
import type { Vault } from '../vault.ts'
import { readTree } from './blob-reader.ts'
import { applyMetadata, clearTheWay, makeDirectory, makeSpecial, makeSymlink, type NodePlace } from './place-node.ts'
import { type LinkedFiles, restoreFile } from './restore-file.ts'
import { requireSafeNames, surveyTree } from './tree-survey.ts'

export interface LoadProgress {
  readonly files: number
  readonly filesTotal: number
  readonly bytes: number
  readonly bytesTotal: number
  /** The entry that was worked on last. */
  readonly path: string
}

export interface LoadDirectoryOptions {
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: LoadProgress) => void
  /**
   * False (default): the target is absent or empty. True: what is in the way of an entry is replaced, except a directory
   * in the way of something else; other things in the target stay.
   */
  readonly overwrite?: boolean
  /** Entries for which it returns false are left out, directories with all that is in them. Paths are below the tree. */
  readonly select?: (path: string, node: TreeNode) => boolean
  /** `stop` (default): the first problem is thrown. `continue`: all that can be restored is, problems are returned. */
  readonly onProblem?: 'stop' | 'continue'
}

export interface LoadedDirectory {
  readonly files: number
  readonly bytes: number
  readonly problems: readonly { readonly path: string; readonly failure: Failure }[]
  /** What this system or this program cannot restore: sockets, devices without being root, extended attributes. */
  readonly skipped: readonly { readonly path: string; readonly reason: string }[]
}

/** What the parts of a restore share. */
export interface Restore {
  readonly vault: Vault
  readonly overwrite: boolean
  /** Ownership is restored by root only. */
  readonly owners: boolean
  readonly root: AnchoredDirectory
  readonly linked: LinkedFiles
  readonly abort: () => void
  readonly wrote: (path: string, bytes: number) => void
  readonly skip: (path: string, reason: string) => void
  readonly select: (path: string, node: TreeNode) => boolean
}

interface Where {
  readonly tree: TreeId
  readonly targetPath: string
  readonly lockSignal: AbortSignal
}

/** @throws Failure `tree_unsafe`, `target_not_empty`, `target_conflict`, `object_damaged`, `no_space`, … */
export async function loadDirectory(
  vault: Vault,
  where: Where,
  options: LoadDirectoryOptions = {},
): Promise<LoadedDirectory> {
  const abort = () => {
    options.signal?.throwIfAborted()
    where.lockSignal.throwIfAborted()
  }
  const total = await surveyTree(vault, where.tree, {
    signal: options.signal,
    passOverDamage: options.onProblem === 'continue',
  })
  const done = { files: 0, bytes: 0 }
  const skipped: { path: string; reason: string }[] = []
  const problems: { path: string; failure: Failure }[] = []
  const root = await makeAnchored(where.targetPath).catch((error: unknown) => {
    throw storageFailure(error, 'restoring into', where.targetPath)
  })
  try {
    await requireFree(root, where.targetPath, options.overwrite ?? false)
    const restore: Restore = {
      vault,
      overwrite: options.overwrite ?? false,
      owners: process.getuid?.() === 0,
      root,
      linked: new Map(),
      abort,
      wrote: (path, bytes) => {
        done.bytes += bytes
        const totals = { filesTotal: total.files, bytesTotal: total.bytes }
        options.onProgress?.({ ...done, ...totals, path })
      },
      skip: (path, reason) => skipped.push({ path, reason }),
      select: options.select ?? (() => true),
    }
    const guard = async (path: string, action: () => Promise<void>) => {
      abort()
      try {
        await action()
      } catch (error) {
        if (!(error instanceof Failure) && errnoOf(error) === undefined) throw error
        if (options.signal?.aborted === true || where.lockSignal.aborted) throw error
        const failure = storageFailure(error, 'restoring', path)
        if (options.onProblem !== 'continue' || failure.code === 'no_space') throw failure
        problems.push({ path, failure })
      }
    }
    await restoreFolder(restore, root, { tree: where.tree, prefix: '', counted: () => (done.files += 1) }, guard)
  } finally {
    await root.close()
  }
  return { ...done, problems, skipped }
}

async function requireFree(root: AnchoredDirectory, path: string, overwrite: boolean): Promise<void> {
  if (overwrite || (await root.names()).length === 0) return
  throw new Failure({
    code: 'target_not_empty',
    message: `${path} is not empty; nothing was restored`,
    hint: 'Choose an empty directory, or ask for what is there to be overwritten.',
  })
}

type Guard = (path: string, action: () => Promise<void>) => Promise<void>

async function restoreFolder(
  restore: Restore,
  directory: AnchoredDirectory,
  from: { readonly tree: TreeId; readonly prefix: string; readonly counted: () => void },
  guard: Guard,
): Promise<void> {
  const nodes = await readTree(restore.vault, from.tree)
  requireSafeNames(from.tree, nodes)
  for (const node of nodes) {
    const place: NodePlace = { directory, name: node.name, path: `${from.prefix}${node.name}` }
    if (!restore.select(place.path, node)) continue
    await guard(place.path, async () => {
      if (node.extendedAttributes.length > 0) restore.skip(place.path, 'extended attributes')
      if (node.type === 'dir') await restoreSubfolder(restore, place, node, from.counted, guard)
      else await restoreEntry(restore, place, node)
      if (node.type === 'file') from.counted()
    })
  }
}

async function restoreSubfolder(
  restore: Restore,
  place: NodePlace,
  node: DirNode,
  counted: () => void,
  guard: Guard,
): Promise<void> {
  const directory = await makeDirectory(restore, place)
  try {
    await restoreFolder(restore, directory, { tree: node.subtree, prefix: `${place.path}/`, counted }, guard)
    // Last: the entries have changed its times, and its mode may forbid making them.
    await applyMetadata(restore, directory.handle, node)
  } finally {
    await directory.close()
  }
}

async function restoreEntry(restore: Restore, place: NodePlace, node: Exclude<TreeNode, DirNode>): Promise<void> {
  switch (node.type) {
    case 'file':
      return restoreFile(restore, place, node)
    case 'symlink':
      await clearTheWay(restore, place)
      return makeSymlink(restore, place, node)
    case 'fifo':
    case 'dev':
    case 'chardev':
      await clearTheWay(restore, place)
      return makeSpecial(restore, place, node)
    case 'socket':
      return restore.skip(place.path, 'a socket exists only while its server runs')
    case 'irregular':
      return restore.skip(place.path, 'a kind of file that this program does not know')
  }
}
