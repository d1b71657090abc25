/**
 * Owns the side of a repository that looks after it, and which lock each piece of work takes. What is done under the
 * locks is in a file per piece.
 */
import { defined, type Failure, type TreeId } from '@stillpoint/core/kernel'
import type { ObjectKind } from '../blob/blob-store.ts'
import type { BlobType, PackId, SnapshotId } from '../format/ids.ts'
import type { Snapshot } from '../load/snapshots.ts'
import type { Repository } from '../repository.ts'
import type { Vault } from '../vault.ts'
import { type BackupOptions, type BackupReport, backup } from './backup.ts'
import { type CopiedSnapshot, type CopyOptions, copySnapshots } from './copy.ts'
import { type DiffOptions, type DiffStats, diffTrees } from './diff-trees.ts'
import { type ForgetOptions, type ForgottenGroup, planForget, removeSnapshots } from './forget.ts'
import { type AddKeyOptions, addKey, changePassword, listKeys, type RepositoryKey, removeKey } from './keys.ts'
import { type LockKeeper, type LockMode, readOnlyFailure } from './lock.ts'
import {
  blobContent,
  type ListedBlob,
  type ListedKind,
  listBlobs,
  listObjects,
  objectJson,
  packContent,
} from './objects.ts'
import { type PruneOptions, type PruneReport, pruneRepository } from './prune.ts'
import { type Recovered, type RecoverOptions, recoverTrees } from './recover.ts'
import { type RepairIndexOptions, type RepairIndexReport, repairIndex } from './repair-index.ts'
import { type RepairedPack, type RepairPacksOptions, repairPacks } from './repair-packs.ts'
import { type RepairedSnapshot, type RepairSnapshotsOptions, repairSnapshots } from './repair-snapshots.ts'
import { type RewriteOptions, type RewrittenSnapshot, rewriteSnapshots } from './rewriting.ts'
import { resolveSnapshot, resolveSnapshots, type SnapshotSelection } from './select-snapshots.ts'
import { type RepositoryStats, repositoryStats, type StatsOptions } from './stats.ts'
import { type TagChange, type TaggedSnapshot, tagSnapshots } from './tag.ts'
import { tarOf } from './tar.ts'
import { type WalkedNode, type WalkNodesOptions, walkNodes } from './walk-nodes.ts'
import { zipOf } from './zip.ts'

export interface Upkeep {
  /** By ids, their beginnings or `latest`; where none is given, all that are selected. @throws Failure `snapshot_absent`, … */
  resolveSnapshots(ids: readonly string[], selection?: SnapshotSelection): Promise<readonly Snapshot[]>
  /** One, the selection being for `latest`. */
  resolveSnapshot(id: string, selection?: SnapshotSelection): Promise<Snapshot>
  /** Which snapshots a policy keeps and why, per group. Removes nothing. */
  planForget(options: ForgetOptions): Promise<readonly ForgottenGroup[]>
  /** Removes snapshots, under an exclusive lock. Their data stays until a prune. */
  removeSnapshots(ids: readonly SnapshotId[], signal?: AbortSignal): Promise<void>
  /** Removes data that no snapshot refers to, under an exclusive lock (a dry run: shared). @throws Failure `prune_refused`, … */
  prune(options?: PruneOptions): Promise<PruneReport>
  /** Makes the index right again from the packs that are there. Open with `forRepair` where an index file is damaged. */
  repairIndex(options?: RepairIndexOptions): Promise<RepairIndexReport>
  /** Moves what is sound in damaged packs into new ones, and deletes them. @throws Failure `pack_absent` */
  repairPacks(ids: readonly string[], options?: RepairPacksOptions): Promise<readonly RepairedPack[]>
  /** Writes snapshots anew without what is lost. */
  repairSnapshots(options?: RepairSnapshotsOptions): Promise<readonly RepairedSnapshot[]>
  /** @throws Failure `object_damaged` unless `onDamaged` takes it */
  listKeys(onDamaged?: (failure: Failure) => void): Promise<readonly RepositoryKey[]>
  /** Returns the id of the new key. */
  addKey(options: AddKeyOptions): Promise<string>
  /** By id or its beginning; returns the id. @throws Failure `key_absent`, `key_ambiguous`, `key_in_use` */
  removeKey(id: string): Promise<string>
  /** Replaces the key that opened the repository. Returns the id of the new one. */
  changePassword(options: AddKeyOptions): Promise<string>
  /** Saves paths or a stream and seals the snapshot. @throws Failure `backup_empty`, … */
  backup(options: BackupOptions): Promise<BackupReport>
  stats(options: StatsOptions): Promise<RepositoryStats>
  /** Those whose tags changed: written anew, the old ones removed. */
  tag(change: TagChange): Promise<readonly TaggedSnapshot[]>
  /** Writes snapshots anew without some of their paths, or with another host or time. */
  rewrite(options: RewriteOptions): Promise<readonly RewrittenSnapshot[]>
  /** Makes a snapshot of all directories that no snapshot refers to any more. */
  recover(options: RecoverOptions): Promise<Recovered>
  /** Ids of all objects of a kind. */
  listObjects(kind: ListedKind): Promise<readonly string[]>
  /** Each place of each blob that an index file names. */
  listBlobs(): AsyncGenerator<ListedBlob>
  /** By id or its beginning; a key as it is stored. @throws Failure `object_missing`, `object_ambiguous`, `object_damaged` */
  objectJson(kind: Exclude<ObjectKind, 'pack'>, id: string): Promise<string>
  packContent(id: string): Promise<Buffer>
  /** Of either type. */
  blobContent(id: string): Promise<Buffer>
  /** Copies snapshots of another repository into this one. */
  copyFrom(source: Repository, options: CopyOptions): Promise<readonly CopiedSnapshot[]>
  /** All entries below a tree with their paths. Names may be hostile. */
  walk(tree: TreeId, options?: WalkNodesOptions): AsyncGenerator<WalkedNode>
  diff(options: DiffOptions): Promise<DiffStats>
  /** The entries below a tree as a tar archive. */
  tar(tree: TreeId, signal?: AbortSignal): AsyncGenerator<Uint8Array>
  /** The same as a zip archive: files, directories and links. */
  zip(tree: TreeId, signal?: AbortSignal): AsyncGenerator<Uint8Array>
  /** Where the blobs of each pack lie, as the index says. */
  packsOf(id: string, type: BlobType): readonly PackId[]
}

/** What changes nothing needs to keep nobody out. */
function modeOf(options: { readonly dryRun?: boolean } | undefined): LockMode {
  return options?.dryRun === true ? 'shared' : 'exclusive'
}

/** From one repository's upkeep to what another one needs to copy from it. */
const vaults = new WeakMap<Upkeep, Vault>()

export function vaultOf(upkeep: Upkeep): Vault {
  return defined(vaults.get(upkeep), 'the vault of a repository that this package opened')
}

export interface UpkeepOptions {
  /** Shared locks are given out also where nothing can be written; what writes under one has to know. */
  readonly readOnly: boolean
}

export function createUpkeep(vault: Vault, locks: LockKeeper, { readOnly }: UpkeepOptions): Upkeep {
  const writing = <T>(action: (lockSignal: AbortSignal) => Promise<T>): Promise<T> =>
    readOnly ? Promise.reject(readOnlyFailure()) : locks.withLock('shared', action)
  const aborter = (lockSignal: AbortSignal, signal: AbortSignal | undefined) => () => {
    signal?.throwIfAborted()
    lockSignal.throwIfAborted()
  }
  // What is repaired is the repository: what is kept of it near here may be sound where it is damaged.
  const direct = (): Vault => ({ ...vault, store: vault.direct() })
  /** For a prune: nothing is deleted where an index file is damaged, whatever is kept of it; trees may come from near. */
  function directIndexes(): Vault {
    const { store } = vault
    const origin = vault.direct()
    return { ...vault, store: { ...store, get: (of, range) => (of.kind === 'index' ? origin : store).get(of, range) } }
  }
  const upkeep: Upkeep = {
    resolveSnapshots: (ids, selection) => resolveSnapshots(vault, ids, selection),
    resolveSnapshot: (id, selection) => resolveSnapshot(vault, id, selection),
    planForget: (options) => planForget(vault, options),
    removeSnapshots: (ids, signal) =>
      locks.withLock('exclusive', async (lockSignal) => {
        await removeSnapshots(vault, ids, aborter(lockSignal, signal))
        await vault.store.sweep()
      }),
    prune: (options = {}) =>
      locks.withLock(modeOf(options), (lockSignal) => pruneRepository(directIndexes(), lockSignal, options)),
    repairIndex: (options) =>
      locks.withLock(modeOf(options), (lockSignal) => repairIndex(direct(), lockSignal, options)),
    repairPacks: (ids, options = {}) =>
      locks.withLock('exclusive', (lockSignal) => repairPacks(direct(), ids, { lockSignal, options })),
    repairSnapshots: (options) =>
      locks.withLock(modeOf(options), (lockSignal) => repairSnapshots(direct(), lockSignal, options)),
    listKeys: (onDamaged) => listKeys(vault, onDamaged),
    addKey: (options) => writing(() => addKey(vault, options)),
    removeKey: (id) => locks.withLock('exclusive', () => removeKey(vault, id)),
    changePassword: (options) => locks.withLock('exclusive', () => changePassword(vault, options)),
    backup: (options) =>
      readOnly && options.dryRun !== true ? Promise.reject(readOnlyFailure()) : backup(vault, locks, options),
    stats: (options) => locks.withLock('shared', () => repositoryStats(vault, options)),
    tag: (change) => locks.withLock('exclusive', (lockSignal) => tagSnapshots(vault, lockSignal, change)),
    rewrite: (options) =>
      locks.withLock(options.dryRun === true ? 'shared' : 'exclusive', (lockSignal) =>
        rewriteSnapshots(vault, lockSignal, options),
      ),
    recover: (options) => (readOnly ? Promise.reject(readOnlyFailure()) : recoverTrees(vault, locks, options)),
    listObjects: (kind) => listObjects(vault, kind),
    listBlobs: () => listBlobs(vault),
    objectJson: (kind, id) => objectJson(vault, kind, id),
    packContent: (id) => packContent(vault, id),
    blobContent: (id) => blobContent(vault, id),
    copyFrom: (source, options) =>
      source.withLock('shared', (sourceSignal) =>
        writing((lockSignal) =>
          copySnapshots(
            {
              source: vaultOf(source.upkeep),
              target: vault,
              abort: aborter(AbortSignal.any([lockSignal, sourceSignal]), options.signal),
            },
            options,
          ),
        ),
      ),
    walk: (tree, options) => walkNodes(vault, tree, options),
    diff: (options) => locks.withLock('shared', () => diffTrees(vault, options)),
    tar: (tree, signal) => tarOf(vault, tree, signal),
    zip: (tree, signal) => zipOf(vault, tree, signal === undefined ? {} : { signal }),
    packsOf: (id, type) => vault.index.blobs.places(id, type).map(({ pack }) => pack),
  }
  vaults.set(upkeep, vault)
  return upkeep
}
