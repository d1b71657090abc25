/**
 * Owns writing snapshots anew without some of their paths: for what should never have been saved. As restic's `rewrite`.
 * Their data stays until a prune, and as long as any snapshot refers to it.
 *
 * Invariant: the new snapshot and all that it needs are durable before the old one is removed.
 */
import { Failure, type TreeId } from '@stillpoint/core/kernel'
import { type SnapshotId, sha256, treeId } from '../format/ids.ts'
import { encodeTree, type TreeNode } from '../format/tree.ts'
import { readTree } from '../load/blob-reader.ts'
import type { Snapshot } from '../load/snapshots.ts'
import type { Vault } from '../vault.ts'
import { deleteIfThere } from './index-files.ts'
import { createRepacker, type Repacker } from './repacker.ts'
import { rewriteSnapshot } from './rewrite-snapshot.ts'

export const rewrittenTag = 'rewrite'
const depthMax = 2048

export interface RewriteOptions {
  readonly snapshots: readonly Snapshot[]
  /** By path in the snapshot. Directories for which it returns true are left out with all that is in them. */
  readonly exclude: (path: string) => boolean
  /** Removes the old snapshots; else the new ones get the tag `rewrite`. */
  readonly forget?: boolean
  readonly dryRun?: boolean
  readonly signal?: AbortSignal
}

export interface RewrittenSnapshot {
  readonly id: SnapshotId
  /** Undefined where nothing was left out, and in a dry run. */
  readonly newId: SnapshotId | undefined
  /** Paths that are not in the new one; of a directory only its own. */
  readonly excluded: readonly string[]
}

interface Rewrite {
  readonly vault: Vault
  readonly options: RewriteOptions
  readonly abort: () => void
  readonly repacker: Repacker
  readonly stored: Set<TreeId>
}

/** @throws Failure `tree_not_rewritable`, `object_damaged`, `object_missing`, `tree_unsafe` (too deep) */
export async function rewriteExcluding(
  vault: Vault,
  lockSignal: AbortSignal,
  options: RewriteOptions,
): Promise<readonly RewrittenSnapshot[]> {
  const abort = () => {
    options.signal?.throwIfAborted()
    lockSignal.throwIfAborted()
  }
  await vault.index.refresh()
  const rewrite: Rewrite = { vault, options, abort, repacker: createRepacker(vault), stored: new Set() }
  const found: { readonly snapshot: Snapshot; readonly tree: TreeId; readonly excluded: readonly string[] }[] = []
  for (const snapshot of options.snapshots) {
    const excluded: string[] = []
    const tree = await rewriteTree(rewrite, { tree: snapshot.tree, path: '/', depth: 0, excluded })
    found.push({ snapshot, tree, excluded })
  }
  if (options.dryRun !== true) await rewrite.repacker.finish()
  const rewritten: RewrittenSnapshot[] = []
  for (const { snapshot, tree, excluded } of found) {
    abort()
    let newId: SnapshotId | undefined
    if (tree !== snapshot.tree && options.dryRun !== true) {
      const tags = options.forget === true ? snapshot.tags : [...new Set([...snapshot.tags, rewrittenTag])]
      newId = await rewriteSnapshot(vault, snapshot.id, { tree, tags })
      if (options.forget === true) await deleteIfThere(vault, 'snapshot', snapshot.id)
    }
    rewritten.push({ id: snapshot.id, newId, excluded })
  }
  return rewritten
}

interface TreeAt {
  readonly tree: TreeId
  /** Ending with "/". */
  readonly path: string
  readonly depth: number
  readonly excluded: string[]
}

async function rewriteTree(rewrite: Rewrite, { tree, path, depth, excluded }: TreeAt): Promise<TreeId> {
  rewrite.abort()
  if (depth > depthMax) {
    throw new Failure({ code: 'tree_unsafe', message: `tree ${tree} is nested deeper than ${depthMax}` })
  }
  const nodes = await readTree(rewrite.vault, tree)
  const kept: TreeNode[] = []
  let isSame = true
  for (const node of nodes) {
    const at = `${path}${node.name}`
    if (rewrite.options.exclude(at)) {
      excluded.push(at)
      isSame = false
    } else if (node.type === 'dir') {
      const subtree = await rewriteTree(rewrite, { tree: node.subtree, path: `${at}/`, depth: depth + 1, excluded })
      isSame &&= subtree === node.subtree
      kept.push({ ...node, subtree })
    } else kept.push(node)
  }
  return isSame ? tree : storeTree(rewrite, { tree, nodes, kept })
}

interface Replaced {
  readonly tree: TreeId
  readonly nodes: readonly TreeNode[]
  readonly kept: readonly TreeNode[]
}

async function storeTree(rewrite: Rewrite, { tree, nodes, kept }: Replaced): Promise<TreeId> {
  // What we would not write again, we would lose.
  if (sha256(encodeTree(nodes)) !== tree) {
    throw new Failure({
      code: 'tree_not_rewritable',
      message: `tree ${tree} has fields that this version does not know; writing it anew would lose them`,
      hint: 'Rewrite this snapshot with the program that wrote the tree.',
    })
  }
  const plaintext = encodeTree(kept)
  const id = treeId(sha256(plaintext))
  if (rewrite.stored.has(id) || rewrite.vault.index.blobs.has(id, 'tree') || rewrite.options.dryRun === true) return id
  rewrite.stored.add(id)
  const entry = { id, type: 'tree', offset: 0, length: 0, plainBytes: undefined } as const
  await rewrite.repacker.add({ entry, sealed: undefined, plaintext })
  return id
}
