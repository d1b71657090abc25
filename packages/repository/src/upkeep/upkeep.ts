/**
 * Owns the side of a repository that looks after it, and which lock each piece of work takes. What is done under the
 * locks is in a file per piece.
 */
import type { SnapshotId } from '../format/ids.ts'
import type { Snapshot } from '../load/snapshots.ts'
import type { Vault } from '../vault.ts'
import { type ForgetOptions, type ForgottenGroup, planForget, removeSnapshots } from './forget.ts'
import type { LockKeeper, LockMode } from './lock.ts'
import { type PruneOptions, type PruneReport, pruneRepository } from './prune.ts'
import { type RepairIndexOptions, type RepairIndexReport, repairIndex } from './repair-index.ts'
import { type RepairedPack, type RepairPacksOptions, repairPacks } from './repair-packs.ts'
import { type RepairedSnapshot, type RepairSnapshotsOptions, repairSnapshots } from './repair-snapshots.ts'
import { resolveSnapshot, resolveSnapshots, type SnapshotSelection } from './select-snapshots.ts'

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
  /** Writes snapshots anew without what is lost. @throws Failure `tree_not_rewritable` */
  repairSnapshots(options?: RepairSnapshotsOptions): Promise<readonly RepairedSnapshot[]>
}

/** What changes nothing needs to keep nobody out. */
function modeOf(options: { readonly dryRun?: boolean } | undefined): LockMode {
  return options?.dryRun === true ? 'shared' : 'exclusive'
}

export function createUpkeep(vault: Vault, locks: LockKeeper): Upkeep {
  const aborter = (lockSignal: AbortSignal, signal: AbortSignal | undefined) => () => {
    signal?.throwIfAborted()
    lockSignal.throwIfAborted()
  }
  return {
    resolveSnapshots: (ids, selection) => resolveSnapshots(vault, ids, selection),
    resolveSnapshot: (id, selection) => resolveSnapshot(vault, id, selection),
    planForget: (options) => planForget(vault, options),
    removeSnapshots: (ids, signal) =>
      locks.withLock('exclusive', async (lockSignal) => {
        await removeSnapshots(vault, ids, aborter(lockSignal, signal))
        await vault.store.sweep()
      }),
    prune: (options = {}) =>
      locks.withLock(modeOf(options), (lockSignal) => pruneRepository(vault, lockSignal, options)),
    repairIndex: (options) => locks.withLock(modeOf(options), (lockSignal) => repairIndex(vault, lockSignal, options)),
    repairPacks: (ids, options = {}) =>
      locks.withLock('exclusive', (lockSignal) => repairPacks(vault, ids, { lockSignal, options })),
    repairSnapshots: (options) =>
      locks.withLock(modeOf(options), (lockSignal) => repairSnapshots(vault, lockSignal, options)),
  }
}
