/**
 * Owns what a prune will do with each pack: keep, repack or delete; a pure function of the survey and the limits.
 * The rules are restic's: packs with trees are repacked whenever anything in them is unused, others beginning with the
 * emptiest until no more than the tolerated share is unused.
 */
import type { PackId } from '../format/ids.ts'
import type { PackState, PruneSurvey } from './prune-survey.ts'

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

export interface PruneAmount {
  readonly blobs: number
  readonly bytes: number
}

export interface PrunePlan {
  /** Packs whose used blobs move into new ones. */
  readonly repack: readonly PackState[]
  /** Packs in an index without any used blob. */
  readonly remove: readonly PackState[]
  /** Packs in no index. */
  readonly orphans: PruneSurvey['orphans']
  /** What the index names and is not there as it should be; nobody needs it. */
  readonly drop: readonly PackState[]
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

const packBytesUsual = 16 << 20
const maxUnusedDefault: UnusedLimit = { kind: 'percent', percent: 5 }

export function planPrune(survey: PruneSurvey, policy: PrunePolicy): PrunePlan {
  const all = [...survey.packs.values()]
  const drop = all.filter(({ bytes }) => bytes === undefined)
  const whole = all.filter(({ bytes }) => bytes !== undefined)
  const remove = whole.filter(({ usedBlobs }) => usedBlobs === 0)
  const candidates = whole.filter((pack) => pack.usedBlobs > 0 && isCandidate(pack, policy)).sort(byGain)
  const repack = choose(candidates, { whole, remove, policy })
  return { repack, remove, drop, orphans: survey.orphans, stats: statsOf({ whole, remove, repack, survey }) }
}

function isCandidate(pack: PackState, policy: PrunePolicy): boolean {
  if (policy.repackTreesOnly === true && pack.type !== 'tree') return false
  if (pack.unusedBlobs > 0 || pack.type === 'mixed') return true
  if (policy.repackSmall === true && pack.usedBytes < packBytesUsual * 0.8) return true
  return policy.repackUncompressed === true && pack.hasUncompressed
}

/** Trees first, then by how much is freed for what has to be copied. Equal inputs, equal order. */
function byGain(left: PackState, right: PackState): number {
  const isData = (pack: PackState) => (pack.type === 'data' ? 1 : 0)
  if (isData(left) !== isData(right)) return isData(left) - isData(right)
  const gain = right.unusedBytes * left.usedBytes - left.unusedBytes * right.usedBytes
  return gain !== 0 ? gain : left.id < right.id ? -1 : 1
}

interface Choosing {
  readonly whole: readonly PackState[]
  readonly remove: readonly PackState[]
  readonly policy: PrunePolicy
}

function choose(candidates: readonly PackState[], { whole, remove, policy }: Choosing): readonly PackState[] {
  const usedBytes = sumOf(whole, ({ usedBytes }) => usedBytes)
  const unusedMax = unusedBytesMax(policy.maxUnused ?? maxUnusedDefault, usedBytes)
  let unused = sumOf(whole, ({ unusedBytes }) => unusedBytes) - sumOf(remove, ({ unusedBytes }) => unusedBytes)
  let repackBytes = 0
  const chosen: PackState[] = []
  const small = candidates.filter((pack) => pack.usedBytes + pack.unusedBytes < packBytesUsual * 0.8).length
  for (const pack of candidates) {
    const bytes = pack.usedBytes + pack.unusedBytes
    if (repackBytes + bytes > (policy.maxRepackBytes ?? Number.POSITIVE_INFINITY)) continue
    const isForced = pack.type !== 'data' || (policy.repackUncompressed === true && pack.hasUncompressed)
    const isLarge = bytes >= packBytesUsual * 0.8
    if (pack.unusedBlobs === 0 && !isForced && small < 2) continue // alone it would become the same pack again
    if (!isForced && unused <= unusedMax && (isLarge || policy.repackSmall !== true)) continue
    chosen.push(pack)
    repackBytes += bytes
    unused -= pack.unusedBytes
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

function sumOf(packs: readonly PackState[], of: (pack: PackState) => number): number {
  return packs.reduce((sum, pack) => sum + of(pack), 0)
}

interface Chosen {
  readonly whole: readonly PackState[]
  readonly remove: readonly PackState[]
  readonly repack: readonly PackState[]
  readonly survey: PruneSurvey
}

function statsOf({ whole, remove, repack, survey }: Chosen): PruneStats {
  const used = (packs: readonly PackState[]): PruneAmount => ({
    blobs: sumOf(packs, ({ usedBlobs }) => usedBlobs),
    bytes: sumOf(packs, ({ usedBytes }) => usedBytes),
  })
  const unused = (packs: readonly PackState[]): PruneAmount => ({
    blobs: sumOf(packs, ({ unusedBlobs }) => unusedBlobs),
    bytes: sumOf(packs, ({ unusedBytes }) => unusedBytes),
  })
  const [allUsed, allUnused, repackUsed, repackRemoves] = [used(whole), unused(whole), used(repack), unused(repack)]
  const removed = unused(remove)
  const orphanBytes = survey.orphans.reduce((sum, { bytes }) => sum + bytes, 0)
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
    packsDeleted: remove.length + survey.orphans.length,
  }
}

export function idsOf(packs: readonly { readonly id: PackId }[]): readonly PackId[] {
  return packs.map(({ id }) => id)
}
