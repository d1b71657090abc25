/**
 * Owns saving a directory as a tree. Does not own what a consistent moment is: it reads files one after the other, and
 * tells which of them changed while it did.
 *
 * Invariants: 1. symbolic links are recorded, never followed. 2. Nothing is dropped in silence: what is not in the tree
 * is in `changed` (vanished), `errors` or `skipped`.
 */
import { resolve } from 'node:path'
import type { TreeId } from '@stillpoint/core/kernel'
import { openAnchored } from '../anchored-directory.ts'
import { errnoOf, storageFailure } from '../blob/storage-failure.ts'
import { bytesFromName } from '../format/node-name.ts'
import { decodeNodeText, encodeNode, type TreeNode } from '../format/tree.ts'
import { eachOf } from '../parallel.ts'
import { folderFingerprint } from './file-status.ts'
import { compareWithManifest } from './manifest.ts'
import { parentFolder } from './parent-folders.ts'
import { createParentTree } from './parent-tree.ts'
import type { SaveContext } from './save.ts'
import { saveEntry } from './save-entry.ts'
import type { ScannedFolder } from './scan-folders.ts'
import {
  closeFolder,
  closeFolders,
  type FoundFolders,
  type OpenFolder,
  openedFolder,
  saveScanned,
  scanFolders,
} from './scanned-folder.ts'
import {
  recordingProblems,
  type SaveDirectoryOptions,
  type SavedDirectory,
  type SavedEntries,
  type SaveEntriesOptions,
  savedEntry,
  startWalk,
  type Walk,
  whatWalkFound,
} from './walk.ts'

/** Or as many as there are threads, where those are more: who asks for many reads from what answers late. */
const filesInFlightMin = 4
const branchesMin = 8
/** Directories in one task. */
const groupMax = 16

/** @throws Failure where the directory itself cannot be read or anything cannot be stored */
export async function saveDirectory(
  context: SaveContext,
  path: string,
  options: SaveDirectoryOptions,
): Promise<SavedDirectory> {
  const walk = await startWalk(context, path, options)
  const root = await openAnchored(path).catch((error: unknown) => {
    throw storageFailure(error, 'reading', path)
  })
  try {
    const parent = await parentBytes(walk, options.parentTree)
    const tree = await saveFolder(
      walk,
      { directory: { fd: root.handle.fd, child: root.child }, names: await root.names() },
      { prefix: '', parent, trees: noTrees },
    )
    return { tree, ...whatWalkFound(walk) }
  } catch (error) {
    throw errnoOf(error) === undefined ? error : storageFailure(error, 'reading', path)
  } finally {
    closeFolders(walk)
    await root.close()
  }
}

/** @throws Failure where anything cannot be stored; what cannot be read is in `errors` or `changed` */
export async function saveEntries(
  context: SaveContext,
  path: string,
  options: SaveEntriesOptions,
): Promise<SavedEntries> {
  const walk = await startWalk(context, path, options)
  try {
    const parent = await parentBytes(walk, options.parentTree)
    const names = [...new Set(options.names)].sort((one, other) => bytesFromName(one).compare(bytesFromName(other)))
    // Not anchored in the directory that they are in, which may be one that we may pass and not read.
    const directory = {
      fd: undefined,
      child: (name: string) => bytesFromName(`${walk.below === '/' ? '' : walk.below}/${name}`),
    }
    const entries = await saveNames(walk, { directory, names }, { prefix: '', parent, trees: noTrees })
    const nodes = new Map([...entries].map(([name, json]) => [name, decodeNodeText(json)] as const))
    return { nodes, ...whatWalkFound(walk) }
  } finally {
    closeFolders(walk)
  }
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
  const entries = await saveNames(walk, opened, place)
  return walk.context.saveEncodedTree(opened.names.flatMap((name) => entries.get(name) ?? []))
}

/** The entries of the directory, as they stand in its tree. */
async function saveNames(walk: Walk, opened: OpenFolder, place: FolderPlace): Promise<ReadonlyMap<string, string>> {
  const { directory } = opened
  const { prefix, parent } = place
  const entries = new Map<string, string>()
  const left = await saveScanned(walk, { ...opened, prefix, parent, entries })
  const save: FolderSave = { ...place, walk, directory, entries, parents: parentNodes(parent, left.names) }
  const isOut = walk.excluder?.inFolder({ path: resolve(walk.below, prefix), at: directory.child })
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
      const node = await saveEntry(walk, directory, { name, prefix, parent: save.parents.get(name), isOut })
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
  return entries
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
