/**
 * Owns saving what is ordinary in a directory, many entries at a time, with what threads have found out about them
 * (scan-names.ts, scan-folders.ts). Entries that they leave out are saved one by one: save-directory.ts.
 */
import { closeSync } from 'node:fs'
import { resolve } from 'node:path'
import type { TreeId } from '@stillpoint/core/kernel'
import { type HeldDirectory, heldBy } from '../anchored-directory.ts'
import { chunkBytesMin } from '../chunk/cutter.ts'
import { directoryItself, readAttributes } from '../extended-attributes.ts'
import { idsIn } from '../format/ids.ts'
import { encodeNode, type TreeNode } from '../format/tree.ts'
import type { FolderAt } from '../native/folder-entries.ts'
import type { Slab } from '../work/slabs.ts'
import { doneEntries, type Findings, readBlobs } from './findings.ts'
import { compareWithManifest } from './manifest.ts'
import { parentFolder, parentFolders } from './parent-folders.ts'
import type { ScanRules } from './scan-entry.ts'
import type { ScannedFolder, ScannedFolders } from './scan-folders.ts'
import type { ScannedNames } from './scan-names.ts'
import { treesIn } from './tree-bundle.ts'
import { isOutByName, type Walk } from './walk.ts'

/** Names in one task. */
const namesMax = 1000
/** About what looking at an entry costs, in bytes that could be sealed meanwhile. */
const entryBytes = 8 << 10
/** The same of a directory and what is below it. */
const folderBytes = 256 << 10
/** Of a window, what a task may fill: a message is little beside sealing that, and memory that is not touched is none. */
const filledMax = 2 << 20
const noWindow = new Uint8Array(0)
/** However it is cut, a file of this length is one chunk. */
const oneChunkBytes = 64 << 10
/** Directories that threads may leave open in one task, and about how many are open in all. */
const openPerTaskMax = 16
const openMax = 128

export interface FolderToLookInto extends Pick<HeldDirectory, 'child'> {
  /** Undefined: it is not open, and reached by its path. */
  readonly fd: number | undefined
}

/** A directory that is open: somebody closes it. */
export interface OpenFolder {
  readonly directory: FolderToLookInto
  /** Sorted by their bytes. */
  readonly names: readonly string[]
  /** What has been found out of the first names. */
  readonly first?: ScannedNames
}

export interface FolderToSave extends OpenFolder {
  readonly prefix: string
  /** Its tree in the parent, in shared memory. */
  readonly parent: Uint8Array | undefined
  /** Takes what is saved, as it stands in the tree. */
  readonly entries: Map<string, string>
}

/** What is left to save, in order. */
interface Left {
  readonly names: string[]
  /** Those of them that are directories, with what is known of them; others may turn out to be. */
  readonly folders: Map<string, ScannedFolder | undefined>
}

export async function saveScanned(walk: Walk, folder: FolderToSave): Promise<Left> {
  const { first, prefix } = folder
  const names = folder.names.filter((name) => !isOutByName(walk, `${prefix}${name}`))
  const left: Left = { names: [], folders: new Map() }
  const sealing: Promise<void>[] = []
  let done = 0
  let position = 0
  const take = ({ entries, parentAt }: ScannedNames) => {
    for (const entry of entries) {
      const name = names[done] ?? ''
      done += 1
      if (typeof entry === 'string') folder.entries.set(name, entry)
      else if (entry.kind === 'out') walk.unseen.delete(`${prefix}${name}`)
      else left.names.push(name)
      if (typeof entry !== 'string' && entry.kind === 'folder') left.folders.set(name, entry.opened)
    }
    position = parentAt
  }
  try {
    if (first !== undefined) take(first)
    while (done < names.length) {
      const { sealed, ...scanned } = await scanBatch(walk, folder, {
        names: names.slice(done, done + namesMax),
        position,
      })
      sealing.push(sealed)
      take(scanned)
    }
  } finally {
    await Promise.allSettled(sealing)
  }
  await Promise.all(sealing)
  return left
}

interface Batch {
  readonly names: readonly string[]
  readonly position: number
}

type Taken<Answer> = Omit<Answer, 'findings'> & {
  /** Resolves when what was read is sealed and the memory is free again. */
  readonly sealed: Promise<void>
}

async function scanBatch(walk: Walk, folder: FolderToSave, { names, position }: Batch): Promise<Taken<ScannedNames>> {
  const { context, signal } = walk
  const slab = await context.content.windows.take(signal)
  const input = {
    folder: folderAt(folder.directory),
    path: resolve(walk.below, folder.prefix),
    names,
    window: slab.bytes.subarray(0, filledMax),
    parent: parentAt(folder.parent, position),
  }
  const run = (rules: ScanRules) => {
    return context.vault.work.run('scanNames', { ...input, rules }, { bytes: names.length * entryBytes, signal })
  }
  return taking(walk, folder.prefix, { slab, run })
}

const folderAt = ({ fd, child }: FolderToLookInto): FolderAt => ({ fd, at: new Uint8Array(child('')) })

const parentAt = (tree: Uint8Array | undefined, at: number) => (tree === undefined ? undefined : { tree, at })

/** A task, and the memory that holds what it reads. */
interface ScanTask<Answer> {
  readonly slab: Slab | undefined
  readonly run: (rules: ScanRules) => Promise<Answer>
  /** Gives up what the answer holds. */
  readonly drop?: (answer: Answer) => void
}

/** What was found out, taken over. */
async function taking<Answer extends { readonly findings: Findings }>(
  walk: Walk,
  prefix: string,
  { slab, run, drop }: ScanTask<Answer>,
): Promise<Taken<Answer>> {
  let isSealing = false
  try {
    let answer = await run(rulesOf(walk, { readsAll: false }))
    if (!isStored(walk, answer.findings)) {
      drop?.(answer)
      answer = await run(rulesOf(walk, { readsAll: true }))
    }
    const { findings, ...rest } = answer
    tell(walk, prefix, findings)
    const sealed = seal(walk, findings, slab).finally(() => slab?.release())
    isSealing = true
    sealed.catch(() => undefined) // awaited by the caller, who may still be busy
    return { ...rest, sealed }
  } finally {
    if (!isSealing) slab?.release()
  }
}

function rulesOf({ options, accounts, excludes }: Walk, { readsAll }: Pick<ScanRules, 'readsAll'>): ScanRules {
  return {
    accounts,
    parentTime: options.parentTime,
    ignoreCtime: options.ignoreCtime ?? false,
    ignoreInode: options.ignoreInode ?? false,
    ctimeTells: options.ctimeTells ?? true,
    fileBytesMax: options.chunking === undefined ? chunkBytesMin : oneChunkBytes,
    wantsFingerprints: options.expect !== undefined,
    withAtime: options.withAtime === true,
    excludes,
    readsAll,
  }
}

function isStored({ context }: Walk, { knownData, knownTrees }: Findings): boolean {
  const { has } = context.sink
  return idsIn(knownData).every((id) => has(id, 'data')) && idsIn(knownTrees).every((id) => has(id, 'tree'))
}

function tell(walk: Walk, prefix: string, findings: Findings): void {
  const { options } = walk
  for (const { path: name, type, bytes, change, isRead, fingerprint } of doneEntries(findings)) {
    const path = `${prefix}${name}`
    walk.unseen.delete(path)
    if (fingerprint !== undefined) compareWithManifest(walk, path, fingerprint)
    if (isRead) options.chunking?.(path, bytes)
    if (type === 'file') {
      walk.files += 1
      walk.bytes += bytes
      options.onProgress?.({ files: walk.files, bytes: walk.bytes, path })
    }
    options.onEntry?.({ path, type, bytes, change })
  }
}

async function seal({ context }: Walk, findings: Findings, slab: Slab | undefined): Promise<void> {
  const { sink, lockSignal } = context
  lockSignal.throwIfAborted()
  const sealed = slab === undefined ? undefined : sink.putAll(slab.bytes, readBlobs(findings))
  const put = treesIn(findings.trees).map(({ id, plaintext }) => sink.put({ id, type: 'tree', plaintext }))
  // All of them: the memory is in use until then.
  for (const each of await Promise.allSettled([sealed, ...put])) if (each.status === 'rejected') throw each.reason
}

export interface FoldersToScan {
  /** Sorted by their bytes. */
  readonly names: readonly string[]
  /** Of the directory that they are in. */
  readonly prefix: string
  /** What these directories are in the parent. */
  readonly parents: ReadonlyMap<string, TreeNode>
}

export interface FoundFolders {
  /** Of the first names, at least one: how it stands in the tree, or what is left of it. */
  readonly folders: readonly (string | ScannedFolder)[]
  /** Trees of the parent that were read for them. */
  readonly trees: ReadonlyMap<string, Uint8Array>
  readonly sealed: Promise<void>
}

/**
 * Opens directories in another one, and looks into them where nobody has to be asked what is to be looked at. Those that
 * are left open are in `walk.open`.
 * @throws errors of the operating system about the first of them
 */
export async function scanFolders(
  walk: Walk,
  directory: FolderToLookInto,
  { names, prefix, parents }: FoldersToScan,
): Promise<FoundFolders> {
  const { context, options, excluder, signal } = walk
  const { windows } = context.content
  // What is left out below is told nobody, and would be missed by who compares.
  const isAsked = options.exclude !== undefined || (options.expect !== undefined && excluder !== undefined)
  const looks = !isAsked
  const subtrees = looks ? names.flatMap((name) => subtreeOf(parents.get(name)) ?? []) : []
  const trees = subtrees.length === 0 ? undefined : await parentFolders(context.vault, subtrees)
  // With a parent, perhaps nothing has to be read: it is looked at as far as that is so.
  const slab = !looks
    ? undefined
    : (windows.tryTake() ?? (trees === undefined ? await windows.take(signal) : undefined))
  const input = {
    folder: folderAt(directory),
    path: resolve(walk.below, prefix),
    names,
    window: slab?.bytes.subarray(0, filledMax) ?? noWindow,
    earlier: names.map((name) => encodedOrEmpty(parents.get(name))),
    trees,
    looks,
    openMax: Math.min(openPerTaskMax, Math.max(1, openMax - walk.open.size)),
  }
  const drop = ({ folders }: ScannedFolders) => {
    for (const folder of folders) if (typeof folder !== 'string') closeFolder(walk, folder)
  }
  const found = await taking<ScannedFolders>(walk, prefix, {
    slab,
    drop,
    async run(rules) {
      // No signal: what it has opened must be taken and closed.
      const answer = await context.vault.work.run('scanFolders', { ...input, rules }, { bytes: folderBytes })
      for (const folder of answer.folders) if (typeof folder !== 'string') hold(walk, folder)
      return answer
    },
  })
  const known = trees === undefined ? [] : treesIn(trees).map(({ id, plaintext }) => [id, plaintext] as const)
  return { ...found, trees: new Map(known) }
}

const encodedOrEmpty = (node: TreeNode | undefined) => (node === undefined ? '' : encodeNode(node))

const subtreeOf = (node: TreeNode | undefined): TreeId | undefined => (node?.type === 'dir' ? node.subtree : undefined)

/** What threads have left open, with what is open in it. */
function hold(walk: Walk, folder: ScannedFolder): void {
  walk.open.add(folder)
  for (const entry of folder.scanned.entries) {
    if (typeof entry !== 'string' && entry.opened !== undefined) hold(walk, entry.opened)
  }
}

export function closeFolder(walk: Walk, folder: ScannedFolder): void {
  if (walk.open.delete(folder)) closeSync(folder.fd)
  for (const entry of folder.scanned.entries) {
    if (typeof entry !== 'string' && entry.opened !== undefined) closeFolder(walk, entry.opened)
  }
}

/** Where a walk has ended before they were saved. */
export function closeFolders(walk: Walk): void {
  for (const folder of walk.open) closeFolder(walk, folder)
}

export interface FoundFolder {
  readonly folder: ScannedFolder
  readonly path: string
  /** Where the operating system finds it while what it is in is open. */
  readonly at: Buffer
  /** What it was in the parent, and trees of the parent that may be its own. */
  readonly parent: TreeNode | undefined
  readonly trees: FoundFolders['trees']
}

/** An open directory with its tree in the parent. */
export async function openedFolder(
  walk: Walk,
  { folder, path, at, parent, trees }: FoundFolder,
): Promise<OpenFolder & Pick<FolderToSave, 'parent'>> {
  const directory = heldBy(folder.fd, at)
  if (folder.lacksAttributes) {
    const { failure } = readAttributes(directoryItself(directory.child))
    if (failure !== undefined) walk.errors.push({ path, failure })
  }
  const subtree = subtreeOf(parent)
  const tree =
    subtree === undefined ? undefined : (trees.get(subtree) ?? (await parentFolder(walk.context.vault, subtree)))
  return { directory, names: folder.names, first: folder.scanned, parent: tree }
}
