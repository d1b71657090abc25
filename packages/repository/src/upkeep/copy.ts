/**
 * Owns copying snapshots into another repository, blob by blob: what is there already is not copied again.
 *
 * Invariants: 1. a snapshot is written into the target only after everything that it reaches is durable there. 2. Every
 * blob was verified against its id on the way. After a crash what was copied is found, and the next copy goes on.
 */

import { Failure } from '@stillpoint/core/kernel'
import type { PackId, SnapshotId } from '../format/ids.ts'
import type { PackEntry } from '../format/pack.ts'
import { listSnapshots, type Snapshot } from '../load/snapshots.ts'
import type { Vault } from '../vault.ts'
import { createBlobSet } from './blob-set.ts'
import { readPackBlobs } from './pack-stream.ts'
import { createRepacker } from './repacker.ts'
import { rewriteSnapshot } from './rewrite-snapshot.ts'
import { reachableBlobs } from './walk-trees.ts'

export interface CopyProgress {
  readonly snapshot: SnapshotId
  readonly blobs: number
  readonly blobsTotal: number
}

export interface CopyOptions {
  /** Of the source. */
  readonly snapshots: readonly Snapshot[]
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: CopyProgress) => void
}

export interface CopiedSnapshot {
  readonly source: Snapshot
  /** In the target. */
  readonly id: SnapshotId
  /** It was there before. */
  readonly wasThere: boolean
  readonly blobsCopied: number
  readonly bytesCopied: number
}

interface Copy {
  readonly source: Vault
  readonly target: Vault
  readonly abort: () => void
}

/** @throws Failure `object_damaged`, `object_missing`, `no_space`, … */
export async function copySnapshots(
  { source, target, abort }: Copy,
  options: CopyOptions,
): Promise<readonly CopiedSnapshot[]> {
  await source.index.refresh()
  await target.index.refresh()
  const there = await listSnapshots(target)
  const copiedBlobs = createBlobSet()
  const copied: CopiedSnapshot[] = []
  for (const snapshot of options.snapshots) {
    abort()
    const same = there.find((other) => isCopyOf(other, snapshot))
    if (same !== undefined) {
      copied.push({ source: snapshot, id: same.id, wasThere: true, blobsCopied: 0, bytesCopied: 0 })
      continue
    }
    const root = { tree: snapshot.tree, path: `snapshot ${snapshot.id.slice(0, 8)}:/` }
    const reached = await reachableBlobs(source, [root], { abort })
    const missing = new Map<PackId, PackEntry[]>()
    let blobsTotal = 0
    reached.each((id, type) => {
      if (target.index.blobs.has(id, type) || !copiedBlobs.add(id, type)) return
      const [place] = source.index.blobs.places(id, type)
      if (place === undefined) throw lost(id, type)
      const entries = missing.get(place.pack)
      if (entries === undefined) missing.set(place.pack, [place])
      else entries.push(place)
      blobsTotal += 1
    })
    const bytesCopied = await copyBlobs({ source, target, abort }, missing, (blobs) =>
      options.onProgress?.({ snapshot: snapshot.id, blobs, blobsTotal }),
    )
    const id = await rewriteSnapshot(source, snapshot.id, { into: target, withoutParent: true })
    copied.push({ source: snapshot, id, wasThere: false, blobsCopied: blobsTotal, bytesCopied })
  }
  await target.index.refresh()
  return copied
}

function lost(id: string, type: string): Failure {
  const message = `${type} blob ${id} is in no index of the source`
  return new Failure({ code: 'object_missing', message, hint: 'Check the source and repair it first.' })
}

/** Returns the bytes of the plaintexts. All of them are durable and in an index when it resolves. */
async function copyBlobs(
  { source, target, abort }: Copy,
  missing: ReadonlyMap<PackId, readonly PackEntry[]>,
  onDone: (blobs: number) => void,
): Promise<number> {
  const repacker = createRepacker(target)
  let blobs = 0
  let bytes = 0
  for (const [pack, entries] of missing) {
    for await (const { entry, plaintext } of readPackBlobs(source, pack, entries)) {
      abort()
      // Sealed anew: the target has other keys.
      await repacker.add({ entry, plaintext, sealed: undefined })
      blobs += 1
      bytes += plaintext.length
      onDone(blobs)
    }
  }
  await repacker.finish()
  return bytes
}

/** Of the same origin and equal in all that tells snapshots apart, as restic decides it. */
function isCopyOf(there: Snapshot, snapshot: Snapshot): boolean {
  const originOf = ({ original, id }: Snapshot) => original ?? id
  const fieldsOf = ({ time, tree, hostname, username, uid, gid, paths, excludes, tags }: Snapshot) =>
    JSON.stringify([`${time}`, tree, hostname, username, uid, gid, paths, excludes, tags])
  return originOf(there) === originOf(snapshot) && fieldsOf(there) === fieldsOf(snapshot)
}
