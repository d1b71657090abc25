/**
 * Owns making snapshots whole again by leaving out what is lost: as restic's `repair snapshots`.
 *
 * A directory that cannot be read becomes an empty one; a file loses the pieces that are lost, and its size becomes what
 * is left; what is of no kind that can be restored goes. Changed snapshots get the tag `repaired` and keep the old one's id as their original. A snapshot whose root
 * cannot be read cannot be repaired.
 *
 * Invariant: the new snapshot and all that it needs are durable before the old one is removed.
 */
import { isFailure } from '@stillpoint/core/kernel'
import { type BlobId, type SnapshotId, sha256, type TreeId, treeId } from '../format/ids.ts'
import { encodeTree, type FileNode, type TreeNode } from '../format/tree.ts'
import { readTree } from '../load/blob-reader.ts'
import { listSnapshots, type Snapshot } from '../load/snapshots.ts'
import type { Vault } from '../vault.ts'
import { type BlobSet, createBlobSet } from './blob-set.ts'
import { treeDepthMax } from './bounded-tree.ts'
import { changedTree } from './changed-tree.ts'
import { deleteIfThere } from './index-files.ts'
import { readAgain } from './read-again.ts'
import { createRepacker, type Repacker } from './repacker.ts'
import { rewriteSnapshot } from './rewrite-snapshot.ts'

export const repairedTag = 'repaired'

export interface RepairSnapshotsOptions {
  /** Default: all. */
  readonly snapshots?: readonly Snapshot[]
  /** Remove the old snapshots, and those that cannot be repaired. */
  readonly forget?: boolean
  /** Says what would be done, and does nothing. */
  readonly dryRun?: boolean
  readonly signal?: AbortSignal
}

export interface SnapshotRepair {
  readonly path: string
  readonly what: 'directory_emptied' | 'content_removed' | 'size_corrected' | 'entry_removed'
}

export interface RepairedSnapshot {
  readonly id: SnapshotId
  readonly outcome: 'whole' | 'repaired' | 'lost'
  /** Of the new snapshot; undefined in a dry run and where nothing was written. */
  readonly newId: SnapshotId | undefined
  readonly changes: readonly SnapshotRepair[]
}

interface Repair {
  readonly vault: Vault
  readonly repacker: Repacker
  readonly abort: () => void
  readonly isDryRun: boolean
  /** Trees in which nothing has to change. */
  readonly sound: BlobSet
  readonly stored: BlobSet
}

/** @throws Failure `tree_unsafe`, … */
export async function repairSnapshots(
  vault: Vault,
  lockSignal: AbortSignal,
  options: RepairSnapshotsOptions = {},
): Promise<readonly RepairedSnapshot[]> {
  const abort = () => {
    options.signal?.throwIfAborted()
    lockSignal.throwIfAborted()
  }
  await vault.index.refresh()
  const isDryRun = options.dryRun === true
  const repair: Repair = {
    vault,
    repacker: createRepacker(vault),
    abort,
    isDryRun,
    sound: createBlobSet(),
    stored: createBlobSet(),
  }
  const found: { snapshot: Snapshot; tree: TreeId | undefined; changes: readonly SnapshotRepair[] }[] = []
  for (const snapshot of options.snapshots ?? (await listSnapshots(vault))) {
    abort()
    const changes: SnapshotRepair[] = []
    const whole = { ...repair, changes, changed: new Map() }
    found.push({ snapshot, changes, tree: await repairTree(whole, snapshot.tree, '/', 0) })
  }
  if (!isDryRun) await repair.repacker.finish()
  const repaired: RepairedSnapshot[] = []
  for (const { snapshot, tree, changes } of found) {
    abort()
    const outcome = tree === undefined ? 'lost' : tree === snapshot.tree ? 'whole' : 'repaired'
    let newId: SnapshotId | undefined
    if (outcome === 'repaired' && tree !== undefined && !isDryRun) {
      const tags = [...new Set([...snapshot.tags, repairedTag])]
      newId = await rewriteSnapshot(vault, snapshot.id, { tree, tags, original: 'this' })
    }
    if (outcome !== 'whole' && options.forget === true && !isDryRun) await deleteIfThere(vault, 'snapshot', snapshot.id)
    repaired.push({ id: snapshot.id, outcome, newId, changes })
  }
  return repaired
}

/** The repair of one snapshot. A directory that lies in it several times is repaired, and told, once. */
interface SnapshotWork extends Repair {
  readonly changes: SnapshotRepair[]
  /** New trees by old ones. */
  readonly changed: Map<TreeId, TreeId>
}

/** The tree, whole; undefined where it cannot be read. */
async function repairTree(
  repair: SnapshotWork,
  tree: TreeId,
  path: string,
  depth: number,
): Promise<TreeId | undefined> {
  repair.abort()
  const known = repair.sound.has(tree, 'tree') ? tree : repair.changed.get(tree)
  if (known !== undefined) return known
  const nodes = depth > treeDepthMax ? undefined : await readIfSound(repair.vault, tree)
  if (nodes === undefined) {
    repair.changes.push({ path, what: 'directory_emptied' })
    return undefined
  }
  const repaired: (TreeNode | undefined)[] = []
  let isSame = true
  for (const node of nodes) {
    const at = `${path}${node.name}`
    if (node.type === 'file') {
      const { file, change } = repairFile(repair.vault, node)
      if (change !== undefined) repair.changes.push({ path: at, what: change })
      isSame &&= change === undefined
      repaired.push(file)
    } else if (node.type === 'dir') {
      const below =
        (await repairTree(repair, node.subtree, `${at}/`, depth + 1)) ?? (await storeTree(repair, encodeTree([])))
      isSame &&= below === node.subtree
      repaired.push({ ...node, subtree: below })
    } else if (node.type === 'irregular') {
      repair.changes.push({ path: at, what: 'entry_removed' })
      isSame = false
      repaired.push(undefined)
    } else repaired.push(node)
  }
  if (isSame) {
    repair.sound.add(tree, 'tree')
    return tree
  }
  const rewritten = await storeTree(repair, await changedTree(repair.vault, { tree, nodes, changed: repaired }))
  repair.changed.set(tree, rewritten)
  return rewritten
}

async function readIfSound(vault: Vault, tree: TreeId): Promise<readonly TreeNode[] | undefined> {
  try {
    return await readAgain(() => readTree(vault, tree))
  } catch (error) {
    if (isFailure(error, 'object_missing') || isFailure(error, 'object_damaged')) return undefined
    throw error
  }
}

function repairFile(
  vault: Vault,
  node: FileNode,
): { readonly file: FileNode; readonly change: SnapshotRepair['what'] | undefined } {
  const content: BlobId[] = []
  let bytes = 0
  for (const id of node.content) {
    const plainBytes = vault.index.blobs.plainBytes(id, 'data')
    if (plainBytes === undefined) continue
    content.push(id)
    bytes += plainBytes
  }
  if (content.length !== node.content.length) return { file: { ...node, content, bytes }, change: 'content_removed' }
  if (bytes !== node.bytes) return { file: { ...node, bytes }, change: 'size_corrected' }
  return { file: node, change: undefined }
}

async function storeTree(repair: Repair, plaintext: Buffer): Promise<TreeId> {
  const id = treeId(sha256(plaintext))
  const isStored = repair.stored.has(id, 'tree') || repair.vault.index.blobs.has(id, 'tree')
  if (isStored || repair.isDryRun) return id
  repair.stored.add(id, 'tree')
  const entry = { id, type: 'tree', offset: 0, length: 0, plainBytes: undefined } as const
  await repair.repacker.add({ entry, sealed: undefined, plaintext })
  return id
}
