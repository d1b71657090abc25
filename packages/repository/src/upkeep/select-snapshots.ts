/** Owns choosing snapshots by host, tags and paths, as restic's options do, or by their ids. */
import { Failure } from '@stillpoint/core/kernel'
import { findSnapshot, listSnapshots, type Snapshot } from '../load/snapshots.ts'
import type { Vault } from '../vault.ts'

/** All that are given must hold. */
export interface SnapshotSelection {
  /** One of these hosts. */
  readonly hostnames?: readonly string[]
  /** All tags of one of these lists; an empty list stands for "no tags". */
  readonly tags?: readonly (readonly string[])[]
  /** All of these paths. */
  readonly paths?: readonly string[]
}

export function selectsAll({ hostnames = [], tags = [], paths = [] }: SnapshotSelection): boolean {
  return hostnames.length + tags.length + paths.length === 0
}

export function isSelected(snapshot: Snapshot, { hostnames = [], tags = [], paths = [] }: SnapshotSelection): boolean {
  if (hostnames.length > 0 && !hostnames.includes(snapshot.hostname)) return false
  if (tags.length > 0 && !tags.some((list) => hasAll(snapshot, list))) return false
  return paths.every((path) => snapshot.paths.includes(path))
}

function hasAll(snapshot: Snapshot, tags: readonly string[]): boolean {
  return tags.length === 0 ? snapshot.tags.length === 0 : tags.every((tag) => snapshot.tags.includes(tag))
}

/** Oldest first. @throws Failure `object_damaged` */
export async function selectSnapshots(vault: Vault, selection: SnapshotSelection = {}): Promise<readonly Snapshot[]> {
  return (await listSnapshots(vault)).filter((snapshot) => isSelected(snapshot, selection))
}

/**
 * Those named, by id, its beginning or `latest`, each once and in that order; all that are selected where none is named.
 * @throws Failure `snapshot_absent`, `snapshot_ambiguous`, `object_damaged`
 */
export async function resolveSnapshots(
  vault: Vault,
  ids: readonly string[],
  selection: SnapshotSelection = {},
): Promise<readonly Snapshot[]> {
  if (ids.length === 0) return selectSnapshots(vault, selection)
  const found = new Map<string, Snapshot>()
  for (const id of ids) {
    const snapshot = await resolveSnapshot(vault, id, selection)
    found.set(snapshot.id, snapshot)
  }
  return [...found.values()]
}

/** One snapshot; the selection is for `latest` only, as with restic. @throws as `resolveSnapshots` */
export async function resolveSnapshot(vault: Vault, id: string, selection: SnapshotSelection = {}): Promise<Snapshot> {
  if (id !== 'latest') return findSnapshot(vault, id)
  const latest = (await selectSnapshots(vault, selection)).at(-1)
  if (latest !== undefined) return latest
  throw new Failure({
    code: 'snapshot_absent',
    message: 'there is no snapshot that matches',
    hint: 'List the snapshots to see which there are.',
  })
}
