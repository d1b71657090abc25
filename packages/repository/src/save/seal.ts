/**
 * Owns sealing: writing the snapshot, the one object by which everything under it exists.
 *
 * Invariant: a snapshot is written only after each tree and blob that it reaches is found in indexes that are durable,
 * under a lock that keeps a prune away.
 */
import { Failure, type TreeId } from '@stillpoint/core/kernel'
import { confirmDocument } from '../confirm-stored.ts'
import { type SnapshotId, snapshotId } from '../format/ids.ts'
import { encodeSnapshot } from '../format/snapshot.ts'
import type { SnapshotSummary } from '../format/snapshot-summary.ts'
import type { Timestamp } from '../format/timestamp.ts'
import { readTree } from '../load/blob-reader.ts'
import { type Vault, writeDocument } from '../vault.ts'
import type { Save } from './save.ts'
import type { TreeEntry } from './tree-entry.ts'

export interface SealOptions {
  readonly time: Timestamp
  /** What was saved, as shown in lists; by it and the host, restic groups snapshots. */
  readonly paths: readonly string[]
  readonly hostname: string
  readonly username: string
  readonly tags?: readonly string[]
  /** The root; or its entries by name, each a tree that is stored or the entries of one that is not. */
  readonly tree?: TreeId
  readonly trees?: Readonly<Record<string, TreeId | readonly TreeEntry[]>>
  readonly programVersion?: string
  /** Patterns of what was left out, as the user gave them: for whoever looks at the snapshot. */
  readonly excludes?: readonly string[]
  readonly parent?: SnapshotId
  /** What was found and added, where who saved has counted it. */
  readonly summary?: SnapshotSummary
}

/** The root tree: as given, or composed and stored with `save`, which is finished. */
export async function composeRoot(options: SealOptions, save: Save): Promise<TreeId> {
  const { tree, trees } = options
  if ((tree === undefined) === (trees === undefined)) {
    throw new Failure({ code: 'seal_invalid', message: 'a snapshot is sealed over either `tree` or `trees`' })
  }
  if (tree !== undefined) {
    await save.discard()
    return tree
  }
  try {
    const entries: TreeEntry[] = []
    for (const [name, part] of Object.entries(trees ?? {})) {
      const subtree = typeof part === 'string' ? part : await save.saveTree(part)
      entries.push({ name, type: 'dir', subtree, permissions: 0o755, mtime: options.time })
    }
    const root = await save.saveTree(entries)
    await save.finish()
    return root
  } catch (error) {
    await save.discard()
    throw error
  }
}

/** Writes the snapshot; durable when it resolves. The caller holds a lock and has refreshed the index under it. */
export async function sealSnapshot(vault: Vault, root: TreeId, options: SealOptions): Promise<SnapshotId> {
  await requireWhole(vault, root)
  return writeSnapshot(vault, root, options)
}

/**
 * The same without looking: for who has stored the tree with `saveTree`, which finds all that a tree refers to, from
 * the bottom up to this root, under the lock that is still held, and whose save is finished.
 */
export async function writeSnapshot(vault: Vault, root: TreeId, options: SealOptions): Promise<SnapshotId> {
  const json = encodeSnapshot({
    time: options.time,
    tree: root,
    paths: options.paths,
    hostname: options.hostname,
    username: options.username,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    excludes: options.excludes ?? [],
    tags: options.tags ?? [],
    ...(options.parent === undefined ? {} : { parent: options.parent }),
    ...(options.programVersion === undefined ? {} : { programVersion: options.programVersion }),
    ...(options.summary === undefined ? {} : { summary: options.summary }),
  })
  const name = await writeDocument(vault, 'snapshot', json)
  await confirmDocument(vault, { kind: 'snapshot', name })
  return snapshotId(name)
}

/** @throws Failure `object_missing` naming the path of what is not stored */
async function requireWhole(vault: Vault, root: TreeId): Promise<void> {
  const seen = new Set<TreeId>()
  const open: { readonly tree: TreeId; readonly path: string }[] = [{ tree: root, path: '/' }]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (seen.has(next.tree)) continue
    seen.add(next.tree)
    for (const node of await readTree(vault, next.tree)) {
      const path = `${next.path}${node.name}`
      if (node.type === 'dir') open.push({ tree: node.subtree, path: `${path}/` })
      if (node.type !== 'file') continue
      const missing = node.content.find((id) => !vault.index.blobs.has(id, 'data'))
      if (missing === undefined) continue
      throw new Failure({
        code: 'object_missing',
        message: `the snapshot was not sealed: data blob ${missing} of ${path} is not stored`,
        hint: 'Finish all saves before sealing, and keep a lock from the first save to the seal.',
      })
    }
  }
}
