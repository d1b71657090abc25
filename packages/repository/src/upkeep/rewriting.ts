/**
 * Owns writing snapshots anew without some of their paths, for what should never have been saved, or with only some of
 * them, or with another host or time, or with a summary. As restic's `rewrite`. Data that was left out stays until a prune,
 * and as long as any snapshot refers to it. What the new trees hold is counted while they are read, and written into the
 * summary.
 *
 * Invariant: the new snapshot and all that it needs are durable before the old one is removed.
 */
import { Failure, type TreeId } from '@stillpoint/core/kernel'
import { type SnapshotId, sha256, treeId } from '../format/ids.ts'
import type { Timestamp } from '../format/timestamp.ts'
import type { TreeNode } from '../format/tree.ts'
import { readTree } from '../load/blob-reader.ts'
import type { Snapshot } from '../load/snapshots.ts'
import { anyMatches, mayTellApartBelow, type PathPattern } from '../selection/path-pattern.ts'
import type { Vault } from '../vault.ts'
import { changedTree } from './changed-tree.ts'
import { deleteIfThere } from './index-files.ts'
import { createRepacker, type Repacker } from './repacker.ts'
import { rewriteSnapshot, type TreeTotals } from './rewrite-snapshot.ts'

export const rewrittenTag = 'rewrite'
const depthMax = 2048

export interface RewriteOptions {
  readonly snapshots: readonly Snapshot[]
  /** By path in the snapshot. Directories for which it returns true are left out with all that is in them. Default: none. */
  readonly exclude?: (path: string) => boolean
  /**
   * Left is only what one of these is for, by path in the snapshot, and the directories that lead there. A snapshot that
   * has nothing of the kind stays as it is. Not together with `exclude`. Default: none, and all is left.
   */
  readonly include?: readonly PathPattern[]
  /** What the new ones say of where and when they were taken. Default: what the old ones say. */
  readonly hostname?: string
  readonly time?: Timestamp
  /**
   * Also of those in which nothing else changes the summary says how many files and bytes they hold. Default: false;
   * restic does so, without being asked, where `exclude` or `include` is given.
   */
  readonly withSummary?: boolean
  /** Removes the old snapshots; else the new ones get the tag `rewrite`. */
  readonly forget?: boolean
  readonly dryRun?: boolean
  readonly signal?: AbortSignal
}

export interface RewrittenSnapshot {
  readonly id: SnapshotId
  /** Something is left out, or it had another host, time or size. Else there is no new one. */
  readonly isChanged: boolean
  /** False where nothing of it is what `include` is for. Then it is not changed in any other way either. */
  readonly isAnyIncluded: boolean
  /** Undefined where nothing has changed, and in a dry run. */
  readonly newId: SnapshotId | undefined
  /** Paths that are not in the new one; of a directory only its own. */
  readonly excluded: readonly string[]
  /**
   * What is left, which is in the new one's summary. Undefined where no trees were read, since only host or time change,
   * and where nothing is included.
   */
  readonly totals: TreeTotals | undefined
}

/** What is left of a tree. */
interface Choice {
  /** Of a directory: whether it may be, or something in it. What is in another one is not looked at. */
  mayStay(path: string, type: TreeNode['type']): boolean
  /** Whether a directory is left in which nothing is. */
  staysEmpty(path: string): boolean
}

interface Rewrite {
  readonly vault: Vault
  readonly choice: Choice
  readonly dryRun: boolean
  readonly abort: () => void
  readonly repacker: Repacker
  readonly stored: Set<TreeId>
}

/** What a snapshot becomes. */
interface Found {
  readonly snapshot: Snapshot
  readonly tree: TreeId
  readonly isAnyIncluded: boolean
  readonly excluded: readonly string[]
  readonly totals: TreeTotals | undefined
}

/** @throws Failure `object_damaged`, `object_missing`, `tree_unsafe` (too deep), `options_invalid` (include and exclude) */
export async function rewriteSnapshots(
  vault: Vault,
  lockSignal: AbortSignal,
  options: RewriteOptions,
): Promise<readonly RewrittenSnapshot[]> {
  const abort = () => {
    options.signal?.throwIfAborted()
    lockSignal.throwIfAborted()
  }
  const { snapshots, hostname, time, forget = false, dryRun = false, withSummary = false } = options
  const choice = choiceOf(options)
  const found: readonly Found[] =
    choice === undefined
      ? snapshots.map((snapshot) => ({ ...unread(snapshot), isAnyIncluded: true }))
      : await rewriteTrees(vault, snapshots, { choice, dryRun, abort })
  const rewritten: RewrittenSnapshot[] = []
  for (const { snapshot, tree, isAnyIncluded, excluded, totals } of found) {
    abort()
    const { id } = snapshot
    const isChanged =
      isAnyIncluded &&
      (tree !== snapshot.tree ||
        (hostname !== undefined && hostname !== snapshot.hostname) ||
        (time !== undefined && time !== snapshot.time) ||
        (withSummary && !saysTotals(snapshot, totals)))
    let newId: SnapshotId | undefined
    if (isChanged && !dryRun) {
      const tags = forget ? snapshot.tags : [...new Set([...snapshot.tags, rewrittenTag])]
      const origin = { ...(hostname === undefined ? {} : { hostname }), ...(time === undefined ? {} : { time }) }
      const content = { tree, ...(totals === undefined ? {} : { totals }) }
      newId = await rewriteSnapshot(vault, id, { ...content, tags, ...origin, original: 'this' })
      if (forget) await deleteIfThere(vault, 'snapshot', id)
    }
    rewritten.push({ id, isChanged, isAnyIncluded, newId, excluded, totals })
  }
  return rewritten
}

/** Undefined where all is left, and nobody asks how much that is. */
function choiceOf({ exclude, include = [], withSummary = false }: RewriteOptions): Choice | undefined {
  if (include.length === 0) {
    if (exclude === undefined && !withSummary) return undefined
    return { mayStay: (path) => exclude?.(path) !== true, staysEmpty: () => true }
  }
  if (exclude !== undefined) {
    throw new Failure({
      code: 'options_invalid',
      message: 'what is included and what is excluded cannot both be given',
    })
  }
  const isIncluded = (path: string) => anyMatches(include, path)
  return {
    mayStay: (path, type) => isIncluded(path) || (type === 'dir' && mayTellApartBelow(include, path)),
    // Never the root, which "/" is for: that would be a snapshot of nothing in place of one of something.
    staysEmpty: (path) => path !== '/' && isIncluded(path),
  }
}

const unread = (snapshot: Snapshot) => ({ snapshot, tree: snapshot.tree, excluded: [], totals: undefined })

function saysTotals({ summary }: Snapshot, totals: TreeTotals | undefined): boolean {
  return summary?.totalFilesProcessed === totals?.files && summary?.totalBytesProcessed === totals?.bytes
}

/** When it resolves, the new trees are durable. */
async function rewriteTrees(
  vault: Vault,
  snapshots: readonly Snapshot[],
  options: Pick<Rewrite, 'choice' | 'dryRun' | 'abort'>,
): Promise<readonly Found[]> {
  await vault.index.refresh()
  const rewrite: Rewrite = { vault, ...options, repacker: createRepacker(vault), stored: new Set() }
  const found: Found[] = []
  for (const snapshot of snapshots) {
    const kept: Kept = { excluded: [], files: 0n, bytes: 0n }
    const tree = await rewriteTree(rewrite, { tree: snapshot.tree, path: '/', depth: 0, kept })
    const { excluded, files, bytes } = kept
    found.push(
      tree === undefined
        ? { ...unread(snapshot), isAnyIncluded: false }
        : { snapshot, tree, isAnyIncluded: true, excluded, totals: { files, bytes } },
    )
  }
  if (!options.dryRun) await rewrite.repacker.finish()
  return found
}

/** Of one snapshot, while it is read. */
interface Kept {
  readonly excluded: string[]
  files: bigint
  bytes: bigint
}

interface TreeAt {
  readonly tree: TreeId
  /** Ending with "/". */
  readonly path: string
  readonly depth: number
  readonly kept: Kept
}

/** Undefined where nothing of it is left, and it is not left for itself. */
async function rewriteTree(rewrite: Rewrite, { tree, path, depth, kept }: TreeAt): Promise<TreeId | undefined> {
  rewrite.abort()
  if (depth > depthMax) {
    throw new Failure({ code: 'tree_unsafe', message: `tree ${tree} is nested deeper than ${depthMax}` })
  }
  const nodes = await readTree(rewrite.vault, tree)
  const left: (TreeNode | undefined)[] = []
  for (const node of nodes) {
    const at = `${path}${node.name}`
    let becomes: TreeNode | undefined
    if (rewrite.choice.mayStay(at, node.type)) {
      if (node.type === 'dir') {
        const toldBefore = kept.excluded.length
        const subtree = await rewriteTree(rewrite, { tree: node.subtree, path: `${at}/`, depth: depth + 1, kept })
        if (subtree === undefined) kept.excluded.length = toldBefore
        else becomes = subtree === node.subtree ? node : { ...node, subtree }
      } else {
        if (node.type === 'file') {
          kept.files += 1n
          // As restic's counter: more than it can hold must not make a snapshot that nobody can read.
          kept.bytes = BigInt.asUintN(64, kept.bytes + BigInt(node.bytes))
        }
        becomes = node
      }
    }
    if (becomes === undefined) kept.excluded.push(at)
    left.push(becomes)
  }
  if (left.every((node) => node === undefined) && !rewrite.choice.staysEmpty(path)) return undefined
  if (left.every((node, index) => node === nodes[index])) return tree
  return storeTree(rewrite, await changedTree(rewrite.vault, { tree, nodes, changed: left }))
}

async function storeTree(rewrite: Rewrite, plaintext: Buffer): Promise<TreeId> {
  const id = treeId(sha256(plaintext))
  if (rewrite.stored.has(id) || rewrite.vault.index.blobs.has(id, 'tree') || rewrite.dryRun) return id
  rewrite.stored.add(id)
  const entry = { id, type: 'tree', offset: 0, length: 0, plainBytes: undefined } as const
  await rewrite.repacker.add({ entry, sealed: undefined, plaintext })
  return id
}
