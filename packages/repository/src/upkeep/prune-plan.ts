/**
 * Owns what a prune will do with each pack: keep, repack or delete; a pure function of the survey and the limits.
 * The rules are restic's: packs with trees are repacked whenever anything in them is unused, others beginning with the
 * emptiest until no more than the tolerated share is unused; and small packs where there are many of them, for each backup
 * adds some.
 */
import { createBitSet } from '../index-memory/bit-set.ts'
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
  /** Also repack packs of less than 80 % of the usual size, and not only very small ones where there are ten or more. */
  readonly repackSmall?: boolean
  /** The same with another bound. */
  readonly repackBelowBytes?: number
  /** Also repack packs with blobs that nobody tried to compress. */
  readonly repackUncompressed?: boolean
  /** Only repack packs of trees. */
  readonly repackTreesOnly?: boolean
}

export interface PlanSettings extends PrunePolicy {
  /** What packs are to have. */
  readonly packBytesUsual: number
  /** There is room for no more than this in new packs. Default: enough. */
  readonly roomBytes?: number
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
  const allowed = whole.filter((pack) => of(use.usedBlobs, pack) > 0 && isAllowed(use, pack, policy))
  const isSmall = smallPacks(allowed, { survey, policy })
  const candidates = allowed.filter((pack) => isGainful(use, pack, policy) || isSmall.has(pack)).sort(byGain(survey))
  const repack = choose(candidates, { whole, remove, isSmall, policy, use })
  return { repack, remove, drop, orphans: survey.orphans, stats: statsOf({ whole, remove, repack, survey }) }
}

const isMixed = (use: PackUse, pack: number) => use.hasTrees(pack) && use.hasData(pack)
/** Of nothing but data; also a pack of nothing at all. */
const isData = (use: PackUse, pack: number) => !use.hasTrees(pack)
const bytesOf = (use: PackUse, pack: number) => (use.usedBytes[pack] ?? 0) + (use.unusedBytes[pack] ?? 0)

function isAllowed(use: PackUse, pack: number, { repackTreesOnly }: PlanSettings): boolean {
  return repackTreesOnly !== true || !(isData(use, pack) || isMixed(use, pack))
}

/** Whether it is better by itself when it was repacked: not only together with others. */
function isGainful(use: PackUse, pack: number, { repackUncompressed }: PlanSettings): boolean {
  if ((use.unusedBlobs[pack] ?? 0) > 0 || isMixed(use, pack)) return true
  return repackUncompressed === true && use.hasUncompressed(pack)
}

/** Below it a pack is small. */
function smallBytes({ repackBelowBytes, repackSmall, packBytesUsual }: PlanSettings): number {
  return repackBelowBytes ?? packBytesUsual * (repackSmall === true ? 0.8 : verySmall)
}

const isAskedFor = ({ repackBelowBytes, repackSmall }: PlanSettings) =>
  repackSmall === true || repackBelowBytes !== undefined

const verySmall = 1 / 25
/** Fewer very small ones are left alone: each prune would make of them what they were. */
const verySmallMin = 10

interface Packs {
  has(pack: number): boolean
}

/** Those that gain nothing but company. */
function smallPacks(
  allowed: readonly number[],
  { survey, policy }: { readonly survey: PruneSurvey; readonly policy: PlanSettings },
): Packs {
  const { use, index } = survey
  const company = createBitSet(index.packNumberEnd)
  const small = allowed.filter((pack) => bytesOf(use, pack) < smallBytes(policy))
  // Data and trees go into packs of their own: one of its kind would become the same pack again.
  const trees = small.filter((pack) => !isData(use, pack)).length
  const isAlone = (pack: number) => (isData(use, pack) ? small.length - trees : trees) === 1
  const pure = small.filter((pack) => !isGainful(use, pack, policy))
  if (!isAskedFor(policy) && pure.length < verySmallMin) return company
  for (const pack of pure) if (!isAlone(pack)) company.add(pack)
  return company
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
  readonly isSmall: Packs
  readonly policy: PlanSettings
  readonly use: PackUse
}

function choose(candidates: readonly number[], { whole, remove, isSmall, policy, use }: Choosing): readonly number[] {
  const unusedMax = unusedBytesMax(policy.maxUnused ?? maxUnusedDefault, sumOf(whole, use.usedBytes))
  let unused = sumOf(whole, use.unusedBytes) - sumOf(remove, use.unusedBytes)
  const { maxRepackBytes = Number.POSITIVE_INFINITY, roomBytes = Number.POSITIVE_INFINITY } = policy
  let repackBytes = 0
  let newBytes = 0
  const chosen: number[] = []
  for (const pack of candidates) {
    const bytes = bytesOf(use, pack)
    const usedBytes = use.usedBytes[pack] ?? 0
    if (repackBytes + bytes > maxRepackBytes || newBytes + usedBytes > roomBytes) continue
    const isForced =
      !isData(use, pack) || isSmall.has(pack) || (policy.repackUncompressed === true && use.hasUncompressed(pack))
    const isLarge = !isAskedFor(policy) || bytes >= smallBytes(policy)
    if (!isForced && unused <= unusedMax && isLarge) continue
    chosen.push(pack)
    repackBytes += bytes
    newBytes += usedBytes
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
