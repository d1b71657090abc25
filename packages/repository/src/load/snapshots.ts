/** Owns listing and finding snapshots. */
import { Failure, isFailure } from '@stillpoint/core/kernel'
import { listAll } from '../blob/blob-store.ts'
import { type SnapshotId, snapshotId } from '../format/ids.ts'
import { decodeSnapshot, type SnapshotRecord } from '../format/snapshot.ts'
import { readDocument, type Vault } from '../vault.ts'

export interface Snapshot extends SnapshotRecord {
  readonly id: SnapshotId
}

/** All that are given must hold. */
export interface SnapshotFilter {
  readonly hostname?: string
  /** The snapshot has all of them. */
  readonly tags?: readonly string[]
  /** The snapshot has all of them. */
  readonly paths?: readonly string[]
}

export interface ListSnapshotsOptions {
  readonly filter?: SnapshotFilter
  /** Takes damaged snapshots, so that the others can be listed. */
  readonly onDamaged?: (failure: Failure) => void
}

/** Oldest first. */
export async function listSnapshots(vault: Vault, options: ListSnapshotsOptions = {}): Promise<Snapshot[]> {
  const snapshots: Snapshot[] = []
  for (const { name } of await listAll(vault.store, 'snapshot')) {
    try {
      const snapshot = await readSnapshot(vault, snapshotId(name))
      if (matches(snapshot, options.filter)) snapshots.push(snapshot)
    } catch (error) {
      if (isFailure(error, 'object_missing')) continue // deleted since it was listed
      if (!isFailure(error, 'object_damaged') || options.onDamaged === undefined) throw error
      options.onDamaged(error)
    }
  }
  return snapshots.sort((left, right) => (left.time < right.time ? -1 : left.time > right.time ? 1 : 0))
}

async function readSnapshot(vault: Vault, id: SnapshotId): Promise<Snapshot> {
  return { id, ...(await readDocument(vault, { kind: 'snapshot', name: id }, decodeSnapshot)) }
}

function matches(snapshot: Snapshot, filter: SnapshotFilter = {}): boolean {
  if (filter.hostname !== undefined && snapshot.hostname !== filter.hostname) return false
  if (filter.tags?.some((tag) => !snapshot.tags.includes(tag)) === true) return false
  return filter.paths?.some((path) => !snapshot.paths.includes(path)) !== true
}

/** @throws Failure `snapshot_absent`, `snapshot_ambiguous`, `object_damaged` */
export async function findSnapshot(vault: Vault, wanted: string, filter: SnapshotFilter = {}): Promise<Snapshot> {
  if (wanted === 'latest') {
    const latest = (await listSnapshots(vault, { filter })).at(-1)
    if (latest === undefined) throw absent('there is no snapshot that matches')
    return latest
  }
  if (!/^[0-9a-f]{1,64}$/.test(wanted)) throw absent(`${JSON.stringify(wanted.slice(0, 80))} is no id of a snapshot`)
  const names = (await listAll(vault.store, 'snapshot')).map((object) => object.name)
  const [found, second] = names.filter((name) => name.startsWith(wanted))
  if (found === undefined) throw absent(`there is no snapshot whose id begins with ${wanted}`)
  if (second !== undefined) {
    throw new Failure({
      code: 'snapshot_ambiguous',
      message: `several snapshots have ids that begin with ${wanted}, among them ${found} and ${second}`,
      hint: 'Give more digits.',
    })
  }
  const snapshot = await readSnapshot(vault, snapshotId(found))
  if (!matches(snapshot, filter)) throw absent(`snapshot ${found} does not match the filter`)
  return snapshot
}

function absent(message: string): Failure {
  return new Failure({ code: 'snapshot_absent', message, hint: 'List the snapshots to see which there are.' })
}
