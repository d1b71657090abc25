/**
 * What differs between two snapshots: participants, and the entries in them.
 *
 * Owns: the walk of two trees at once; equal subtrees have equal ids and are not read.
 */
import { type Repository, type Snapshot, type TreeId, type TreeNode, unsafeName } from '@stillpoint/repository'
import { entriesAt, participantsDir } from '../agent/snapshot-layout.ts'
import type { DiffResult, OperationContext } from './operations.ts'
import { readDocumentOf } from './snapshot-reader.ts'

type ParticipantDiff = DiffResult['participants'][number]
type EntryDiff = ParticipantDiff['entries'][number]

export async function diffSnapshots(
  repository: Repository,
  { from, to }: { readonly from: Snapshot; readonly to: Snapshot },
  context: OperationContext,
): Promise<DiffResult> {
  const [before, after] = [await sideOf(repository, from), await sideOf(repository, to)]
  const names = new Set([...before.trees.keys(), ...after.trees.keys()])
  const participants: ParticipantDiff[] = []
  for (const name of [...names].toSorted()) {
    context.signal.throwIfAborted()
    const [old, now] = [before.trees.get(name), after.trees.get(name)]
    const entries: EntryDiff[] = []
    if (old !== now) await diffTrees(repository, { old, now, prefix: '', entries, signal: context.signal })
    participants.push({
      name,
      change: changeOf(old, now),
      bytesBefore: before.bytes.get(name) ?? 0,
      bytesAfter: after.bytes.get(name) ?? 0,
      entries: entries.toSorted((a, b) => (a.path < b.path ? -1 : 1)),
    })
  }
  return { from: from.id, to: to.id, participants }
}

interface Side {
  readonly trees: ReadonlyMap<string, TreeId>
  readonly bytes: ReadonlyMap<string, number>
}

async function sideOf(repository: Repository, snapshot: Snapshot): Promise<Side> {
  const trees = new Map<string, TreeId>()
  for (const node of await entriesAt(repository, snapshot.tree, participantsDir)) {
    if (node.type === 'dir') trees.set(node.name, node.subtree)
  }
  const { participants } = await readDocumentOf(repository, snapshot)
  return { trees, bytes: new Map(participants.map(({ name, bytes }) => [name, bytes])) }
}

function changeOf(old: TreeId | undefined, now: TreeId | undefined): ParticipantDiff['change'] {
  if (old === undefined) return 'added'
  if (now === undefined) return 'removed'
  return old === now ? 'same' : 'changed'
}

interface TreePair {
  readonly old: TreeId | undefined
  readonly now: TreeId | undefined
  readonly prefix: string
  readonly entries: EntryDiff[]
  readonly signal: AbortSignal
}

async function diffTrees(repository: Repository, pair: TreePair): Promise<void> {
  const open: Omit<TreePair, 'entries' | 'signal'>[] = [pair]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    pair.signal.throwIfAborted()
    const [before, after] = [await nodesOf(repository, next.old), await nodesOf(repository, next.now)]
    for (const name of new Set([...before.keys(), ...after.keys()])) {
      const [old, now] = [before.get(name), after.get(name)]
      const path = `${next.prefix}${name}`
      const [oldTree, nowTree] = [subtreeOf(old), subtreeOf(now)]
      const entry = entryDiff(path, old, now)
      if (entry !== undefined) pair.entries.push(entry)
      if (oldTree !== nowTree) open.push({ old: oldTree, now: nowTree, prefix: `${path}/` })
    }
  }
}

async function nodesOf(repository: Repository, tree: TreeId | undefined): Promise<ReadonlyMap<string, TreeNode>> {
  if (tree === undefined) return new Map()
  const nodes = await repository.readTree(tree)
  return new Map(nodes.filter(({ name }) => unsafeName(name) === undefined).map((node) => [node.name, node]))
}

function subtreeOf(node: TreeNode | undefined): TreeId | undefined {
  return node?.type === 'dir' ? node.subtree : undefined
}

/** Content, kind and permissions count; times alone do not. A directory that stays one is told by its entries. */
function entryDiff(path: string, old: TreeNode | undefined, now: TreeNode | undefined): EntryDiff | undefined {
  const base = { path, bytesBefore: bytesOf(old), bytesAfter: bytesOf(now) }
  if (old === undefined) return { ...base, change: 'added' }
  if (now === undefined) return { ...base, change: 'removed' }
  return contentOf(old) === contentOf(now) ? undefined : { ...base, change: 'changed' }
}

function bytesOf(node: TreeNode | undefined): number {
  return node?.type === 'file' ? node.bytes : 0
}

function contentOf(node: TreeNode): string {
  const mode = node.permissions.toString(8)
  switch (node.type) {
    case 'file':
      return `file ${mode} ${node.content.join(' ')}`
    case 'symlink':
      return `symlink ${node.target}`
    case 'dev':
    case 'chardev':
      return `${node.type} ${mode} ${node.device}`
    default:
      return `${node.type} ${mode}`
  }
}
