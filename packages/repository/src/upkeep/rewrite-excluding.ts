/**
 * Owns writing snapshots anew without some of their paths, for what should never have been saved, or with another host or
 * time, or with a summary. As restic's `rewrite`. Data that was left out stays until a prune, and as long as any snapshot
 * refers to it. What the new trees hold is counted while they are read, and written into the summary.
 *
 * Invariant: the new snapshot and all that it needs are durable before the old one is removed.
 */
import { Failure, type TreeId } from '@stillpoint/core/kernel'
import { type SnapshotId, sha256, treeId } from '../format/ids.ts'
import type { Timestamp } from '../format/timestamp.ts'
import type { TreeNode } from '../format/tree.ts'
import { readTree } from '../load/blob-reader.ts'
import type { Snapshot } from '../load/snapshots.ts'
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
  /** What the new ones say of where and when they were taken. Default: what the old ones say. */
  readonly hostname?: string
  readonly time?: Timestamp
  /**
   * Also of those in which nothing else changes the summary says how many files and bytes they hold. Default: false;
   * restic does so, without being asked, where `exclude` is given.
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
  /** Undefined where nothing has changed, and in a dry run. */
  readonly newId: SnapshotId | undefined
  /** Paths that are not in the new one; of a directory only its own. */
  readonly excluded: readonly string[]
  /** What is left, which is in the new one's summary. Undefined where no trees were read: only host or time change. */
  readonly totals: TreeTotals | undefined
}

interface Rewrite {
  readonly vault: Vault
  readonly exclude: (path: string) => boolean
  readonly dryRun: boolean
  readonly abort: () => void
  readonly repacker: Repacker
  readonly stored: Set<TreeId>
}

/** What a snapshot becomes. */
interface Found {
  readonly snapshot: Snapshot
  readonly tree: TreeId
  readonly excluded: readonly string[]
  /** Undefined where trees were not read. */
  readonly totals: TreeTotals | undefined
}

/** @throws Failure `object_damaged`, `object_missing`, `tree_unsafe` (too deep) */
export async function rewriteExcluding(
  vault: Vault,
  lockSignal: AbortSignal,
  options: RewriteOptions,
): Promise<readonly RewrittenSnapshot[]> {
  const abort = () => {
    options.signal?.throwIfAborted()
    lockSignal.throwIfAborted()
  }
  const { snapshots, hostname, time, forget = false, dryRun = false, withSummary = false } = options
  const exclude = options.exclude ?? (withSummary ? () => false : undefined)
  const found: readonly Found[] =
    exclude === undefined
      ? snapshots.map((snapshot) => ({ snapshot, tree: snapshot.tree, excluded: [], totals: undefined }))
      : await rewriteTrees(vault, snapshots, { exclude, dryRun, abort })
  const rewritten: RewrittenSnapshot[] = []
  for (const { snapshot, tree, excluded, totals } of found) {
    abort()
    const { id } = snapshot
    const isChanged =
      tree !== snapshot.tree ||
      (hostname !== undefined && hostname !== snapshot.hostname) ||
      (time !== undefined && time !== snapshot.time) ||
      (withSummary && !saysTotals(snapshot, totals))
    let newId: SnapshotId | undefined
    if (isChanged && !dryRun) {
      const tags = forget ? snapshot.tags : [...new Set([...snapshot.tags, rewrittenTag])]
      const origin = { ...(hostname === undefined ? {} : { hostname }), ...(time === undefined ? {} : { time }) }
      const content = { tree, ...(totals === undefined ? {} : { totals }) }
      newId = await rewriteSnapshot(vault, id, { ...content, tags, ...origin, original: 'this' })
      if (forget) await deleteIfThere(vault, 'snapshot', id)
    }
    rewritten.push({ id, isChanged, newId, excluded, totals })
  }
  return rewritten
}

function saysTotals({ summary }: Snapshot, totals: TreeTotals | undefined): boolean {
  return summary?.totalFilesProcessed === totals?.files && summary?.totalBytesProcessed === totals?.bytes
}

/** When it resolves, the new trees are durable. */
async function rewriteTrees(
  vault: Vault,
  snapshots: readonly Snapshot[],
  options: Pick<Rewrite, 'exclude' | 'dryRun' | 'abort'>,
): Promise<readonly Found[]> {
  await vault.index.refresh()
  const rewrite: Rewrite = { vault, ...options, repacker: createRepacker(vault), stored: new Set() }
  const found: Found[] = []
  for (const snapshot of snapshots) {
    const kept: Kept = { excluded: [], files: 0n, bytes: 0n }
    const tree = await rewriteTree(rewrite, { tree: snapshot.tree, path: '/', depth: 0, kept })
    found.push({ snapshot, tree, excluded: kept.excluded, totals: { files: kept.files, bytes: kept.bytes } })
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

async function rewriteTree(rewrite: Rewrite, { tree, path, depth, kept }: TreeAt): Promise<TreeId> {
  rewrite.abort()
  if (depth > depthMax) {
    throw new Failure({ code: 'tree_unsafe', message: `tree ${tree} is nested deeper than ${depthMax}` })
  }
  const nodes = await readTree(rewrite.vault, tree)
  const left: (TreeNode | undefined)[] = []
  let isSame = true
  for (const node of nodes) {
    const at = `${path}${node.name}`
    if (rewrite.exclude(at)) {
      kept.excluded.push(at)
      left.push(undefined)
      isSame = false
    } else if (node.type === 'dir') {
      const subtree = await rewriteTree(rewrite, { tree: node.subtree, path: `${at}/`, depth: depth + 1, kept })
      isSame &&= subtree === node.subtree
      left.push({ ...node, subtree })
    } else {
      if (node.type === 'file') {
        kept.files += 1n
        // As restic's counter: more than it can hold must not make a snapshot that nobody can read.
        kept.bytes = BigInt.asUintN(64, kept.bytes + BigInt(node.bytes))
      }
      left.push(node)
    }
  }
  return isSame ? tree : storeTree(rewrite, await changedTree(rewrite.vault, { tree, nodes, changed: left }))
}

async function storeTree(rewrite: Rewrite, plaintext: Buffer): Promise<TreeId> {
  const id = treeId(sha256(plaintext))
  if (rewrite.stored.has(id) || rewrite.vault.index.blobs.has(id, 'tree') || rewrite.dryRun) return id
  rewrite.stored.add(id)
  const entry = { id, type: 'tree', offset: 0, length: 0, plainBytes: undefined } as const
  await rewrite.repacker.add({ entry, sealed: undefined, plaintext })
  return id
}
