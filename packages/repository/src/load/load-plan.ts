/**
 * Owns the plan of a restore: which directories, files and other entries of a tree are to be in the target, and which
 * blobs they need. Made section by section, so that memory is bounded whatever the tree; nothing of the target is looked
 * at here.
 *
 * Invariant: no section is given out before every name in the whole tree was found safe. What a tree contains was decided
 * by whoever had the keys once, and is not trusted.
 */
import { assert, Failure, isFailure, type TreeId } from '@stillpoint/core/kernel'
import type { AccountNumbers } from '../account-names.ts'
import { sha256 } from '../format/ids.ts'
import type { DirNode, ExtendedAttribute, FileNode, TreeNode } from '../format/tree.ts'
import { createTreeGuard, type TreeGuard } from '../upkeep/bounded-tree.ts'
import { damageHint, type Vault } from '../vault.ts'
import { readTree } from './blob-reader.ts'
import { ownedByName } from './owned-by-name.ts'
import { createPlannedFiles, type PlannedFiles } from './planned-files.ts'
import { depthMax, requireSafeNames, surveyTree, type TreeSurvey, unsafe } from './tree-survey.ts'
import { createWantedBlobs, type WantedBlobs } from './wanted-blobs.ts'

export type OtherNode = Exclude<TreeNode, FileNode | DirNode>

/** A directory of the target. Number 0 is the target itself. */
export interface PlannedDirectory {
  readonly parent: number
  readonly name: string
  readonly tree: TreeId
  /** Undefined for the target itself, whose metadata is not in its tree. */
  readonly node: DirNode | undefined
  /** How it was made or found; undefined where it was not. */
  made: MadeDirectory | undefined
  /** Its metadata is set; kept for names that other files will be linked to. */
  isFinished: boolean
}

export interface MadeDirectory {
  readonly inode: bigint
  readonly device: bigint
  /** Nothing was in it that this restore has not made. */
  readonly isFresh: boolean
  /** Made by this restore, and a file that is made in it has the mode and the owner that this program asks for. */
  readonly isPlain: boolean
  /** Nobody else can write to it until it is finished. */
  readonly isAlone: boolean
  /** It has a default ACL, which every entry that is made in it gets. */
  readonly givesAcl: boolean
  /** Of one that was there. */
  readonly mtimeBefore: bigint | undefined
}

export interface Section {
  /** Directories that are new in it, each after the one that it is in. */
  readonly directories: number[]
  /** Those of which nothing is to come in later sections, each before the one that it is in. */
  readonly completed: readonly number[]
  readonly files: PlannedFiles
  readonly blobs: WantedBlobs
  readonly others: { readonly directory: number; readonly node: OtherNode }[]
  readonly attributes: Map<number, readonly ExtendedAttribute[]>
  /** Files that other names will be linked to, with the key that these know. */
  readonly linkTargets: Map<number, string>
  readonly links: { readonly file: number; readonly key: string }[]
  /** Of the content of its files. */
  readonly bytes: number
  /** Of the whole restore; where there are several sections, of the whole tree. */
  readonly total: TreeSurvey
}

export interface PlanOptions {
  readonly abort: () => void
  readonly signal: AbortSignal | undefined
  readonly select: ((path: string, node: TreeNode) => boolean) | undefined
  /** Takes what cannot be restored, and throws it where the first problem ends all. */
  readonly problem: (path: string, failure: Failure) => void
  readonly passOverDamage: boolean
  /** Owners of what is planned are those of these names, where there are such; undefined: owners are as in the tree. */
  readonly accounts: AccountNumbers | undefined
  /** By number. Takes the new ones; those that are completed may be removed. */
  readonly directories: PlannedDirectories
  /** For tests. */
  readonly sectionFilesMax?: number
}

const sectionFilesDefault = 1 << 18
const sectionReferencesMax = 1 << 21
const treesAhead = 8

interface WaitingTree {
  readonly directory: number
  readonly depth: number
  nodes: Promise<readonly TreeNode[]> | undefined
}

export type PlannedDirectories = Map<number, PlannedDirectory>

export const rootDirectory = 0

/** Below the target, with "/" at its end; empty for the target itself. */
export function pathOfDirectory(directories: PlannedDirectories, directory: number): string {
  let path = ''
  for (let at = directories.get(directory); at?.node !== undefined; at = directories.get(at.parent)) {
    path = `${at.name}/${path}`
  }
  return path
}

interface Planning {
  readonly vault: Vault
  readonly options: PlanOptions
  /** Content of the first of several names, by device and inode. */
  readonly firstNames: Map<string, string>
  readonly guard: TreeGuard
  directoryCount: number
  isRefreshed: boolean
}

/** @throws Failure `tree_unsafe`, `object_missing`, `object_damaged` */
export async function* planSections(vault: Vault, tree: TreeId, options: PlanOptions): AsyncGenerator<Section> {
  const { directories } = options
  const guard = createTreeGuard(vault, [tree], options.abort)
  const planning: Planning = { vault, options, firstNames: new Map(), guard, directoryCount: 1, isRefreshed: false }
  directories.set(rootDirectory, {
    parent: rootDirectory,
    name: '',
    tree,
    node: undefined,
    made: undefined,
    isFinished: false,
  })
  const stack: WaitingTree[] = [{ directory: rootDirectory, depth: 0, nodes: undefined }]
  let section = newSection()
  let total: TreeSurvey | undefined
  for (;;) {
    options.abort()
    readAhead(vault, directories, stack)
    const next = stack.pop()
    if (next === undefined) break
    const below = await addTree(planning, section, next)
    for (const directory of below.reverse()) stack.push({ directory, depth: next.depth + 1, nodes: undefined })
    if (!isFull(section, options) || stack.length === 0) continue
    total ??= await surveyTree(vault, tree, options)
    yield { ...section, total, completed: completedOf(directories, stack) }
    section = newSection()
  }
  yield {
    ...section,
    total: total ?? { files: section.files.size, bytes: section.bytes, entries: entriesOf(section) },
    completed: completedOf(directories, []),
  }
}

function entriesOf({ files, directories, others }: OpenSection): number {
  return files.size + directories.length + others.length
}

function isFull(section: OpenSection, { sectionFilesMax = sectionFilesDefault }: PlanOptions): boolean {
  const entries = Math.max(section.files.size, section.directories.length, section.others.length)
  return entries >= sectionFilesMax || section.references >= sectionReferencesMax
}

/** Directories that are neither waiting nor contain one that is. */
function completedOf(directories: PlannedDirectories, stack: readonly WaitingTree[]): readonly number[] {
  const open = new Set<number>()
  for (const { directory } of stack) {
    for (let at = directory; !open.has(at); at = directories.get(at)?.parent ?? rootDirectory) open.add(at)
  }
  return [...directories.keys()].filter((directory) => !open.has(directory)).sort((left, right) => right - left)
}

interface OpenSection extends Omit<Section, 'total' | 'completed' | 'bytes'> {
  bytes: number
  references: number
}

function newSection(): OpenSection {
  return {
    directories: [],
    files: createPlannedFiles(),
    blobs: createWantedBlobs(),
    others: [],
    attributes: new Map(),
    linkTargets: new Map(),
    links: [],
    bytes: 0,
    references: 0,
  }
}

/** Trees that come next are read while this one is worked on. */
function readAhead(vault: Vault, directories: PlannedDirectories, stack: readonly WaitingTree[]): void {
  for (const waiting of stack.slice(-treesAhead)) {
    const tree = directories.get(waiting.directory)?.tree
    if (waiting.nodes !== undefined || tree === undefined) continue
    waiting.nodes = readTree(vault, tree)
    waiting.nodes.catch(() => undefined) // reported when its turn comes
  }
}

/** Returns the directories below, in order. */
async function addTree(planning: Planning, section: OpenSection, waiting: WaitingTree): Promise<number[]> {
  const { directories, select, accounts } = planning.options
  const tree = directories.get(waiting.directory)?.tree
  assert(tree !== undefined, 'what waits is planned')
  await planning.guard.enter(tree)
  if (waiting.depth > depthMax) throw unsafe(tree, `directories nested deeper than ${depthMax}`)
  const prefix = pathOfDirectory(directories, waiting.directory)
  const nodes = await nodesOf(planning, waiting, { tree, path: prefix })
  requireSafeNames(tree, nodes)
  const below: number[] = []
  for (const saved of nodes) {
    if (select !== undefined && !select(`${prefix}${saved.name}`, saved)) continue
    const node = accounts === undefined ? saved : ownedByName(saved, accounts)
    if (node.type === 'file') await addFile(planning, section, { node, directory: waiting.directory })
    else if (node.type === 'dir') {
      const { name, subtree } = node
      const number = planning.directoryCount
      planning.directoryCount += 1
      directories.set(number, {
        parent: waiting.directory,
        name,
        tree: subtree,
        node,
        made: undefined,
        isFinished: false,
      })
      section.directories.push(number)
      below.push(number)
    } else section.others.push({ directory: waiting.directory, node })
  }
  return below
}

async function nodesOf(
  { vault, options }: Planning,
  waiting: WaitingTree,
  { tree, path }: { readonly tree: TreeId; readonly path: string },
): Promise<readonly TreeNode[]> {
  try {
    return await (waiting.nodes ?? readTree(vault, tree))
  } catch (error) {
    const isDamage = isFailure(error, 'object_damaged') || isFailure(error, 'object_missing')
    if (!isDamage || path === '') throw error
    options.problem(path.slice(0, -1), error)
    return []
  }
}

async function addFile(
  planning: Planning,
  section: OpenSection,
  { node, directory }: { readonly node: FileNode; readonly directory: number },
): Promise<void> {
  const { files } = section
  const file = files.add(node, directory)
  section.bytes += node.bytes
  if (node.extendedAttributes.length > 0) section.attributes.set(file, node.extendedAttributes)
  if (node.links > 1n && node.inode !== 0n) {
    const key = `${node.deviceId}:${node.inode}`
    // The content is compared: a tree may claim that different files are one.
    const content = sha256(Buffer.from(node.content.join()))
    const first = planning.firstNames.get(key)
    if (first === undefined) {
      planning.firstNames.set(key, content)
      section.linkTargets.set(file, key)
    } else if (first === content) section.links.push({ file, key })
  }
  const failure = await addContent(planning, section, node)
  if (failure === undefined) files.setState(file, 'planned')
  else planning.options.problem(`${pathOfDirectory(planning.options.directories, directory)}${node.name}`, failure)
}

/** What is wrong with the content, as far as the index can tell. */
async function addContent(planning: Planning, section: OpenSection, node: FileNode): Promise<Failure | undefined> {
  const { index } = planning.vault
  const numbers: number[] = []
  let bytes = 0
  for (const id of node.content) {
    let blob = section.blobs.add(id, index.blobs)
    if (blob === undefined && !planning.isRefreshed) {
      // It may have been saved since the index was read.
      planning.isRefreshed = true
      await index.refresh()
      blob = section.blobs.add(id, index.blobs)
    }
    if (blob === undefined) {
      const message = `data blob ${id} is in no index of the repository`
      return new Failure({ code: 'object_missing', message, hint: damageHint })
    }
    numbers.push(blob)
    bytes += section.blobs.plainBytes(blob)
  }
  section.references += numbers.length
  section.files.appendContent(numbers)
  if (bytes === node.bytes) return undefined
  const message = `${JSON.stringify(node.name)} should have ${node.bytes} bytes, but its content has ${bytes}`
  return new Failure({ code: 'object_damaged', message })
}
