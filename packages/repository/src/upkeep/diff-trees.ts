/** Owns what differs between two snapshots: entries, and the blobs behind them. As restic's `diff` counts it. */
import type { TreeId } from '@stillpoint/core/kernel'
import type { BlobType } from '../format/ids.ts'
import { bytesFromName } from '../format/node-name.ts'
import { blobPlainBytes } from '../format/pack.ts'
import type { TreeNode } from '../format/tree.ts'
import { readTree } from '../load/blob-reader.ts'
import type { Vault } from '../vault.ts'
import { type BlobSet, createBlobSet } from './blob-set.ts'
import { createTreeGuard, type TreeGuard, tooDeep, treeDepthMax } from './bounded-tree.ts'
import { walkNodes } from './walk-nodes.ts'

export interface TreeChange {
  /** Directories end with "/". */
  readonly path: string
  /** `+` added, `-` removed, `M` content, `T` type, `U` metadata; several letters may come together. */
  readonly modifier: string
}

export interface DiffAmount {
  files: number
  dirs: number
  others: number
  dataBlobs: number
  treeBlobs: number
  /** Of the blobs' plaintexts. */
  bytes: number
}

export interface DiffStats {
  readonly changedFiles: number
  /** Directories that both have, with something else in them. */
  readonly changedDirs: number
  readonly added: Readonly<DiffAmount>
  readonly removed: Readonly<DiffAmount>
}

export interface DiffOptions {
  readonly from: TreeId
  readonly to: TreeId
  /** Also tell entries of which only metadata differs. */
  readonly metadata?: boolean
  readonly signal?: AbortSignal
  readonly onChange: (change: TreeChange) => void
}

interface Diff {
  readonly vault: Vault
  readonly options: DiffOptions
  readonly before: BlobSet
  readonly after: BlobSet
  readonly common: BlobSet
  readonly added: DiffAmount
  readonly removed: DiffAmount
  readonly guard: TreeGuard
  changedFiles: number
  changedDirs: number
}

const nothing = (): DiffAmount => ({ files: 0, dirs: 0, others: 0, dataBlobs: 0, treeBlobs: 0, bytes: 0 })

export async function diffTrees(vault: Vault, options: DiffOptions): Promise<DiffStats> {
  const diff: Diff = {
    vault,
    options,
    before: createBlobSet(),
    after: createBlobSet(),
    common: createBlobSet(),
    added: nothing(),
    removed: nothing(),
    guard: createTreeGuard(vault, [options.from, options.to], () => options.signal?.throwIfAborted()),
    changedFiles: 0,
    changedDirs: 0,
  }
  diff.before.add(options.from, 'tree')
  diff.after.add(options.to, 'tree')
  await compare(diff, { from: options.from, to: options.to, path: '/', depth: 0 })
  countBlobs(diff, { these: diff.before, others: diff.after, amount: diff.removed })
  countBlobs(diff, { these: diff.after, others: diff.before, amount: diff.added })
  return { changedFiles: diff.changedFiles, changedDirs: diff.changedDirs, added: diff.added, removed: diff.removed }
}

interface Pair {
  readonly from: TreeId
  readonly to: TreeId
  readonly path: string
  readonly depth: number
}

async function compare(diff: Diff, { from, to, path, depth }: Pair): Promise<void> {
  diff.options.signal?.throwIfAborted()
  if (depth > treeDepthMax) throw tooDeep(to)
  await diff.guard.enter(from)
  await diff.guard.enter(to)
  const before = new Map((await readTree(diff.vault, from)).map((node) => [node.name, node]))
  const after = new Map((await readTree(diff.vault, to)).map((node) => [node.name, node]))
  const names = [...new Set([...before.keys(), ...after.keys()])]
    .map((name) => ({ name, bytes: bytesFromName(name) }))
    .sort((left, right) => left.bytes.compare(right.bytes))
  for (const { name } of names) {
    const [old, now] = [before.get(name), after.get(name)]
    if (old !== undefined) addBlobs(diff.before, old)
    if (now !== undefined) addBlobs(diff.after, now)
    const at = `${path}${name}`
    if (old !== undefined && now !== undefined) await compareNodes(diff, { old, now, at, depth })
    else if (old !== undefined) await oneSided(diff, { node: old, at, modifier: '-' })
    else if (now !== undefined) await oneSided(diff, { node: now, at, modifier: '+' })
  }
}

interface NodePair {
  readonly old: TreeNode
  readonly now: TreeNode
  readonly at: string
  /** Of the directory that they are in. */
  readonly depth: number
}

async function compareNodes(diff: Diff, { old, now, at, depth }: NodePair): Promise<void> {
  const path = now.type === 'dir' ? `${at}/` : at
  let modifier = old.type === now.type ? '' : 'T'
  if (old.type === 'file' && now.type === 'file' && old.content.join() !== now.content.join()) {
    modifier += 'M'
    diff.changedFiles += 1
  } else if (diff.options.metadata === true && metadataText(old) !== metadataText(now)) modifier += 'U'
  if (modifier !== '') diff.options.onChange({ path, modifier })
  if (old.type !== 'dir' || now.type !== 'dir') return
  if (old.subtree !== now.subtree) {
    diff.changedDirs += 1
    return compare(diff, { from: old.subtree, to: now.subtree, path, depth: depth + 1 })
  }
  await collect(diff, old.subtree)
}

function metadataText(node: TreeNode): string {
  const plain = node.type === 'dir' ? { ...node, subtree: '' } : node
  return JSON.stringify(plain, (_, value) => (typeof value === 'bigint' ? `${value}` : value))
}

interface OneSided {
  readonly node: TreeNode
  readonly at: string
  readonly modifier: '+' | '-'
}

async function oneSided(diff: Diff, { node, at, modifier }: OneSided): Promise<void> {
  const [amount, blobs] = modifier === '+' ? [diff.added, diff.after] : [diff.removed, diff.before]
  const tell = (entry: TreeNode, path: string) => {
    diff.options.onChange({ path: entry.type === 'dir' ? `${path}/` : path, modifier })
    if (entry.type === 'file') amount.files += 1
    else if (entry.type === 'dir') amount.dirs += 1
    else amount.others += 1
  }
  tell(node, at)
  if (node.type !== 'dir') return
  for await (const { node: below, path } of walkNodes(diff.vault, node.subtree)) {
    diff.options.signal?.throwIfAborted()
    tell(below, `${at}${path}`)
    addBlobs(blobs, below)
  }
}

/** All blobs below a tree that both have. */
async function collect(diff: Diff, root: TreeId): Promise<void> {
  if (!diff.common.add(root, 'tree')) return
  const open: TreeId[] = [root]
  for (let tree = open.pop(); tree !== undefined; tree = open.pop()) {
    diff.options.signal?.throwIfAborted()
    for (const node of await readTree(diff.vault, tree)) {
      if (node.type === 'file') addBlobs(diff.common, node)
      if (node.type === 'dir' && diff.common.add(node.subtree, 'tree')) open.push(node.subtree)
    }
  }
}

function addBlobs(blobs: BlobSet, node: TreeNode): void {
  if (node.type === 'file') for (const id of node.content) blobs.add(id, 'data')
  if (node.type === 'dir') blobs.add(node.subtree, 'tree')
}

interface Counted {
  readonly these: BlobSet
  readonly others: BlobSet
  readonly amount: DiffAmount
}

function countBlobs(diff: Diff, { these, others, amount }: Counted): void {
  these.each((id: string, type: BlobType) => {
    if (others.has(id, type) || diff.common.has(id, type)) return
    if (type === 'data') amount.dataBlobs += 1
    else amount.treeBlobs += 1
    const [place] = diff.vault.index.blobs.places(id, type)
    if (place !== undefined) amount.bytes += blobPlainBytes(place)
  })
}
