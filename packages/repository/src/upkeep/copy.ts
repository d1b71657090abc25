/**
 * Owns copying snapshots into another repository, blob by blob: what is there already is not copied again.
 *
 * Invariants: 1. a snapshot is written into the target only after everything that it reaches is durable there. 2. Every
 * blob was verified against its id on the way. After a crash what was copied is found, and the next copy goes on.
 */

import { Failure } from '@stillpoint/core/kernel'
import type { BlobPlace } from '../blob-index.ts'
import type { SnapshotId } from '../format/ids.ts'
import { listSnapshots, type Snapshot } from '../load/snapshots.ts'
import { eachOf } from '../parallel.ts'
import { createBlobSink } from '../save/blob-sink.ts'
import type { Vault } from '../vault.ts'
import { type BlobSet, createBlobSet } from './blob-set.ts'
import { createRangeOpener, type PackBlobs, rangeBounds } from './open-ranges.ts'
import { packRanges } from './pack-stream.ts'
import { rewriteSnapshot } from './rewrite-snapshot.ts'
import { idOfDigits } from './scan-tree.ts'
import { type WalkSink, walkTrees } from './walk-trees.ts'

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

/** Packs of so many bytes are named in an index, so that an interrupted copy need not repeat them. */
const indexEveryBytes = 512 << 20

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
    const first = copiedBlobs.size
    await walkTrees(source, [root], { abort, sink: missingInto(copiedBlobs, target) })
    const blobsTotal = copiedBlobs.size - first
    const bytesCopied = await copyBlobs({ source, target, abort }, { blobs: copiedBlobs, first }, (blobs) =>
      options.onProgress?.({ snapshot: snapshot.id, blobs, blobsTotal }),
    )
    const copy = { into: target, withoutParent: true, original: 'first' } as const
    const id = await rewriteSnapshot(source, snapshot.id, copy)
    copied.push({ source: snapshot, id, wasThere: false, blobsCopied: blobsTotal, bytesCopied })
  }
  await target.index.refresh()
  return copied
}

/** Adds what the target does not have. */
function missingInto(missing: BlobSet, target: Vault): WalkSink {
  const seen = createBlobSet()
  const there = target.index.blobs
  return {
    addTree(tree) {
      if (!seen.add(tree, 'tree')) return false
      if (!there.has(tree, 'tree')) missing.add(tree, 'tree')
      return true
    },
    addContent(content) {
      for (let at = 0; at < content.count; at += 1) {
        const digits = content.digits(at)
        if (there.plainBytesOfDigits(digits) === undefined) missing.add(idOfDigits(digits), 'data')
      }
    },
  }
}

function lost(id: string, type: string): Failure {
  const message = `${type} blob ${id} is in no index of the source`
  return new Failure({ code: 'object_missing', message, hint: 'Check the source and repair it first.' })
}

/** From the row `first` on. */
interface Missing {
  readonly blobs: BlobSet
  readonly first: number
}

/** Returns the bytes of the plaintexts. All of them are durable and in an index when it resolves. */
async function copyBlobs(
  { source, target, abort }: Copy,
  missing: Missing,
  onDone: (blobs: number) => void,
): Promise<number> {
  const sink = createBlobSink(target, { indexEveryBytes })
  const opener = createRangeOpener(source)
  let blobs = 0
  let bytes = 0
  try {
    await eachOf(rangesOf(placesOf(source, missing)), opener.rangesInFlightMax, async (range) => {
      abort()
      // Sealed anew: the target has other keys.
      const opened = await opener.open(range, sink)
      bytes += opened // not in one: others add to it meanwhile
      blobs += range.entries.length
      onDone(blobs)
    })
    await sink.finish()
  } catch (error) {
    await sink.discard()
    throw error
  }
  return bytes
}

function* rangesOf(packs: Iterable<PackBlobs>): Generator<PackBlobs> {
  for (const { pack, entries } of packs) {
    for (const range of packRanges(entries, rangeBounds)) yield { pack, entries: range }
  }
}

/** Pack by pack; places are made up when their pack's turn comes, for there may be very many. */
function* placesOf({ index: { blobs: index } }: Vault, { blobs, first }: Missing): Generator<PackBlobs> {
  const count = blobs.size - first
  const placeOf = (at: number): BlobPlace => {
    const { id, type } = blobs.at(first + at)
    const [place] = index.places(id, type)
    if (place === undefined) throw lost(id, type)
    return place
  }
  const packs = new Uint32Array(count)
  /** Where the blobs of each pack end in `ordered`: a counting sort. */
  const ends = new Uint32Array(index.packNumberEnd + 1)
  for (let at = 0; at < count; at += 1) {
    const pack = index.packNumber(placeOf(at).pack)
    packs[at] = pack
    ends[pack + 1] = (ends[pack + 1] ?? 0) + 1
  }
  for (let pack = 0; pack < ends.length - 1; pack += 1) ends[pack + 1] = (ends[pack + 1] ?? 0) + (ends[pack] ?? 0)
  const ordered = new Uint32Array(count)
  for (let at = 0; at < count; at += 1) {
    const pack = packs[at] ?? 0
    const to = ends[pack] ?? 0
    ordered[to] = at
    ends[pack] = to + 1
  }
  for (let from = 0; from < count; ) {
    const pack = packs[ordered[from] ?? 0] ?? 0
    const end = ends[pack] ?? 0
    const entries = Array.from(ordered.subarray(from, end), placeOf)
    yield { pack: index.packId(pack), entries }
    from = end
  }
}

/** Of the same origin and equal in all that tells snapshots apart, as restic decides it. */
function isCopyOf(there: Snapshot, snapshot: Snapshot): boolean {
  const originOf = ({ original, id }: Snapshot) => original ?? id
  const fieldsOf = ({ time, tree, hostname, username, uid, gid, paths, excludes, tags }: Snapshot) =>
    JSON.stringify([`${time}`, tree, hostname, username, uid, gid, paths, excludes, tags])
  return originOf(there) === originOf(snapshot) && fieldsOf(there) === fieldsOf(snapshot)
}
