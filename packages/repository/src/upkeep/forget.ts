/** Owns removing snapshots: by a policy or by name. What they alone refer to stays until a prune. */
import type { SnapshotId } from '../format/ids.ts'
import { timestampFromMs } from '../format/timestamp.ts'
import type { Snapshot } from '../load/snapshots.ts'
import type { Vault } from '../vault.ts'
import { deleteIfThere } from './index-files.ts'
import { applyRetention, type KeptSnapshot, type RetentionPolicy } from './retention.ts'
import { type SnapshotSelection, selectSnapshots } from './select-snapshots.ts'
import { type GroupField, groupSnapshots } from './snapshot-groups.ts'

export interface ForgetOptions {
  /** `remove_all`: nothing is kept of what is selected. */
  readonly policy: RetentionPolicy | 'remove_all'
  /** Default: host and paths. */
  readonly groupBy?: readonly GroupField[]
  /** Others are left alone. */
  readonly selection?: SnapshotSelection
}

export interface ForgottenGroup {
  readonly hostname: string | null
  readonly paths: readonly string[] | null
  readonly tags: readonly string[] | null
  /** Newest first. */
  readonly keep: readonly KeptSnapshot<Snapshot>[]
  readonly remove: readonly Snapshot[]
}

/** What the policy says, per group; nothing is removed. @throws Failure `object_damaged` */
export async function planForget(vault: Vault, options: ForgetOptions): Promise<readonly ForgottenGroup[]> {
  const snapshots = await selectSnapshots(vault, options.selection)
  const now = timestampFromMs(vault.clock.wallMs())
  const { policy } = options
  return groupSnapshots(snapshots, options.groupBy ?? ['host', 'paths']).map(({ snapshots: members, ...group }) => ({
    ...group,
    ...(policy === 'remove_all' ? { keep: [], remove: members.toReversed() } : applyRetention(members, policy, now)),
  }))
}

/** Removes the snapshots; one that is gone already is no failure. The caller holds an exclusive lock. */
export async function removeSnapshots(vault: Vault, ids: readonly SnapshotId[], abort: () => void): Promise<void> {
  for (const id of ids) {
    abort()
    await deleteIfThere(vault, 'snapshot', id)
  }
}
