/**
 * Owns what a check is limited to: snapshots that are named or selected, and the packs that hold what they refer to.
 * Does not own checking them.
 *
 * Invariant: a pack is chosen where any of its blobs was reached, wherever else that blob lies.
 */
import type { Failure } from '@stillpoint/core/kernel'
import { createBitSet } from '../index-memory/bit-set.ts'
import { listSnapshots, type Snapshot } from '../load/snapshots.ts'
import type { Vault } from '../vault.ts'
import type { PackListing, PackPlaces } from './pack-listing.ts'
import type { ReachedBlobs } from './reached-blobs.ts'
import { isSelected, resolveSnapshot, type SnapshotSelection, selectsAll } from './select-snapshots.ts'

export interface SnapshotChoice {
  /** Ids, their beginnings or `latest`; with none, all that are selected. */
  readonly ids: readonly string[]
  /** With ids it is for `latest` only. */
  readonly selection: SnapshotSelection
}

export const choosesAll = ({ ids, selection }: SnapshotChoice): boolean => ids.length === 0 && selectsAll(selection)

export interface ChoiceSinks {
  /** Takes damaged snapshots where all are looked at. */
  readonly onDamaged: (failure: Failure) => void
  /** Runs the search for one that is named; what it finds wrong with snapshots is noted there. */
  readonly noting: (part: () => Promise<void>) => Promise<boolean>
}

/** Each once. @throws Failure `snapshot_absent`, `snapshot_ambiguous` */
export async function chosenSnapshots(
  vault: Vault,
  { ids, selection }: SnapshotChoice,
  { onDamaged, noting }: ChoiceSinks,
): Promise<readonly Snapshot[]> {
  if (ids.length === 0) {
    return (await listSnapshots(vault, { onDamaged })).filter((snapshot) => isSelected(snapshot, selection))
  }
  const found = new Map<string, Snapshot>()
  for (const id of ids) {
    await noting(async () => {
      const snapshot = await resolveSnapshot(vault, id, selection)
      found.set(snapshot.id, snapshot)
    })
  }
  return [...found.values()]
}

/** Those of the listing that hold any of these blobs. Packs that no index file names are not among them. */
export function packsHolding(listing: PackListing, reached: ReachedBlobs): PackPlaces {
  const { index, packNumberEnd } = listing
  const holding = createBitSet(packNumberEnd)
  for (let pack = 0; pack < packNumberEnd; pack += 1) {
    index.eachRowOf(pack, ({ row }) => {
      if (reached.hasRow(row)) holding.add(pack)
    })
  }
  return {
    placeEnd: packNumberEnd,
    packAt: (place) => (holding.has(place) ? listing.packAt(place) : undefined),
  }
}
