/**
 * Owns the task that opens directories, lists them and looks at what is in them, and goes down as far as its bounds allow:
 * a tree of many small directories is mostly this, a promise of a system call costs more than ten such calls, and a
 * message to another thread as much as a small directory.
 *
 * A directory of which nothing is left to do is closed again, and its tree is among the findings. Others stay open.
 *
 * Invariant: what is open when this has returned is in the result, and nothing is when it has thrown.
 */
import { closeSync, fstatSync } from 'node:fs'
import { join } from 'node:path'
import { type HeldDirectory, holdEntry } from '../anchored-directory.ts'
import { errnoOf } from '../blob/storage-failure.ts'
import { attributesOfOpen, directoryItself } from '../extended-attributes.ts'
import { bytesFromName } from '../format/node-name.ts'
import { decodeNodeText, encodeNode, type NodeMetadata, type TreeNode } from '../format/tree.ts'
import { excluderOf } from '../selection/excluder.ts'
import { changeOf } from './entry-change.ts'
import { folderFingerprint, metadataOf } from './file-status.ts'
import { type Findings, makeFindings } from './findings.ts'
import { createParentTree, type ParentTree } from './parent-tree.ts'
import {
  type BoundedScan,
  type FolderName,
  type LeftEntry,
  lookAtNames,
  type ScanInput,
  type ScannedNames,
} from './scan-names.ts'
import { type EncodedTree, type TreeBundle, treesIn } from './tree-bundle.ts'

export interface ScanFoldersInput extends ScanInput {
  /** Directories in the one of `path`, sorted by their bytes. */
  readonly names: readonly string[]
  /** What they are in the parent, as it stands there; empty: nothing. */
  readonly earlier: readonly string[]
  /** Trees of the parent, of these directories and some of those below them. */
  readonly trees: TreeBundle | undefined
  /** Whether what is in them is to be looked at, or only listed. */
  readonly looks: boolean
  /** Directories that are open at a time, which is also how deep it goes. */
  readonly openMax: number
}

export interface ScannedFolder {
  /** Who gets it closes it. */
  readonly fd: number
  readonly metadata: NodeMetadata
  /** Its extended attributes could not all be read. */
  readonly lacksAttributes: boolean
  /** Sorted by their bytes. */
  readonly names: readonly string[]
  readonly scanned: ScannedNames
}

export interface ScannedFolders {
  /** Of the first names, at least one: how it stands in the tree, or what is left of it. */
  readonly folders: readonly (string | ScannedFolder)[]
  readonly findings: Findings
}

/** Entries of one task: about 100 ms where all are read. */
const namesMax = 1000

interface FoldersScan extends BoundedScan {
  readonly looks: boolean
  /** Of the directory that they are in. */
  readonly path: string
  readonly openMax: number
  readonly trees: ReadonlyMap<string, EncodedTree>
  /** The descriptors. */
  readonly open: number[]
}

/** @throws errors of the operating system about the first one; ENOTDIR or ELOOP where it is no directory */
export function scanFolders(input: ScanFoldersInput): ScannedFolders {
  const { folder: parent, names, earlier, trees: bundle, ...given } = input
  const findings = makeFindings()
  const trees = new Map(bundle === undefined ? [] : treesIn(bundle).map((tree) => [tree.id, tree] as const))
  const scan: FoldersScan = { ...given, findings, trees, filled: 0, namesLeft: namesMax, open: [] }
  const folders: (string | ScannedFolder)[] = []
  try {
    for (const [number, name] of names.entries()) {
      if (folders.length > 0 && !mayGoOn(scan)) break
      const json = earlier[number] ?? ''
      const folder = { name, path: name, at: { folder: parent, name: bytesFromName(name) } }
      folders.push(scanFolder(scan, folder, earlierFolder(scan, json === '' ? undefined : decodeNodeText(json))))
    }
  } catch (error) {
    // What is wrong with another one than the first is told when it is the first.
    if (folders.length === 0 || errnoOf(error) === undefined) {
      closeFrom(scan, 0)
      throw error
    }
  }
  return { folders, findings: findings.finish() }
}

const mayGoOn = ({ namesLeft, open, openMax }: FoldersScan) => namesLeft > 0 && open.length < openMax

/** Those that were opened later than the first so many. */
function closeFrom({ open }: FoldersScan, count: number): void {
  for (const fd of open.splice(count)) closeSync(fd)
}

/** How it stands in the tree, closed, or what is left of it, open. */
function scanFolder(scan: FoldersScan, folder: FolderName, earlier: EarlierFolder): string | ScannedFolder {
  const directory = holdEntry(folder.at)
  const count = scan.open.push(directory.fd) - 1
  let found: string | ScannedFolder
  try {
    found = scanOpened(scan, folder, { directory, earlier })
  } catch (error) {
    closeFrom(scan, count)
    throw error
  }
  // Nothing in it is open then.
  if (typeof found === 'string') closeFrom(scan, count)
  return found
}

/** What a directory was in the parent. */
interface EarlierFolder {
  readonly node: TreeNode | undefined
  /** Where it was read in advance, and is not damaged or gone. */
  readonly tree: EncodedTree | undefined
}

function earlierFolder(scan: FoldersScan, node: TreeNode | undefined): EarlierFolder {
  return { node, tree: node?.type === 'dir' ? scan.trees.get(node.subtree) : undefined }
}

interface OpenedFolder {
  readonly directory: HeldDirectory
  readonly earlier: EarlierFolder
}

function scanOpened(scan: FoldersScan, { name, path }: FolderName, { directory, earlier }: OpenedFolder) {
  const { metadata, lacksAttributes } = metadataFor(scan, name, directory)
  const inside = join(scan.path, path)
  const names = namesIn(scan, directory, inside)
  const scanned = scan.looks
    ? lookInto(scan, { directory, names, path, inside, parent: earlier.tree })
    : { entries: [], parentAt: 0 }
  const { entries } = scanned
  const isWhole = scan.looks && !lacksAttributes && entries.length === names.length && entries.every(isDone)
  if (!isWhole) return { fd: directory.fd, metadata, lacksAttributes, names, scanned }
  const node: TreeNode = {
    ...metadata,
    type: 'dir',
    subtree: scan.findings.tree(entries.filter(isEncoded), earlier.tree),
  }
  const fingerprint = scan.rules.wantsFingerprints ? folderFingerprint : undefined
  scan.findings.done({ path, type: 'dir', bytes: 0, change: changeOf(node, earlier.node), isRead: false, fingerprint })
  return encodeNode(node)
}

const isEncoded = (entry: string | LeftEntry) => typeof entry === 'string'
const isDone = (entry: string | LeftEntry) => isEncoded(entry) || entry.kind === 'out'

/** Without those that are left out by name. */
function namesIn({ rules }: FoldersScan, directory: HeldDirectory, path: string): readonly string[] {
  const names = directory.names()
  if (rules.excludes === undefined) return names
  const { isOutByName } = excluderOf(rules.excludes)
  return names.filter((name) => !isOutByName(join(path, name)))
}

function metadataFor({ rules }: FoldersScan, name: string, { fd, child }: HeldDirectory) {
  const status = fstatSync(fd, { bigint: true })
  const { attributes, failure } = attributesOfOpen(fd, () => directoryItself(child))
  const metadata = { ...metadataOf(name, status, rules), extendedAttributes: attributes }
  return { metadata, lacksAttributes: failure !== undefined }
}

interface FolderToScan {
  readonly directory: HeldDirectory
  readonly names: readonly string[]
  /** In findings. */
  readonly path: string
  /** Absolute. */
  readonly inside: string
  readonly parent: EncodedTree | undefined
}

function lookInto(scan: FoldersScan, { directory, names, path, inside, parent }: FolderToScan): ScannedNames {
  const parents = parent === undefined ? undefined : createParentTree(parent.plaintext, 0)
  const folder = { fd: directory.fd, at: directory.child('') }
  const place = { names, folder, path: inside, prefix: `${path}/`, parents }
  return lookAtNames(scan, place, (folder) => {
    return mayGoOn(scan) ? subfolder(scan, folder, parents) : { kind: 'folder' }
  })
}

function subfolder(scan: FoldersScan, folder: FolderName, parents: ParentTree | undefined): string | LeftEntry {
  const earlier = earlierFolder(scan, parents?.lookUp(folder.name))
  // Its tree in the parent is read when it is its turn.
  if (earlier.node?.type === 'dir' && earlier.tree === undefined) return { kind: 'folder' }
  try {
    const found = scanFolder(scan, folder, earlier)
    return typeof found === 'string' ? found : { kind: 'folder', opened: found }
  } catch (error) {
    // What is wrong with it is told where the caller opens it.
    if (errnoOf(error) === undefined) throw error
    return { kind: 'folder' }
  }
}
