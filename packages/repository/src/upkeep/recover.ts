/**
 * Owns finding directories that are stored and that no snapshot refers to any more, such as after a `forget` by mistake:
 * a new snapshot holds them all, each under the first digits of its id. Until a prune has removed their data.
 */
import { isFailure, type TreeId } from '@stillpoint/core/kernel'
import { type SnapshotId, treeId } from '../format/ids.ts'
import type { Timestamp } from '../format/timestamp.ts'
import { createBitSet } from '../index-memory/bit-set.ts'
import { listSnapshots } from '../load/snapshots.ts'
import { eachOf } from '../parallel.ts'
import { startSave } from '../save/save.ts'
import { writeSnapshot } from '../save/seal.ts'
import type { Vault } from '../vault.ts'
import { createBlobSet } from './blob-set.ts'
import type { LockKeeper } from './lock.ts'
import { listBlobs } from './objects.ts'
import { scanTree } from './scan-tree.ts'

export const recoveredTag = 'recovered'
const treesInFlightMax = 8
const namedDigits = 8

export interface RecoverOptions {
  readonly time: Timestamp
  readonly hostname: string
  readonly username: string
  readonly programVersion: string
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: { readonly trees: number; readonly treesTotal: number }) => void
}

export interface Recovered {
  /** Undefined where there is nothing that no snapshot refers to. */
  readonly id: SnapshotId | undefined
  readonly roots: readonly TreeId[]
  /** Trees that cannot be read. */
  readonly unreadable: number
}

export async function recoverTrees(vault: Vault, locks: LockKeeper, options: RecoverOptions): Promise<Recovered> {
  return locks.withLock('shared', async (lockSignal) => {
    const abort = () => {
      options.signal?.throwIfAborted()
      lockSignal.throwIfAborted()
    }
    const { roots, unreadable } = await findRoots(vault, abort, options)
    if (roots.length === 0) return { id: undefined, roots, unreadable }
    const save = await startSave(vault, await locks.acquire('shared'))
    const { time, hostname, username, programVersion } = options
    let tree: TreeId
    try {
      const entries = roots.map((subtree) => ({
        name: subtree.slice(0, namedDigits),
        type: 'dir' as const,
        subtree,
        permissions: 0o755,
        mtime: time,
      }))
      tree = await save.saveTree(withoutEqualNames(entries))
      await save.finish()
    } catch (error) {
      await save.discard()
      throw error
    }
    abort()
    const common = { time, hostname, username, programVersion }
    const id = await writeSnapshot(vault, tree, { ...common, paths: ['/recover'], tags: [recoveredTag] })
    return { id, roots, unreadable }
  })
}

/** Two ids may begin alike: those are named in full. */
function withoutEqualNames<T extends { readonly name: string; readonly subtree: TreeId }>(entries: readonly T[]): T[] {
  const counts = new Map<string, number>()
  for (const { name } of entries) counts.set(name, (counts.get(name) ?? 0) + 1)
  return entries.map((entry) => ((counts.get(entry.name) ?? 0) > 1 ? { ...entry, name: entry.subtree } : entry))
}

/** Trees that no other tree and no snapshot refers to. */
async function findRoots(vault: Vault, abort: () => void, { onProgress }: RecoverOptions) {
  const trees = createBlobSet()
  const referenced = (tree: TreeId) => {
    const row = trees.rowOf(tree, 'tree')
    if (row >= 0) trees.counts.increment(row)
  }
  for await (const { id, type } of listBlobs(vault)) {
    abort()
    if (type === 'tree') trees.add(id, 'tree')
  }
  for (const { tree } of await listSnapshots(vault)) referenced(tree)
  const broken = createBitSet(trees.size)
  const idOf = (row: number) => treeId(trees.at(row).id)
  const rows = Array.from({ length: trees.size }, (_, row) => row)
  let done = 0
  await eachOf(rows, treesInFlightMax, async (row) => {
    abort()
    try {
      // A tree refers to nothing unless all of it can be read.
      const below: TreeId[] = []
      await scanTree(vault, idOf(row), (node) => {
        if (node.type === 'dir') below.push(node.subtree)
      })
      below.forEach(referenced)
    } catch (error) {
      if (!isFailure(error, 'object_damaged') && !isFailure(error, 'object_missing')) throw error
      broken.add(row)
    }
    done += 1
    onProgress?.({ trees: done, treesTotal: rows.length })
  })
  const roots = rows.filter((row) => !broken.has(row) && trees.counts.get(row) === 0).map(idOf)
  return { roots, unreadable: broken.size }
}
