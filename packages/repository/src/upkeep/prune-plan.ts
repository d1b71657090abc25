/**
 * Owns what a prune will do with each pack: keep, repack or delete; a pure function of the survey and the limits.
 * The rules are restic's: packs with trees are repacked whenever anything in them is unused, others beginning with the
 * emptiest until no more than the tolerated share is unused.
 */
import type { PackUse, PruneSurvey } from './prune-survey.ts'

/** How much unused data may stay: a share of the repository in percent, bytes, or any. */
export type UnusedLimit =
  | { readonly kind: 'percent'; readonly percent: number }
  | { readonly kind: 'bytes'; readonly bytes: number }
  | { readonly kind: 'unlimited' }

export interface PrunePolicy {
  /** Default: 5 %. */
  readonly maxUnused?: UnusedLimit
  /** Packs of at most this size in sum are repacked. Default: no limit. */
  readonly maxRepackBytes?: number
  /** Also repack packs of less than 80 % of the usual size. */
  readonly repackSmall?: boolean
  /** Also repack packs with blobs that nobody tried to compress. */
  readonly repackUncompressed?: boolean
  /** Only repack packs of trees. */
  readonly repackTreesOnly?: boolean
}

export interface PlanSettings extends PrunePolicy {
  /** What packs are to have. */
  readonly packBytesUsual: number
}

export interface PruneAmount {
  readonly blobs: number
  readonly bytes: number
}

/** Packs are numbers of the index. */
export interface PrunePlan {
  /** Packs whose used blobs move into new ones. */
  readonly repack: readonly number[]
  /** Packs in an index without any used blob. */
  readonly remove: readonly number[]
  /** Packs in no index. */
  readonly orphans: PruneSurvey['orphans']
  /** What the index names and is not there as it should be; nobody needs it. */
  readonly drop: readonly number[]
  readonly stats: PruneStats
}

export interface PruneStats {
  readonly used: PruneAmount
  readonly unused: PruneAmount
  readonly toRepack: PruneAmount
  /** Of what is repacked, what is left out. */
  readonly repackRemoves: PruneAmount
  /** In packs that are deleted as they are, those of no index among them (whose blobs are not counted). */
  readonly toDelete: PruneAmount
  readonly remaining: PruneAmount
  readonly unusedAfterBytes: number
  readonly packsKept: number
  readonly packsRepacked: number
  readonly packsDeleted: number
}

const maxUnusedDefault: UnusedLimit = { kind: 'percent', percent: 5 }

export function planPrune(survey: PruneSurvey, policy: PlanSettings): PrunePlan {
  const { named, use } = survey
  const of = (column: Uint32Array | Float64Array, pack: number) => column[pack] ?? 0
  const drop: number[] = []
  const whole: number[] = []
  for (const pack of named.order) (use.isWhole(pack) ? whole : drop).push(pack)
  const remove = whole.filter((pack) => of(use.usedBlobs, pack) === 0)
  const candidates = whole.filter((pack) => of(use.usedBlobs, pack) > 0 && isCandidate(use, pack, policy))
  candidates.sort(byGain(survey))
  const repack = choose(candidates, { whole, remove, policy, use })
  return { repack, remove, drop, orphans: survey.orphans, stats: statsOf({ whole, remove, repack, survey }) }
}

const isMixed = (use: PackUse, pack: number) => use.hasTrees(pack) && use.hasData(pack)
/** Of nothing but data; also a pack of nothing at all. */
const isData = (use: PackUse, pack: number) => !use.hasTrees(pack)

function isCandidate(use: PackUse, pack: number, policy: PlanSettings): boolean {
  if (policy.repackTreesOnly === true && (isData(use, pack) || isMixed(use, pack))) return false
  if ((use.unusedBlobs[pack] ?? 0) > 0 || isMixed(use, pack)) return true
  if (policy.repackSmall === true && (use.usedBytes[pack] ?? 0) < policy.packBytesUsual * 0.8) return true
  return policy.repackUncompressed === true && use.hasUncompressed(pack)
}

/** Trees first, then by how much is freed for what has to be copied. Equal inputs, equal order. */
function byGain({ index, use }: PruneSurvey): (left: number, right: number) => number {
  const { usedBytes, unusedBytes } = use
  return (left, right) => {
    if (isData(use, left) !== isData(use, right)) return isData(use, left) ? 1 : -1
    const gain = (unusedBytes[right] ?? 0) * (usedBytes[left] ?? 0) - (unusedBytes[left] ?? 0) * (usedBytes[right] ?? 0)
    return gain !== 0 ? gain : index.comparePacks(left, right)
  }
}

interface Choosing {
  readonly whole: readonly number[]
  readonly remove: readonly number[]
  readonly policy: PlanSettings
  readonly use: PackUse
}

function choose(candidates: readonly number[], { whole, remove, policy, use }: Choosing): readonly number[] {
  const unusedMax = unusedBytesMax(policy.maxUnused ?? maxUnusedDefault, sumOf(whole, use.usedBytes))
  const bytesOf = (pack: number) => (use.usedBytes[pack] ?? 0) + (use.unusedBytes[pack] ?? 0)
  let unused = sumOf(whole, use.unusedBytes) - sumOf(remove, use.unusedBytes)
  let repackBytes = 0
  const chosen: number[] = []
  const small = candidates.filter((pack) => bytesOf(pack) < policy.packBytesUsual * 0.8).length
  for (const pack of candidates) {
    const bytes = bytesOf(pack)
    if (repackBytes + bytes > (policy.maxRepackBytes ?? Number.POSITIVE_INFINITY)) continue
    const isForced = !isData(use, pack) || (policy.repackUncompressed === true && use.hasUncompressed(pack))
    const isLarge = bytes >= policy.packBytesUsual * 0.8
    if (use.unusedBlobs[pack] === 0 && !isForced && small < 2) continue // alone it would become the same pack again
    if (!isForced && unused <= unusedMax && (isLarge || policy.repackSmall !== true)) continue
    chosen.push(pack)
    repackBytes += bytes
    unused -= use.unusedBytes[pack] ?? 0
  }
  return chosen
}

function unusedBytesMax(limit: UnusedLimit, usedBytes: number): number {
  switch (limit.kind) {
    case 'unlimited':
      return Number.POSITIVE_INFINITY
    case 'bytes':
      return limit.bytes
    case 'percent':
      // Of the whole repository, used and unused.
      return limit.percent >= 100 ? Number.POSITIVE_INFINITY : (usedBytes * limit.percent) / (100 - limit.percent)
  }
}

function sumOf(packs: readonly number[], column: Uint32Array | Float64Array): number {
  return packs.reduce((sum, pack) => sum + (column[pack] ?? 0), 0)
}

interface Chosen {
  readonly whole: readonly number[]
  readonly remove: readonly number[]
  readonly repack: readonly number[]
  readonly survey: PruneSurvey
}

function statsOf({ whole, remove, repack, survey }: Chosen): PruneStats {
  const { use, orphans } = survey
  const used = (packs: readonly number[]): PruneAmount => ({
    blobs: sumOf(packs, use.usedBlobs),
    bytes: sumOf(packs, use.usedBytes),
  })
  const unused = (packs: readonly number[]): PruneAmount => ({
    blobs: sumOf(packs, use.unusedBlobs),
    bytes: sumOf(packs, use.unusedBytes),
  })
  const [allUsed, allUnused, repackUsed, repackRemoves] = [used(whole), unused(whole), used(repack), unused(repack)]
  const removed = unused(remove)
  const orphanBytes = orphans.reduce((sum, { bytes }) => sum + bytes, 0)
  const stay = allUnused.blobs - repackRemoves.blobs - removed.blobs
  const stayBytes = allUnused.bytes - repackRemoves.bytes - removed.bytes
  return {
    used: allUsed,
    unused: allUnused,
    toRepack: { blobs: repackUsed.blobs + repackRemoves.blobs, bytes: repackUsed.bytes + repackRemoves.bytes },
    repackRemoves,
    toDelete: { blobs: removed.blobs, bytes: removed.bytes + orphanBytes },
    remaining: { blobs: allUsed.blobs + stay, bytes: allUsed.bytes + stayBytes },
    unusedAfterBytes: stayBytes,
    packsKept: whole.length - remove.length - repack.length,
    packsRepacked: repack.length,
    packsDeleted: remove.length + orphans.length,
  }
}
