/** Owns changing the tags of snapshots: a snapshot never changes, so it is written anew and the old one removed. */
import type { SnapshotId } from '../format/ids.ts'
import type { Snapshot } from '../load/snapshots.ts'
import type { Vault } from '../vault.ts'
import { deleteIfThere } from './index-files.ts'
import { rewriteSnapshot } from './rewrite-snapshot.ts'

export interface TagChange {
  readonly snapshots: readonly Snapshot[]
  /** Replaces all tags; then nothing is added or removed. */
  readonly set?: readonly string[]
  readonly add?: readonly string[]
  readonly remove?: readonly string[]
  readonly signal?: AbortSignal
}

export interface TaggedSnapshot {
  readonly oldId: SnapshotId
  readonly newId: SnapshotId
  readonly tags: readonly string[]
}

/** Those that changed. After a crash between writing and removing, both are there. */
export async function tagSnapshots(
  vault: Vault,
  lockSignal: AbortSignal,
  change: TagChange,
): Promise<readonly TaggedSnapshot[]> {
  const tagged: TaggedSnapshot[] = []
  for (const snapshot of change.snapshots) {
    change.signal?.throwIfAborted()
    lockSignal.throwIfAborted()
    const tags = change.set ?? changedTags(snapshot.tags, change)
    if (JSON.stringify(tags) === JSON.stringify(snapshot.tags)) continue
    const newId = await rewriteSnapshot(vault, snapshot.id, { tags, original: 'first' })
    await deleteIfThere(vault, 'snapshot', snapshot.id)
    tagged.push({ oldId: snapshot.id, newId, tags })
  }
  return tagged
}

function changedTags(tags: readonly string[], { add = [], remove = [] }: TagChange): readonly string[] {
  const added = [...tags, ...add.filter((tag, at) => !tags.includes(tag) && add.indexOf(tag) === at)]
  return added.filter((tag) => !remove.includes(tag))
}
