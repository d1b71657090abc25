/**
 * Owns the decision which snapshots are kept by a policy, and why: restic's rules, as a pure function.
 * Does not own removing them (forget.ts), nor which snapshots belong together (snapshot-groups.ts).
 *
 * Invariants: 1. what is kept depends on the snapshots and the policy only; `now` decides no more than which snapshots
 * are in the future, and so do not count as the latest. 2. Every snapshot that is kept has a reason. 3. An empty policy
 * keeps everything.
 *
 * Hours, days, weeks (ISO 8601), months and years are those of the place where the snapshot was taken (its UTC offset).
 */
import type { Timestamp } from '../format/timestamp.ts'
import { isZeroSpan, type RetentionSpan, spanBefore, spanText } from './retention-span.ts'

export const retentionPeriods = ['hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const
export type RetentionPeriod = (typeof retentionPeriods)[number]

/** How many of the newest are kept, or all. */
export type KeepCount = number | 'unlimited'

export interface RetentionPolicy {
  readonly last?: KeepCount
  /** The newest snapshot of each of the newest periods that have one. */
  readonly counts?: Readonly<Partial<Record<RetentionPeriod, KeepCount>>>
  /** Everything that is newer than this, counted back from the latest snapshot. */
  readonly within?: RetentionSpan
  /** The newest snapshot of each period within the span. */
  readonly withinPeriods?: Readonly<Partial<Record<RetentionPeriod, RetentionSpan>>>
  /** Snapshots that have all tags of one of these lists. */
  readonly tags?: readonly (readonly string[])[]
  /**
   * Also keep the oldest snapshot while a count is not used up, as restic does since 0.16: so the history is as long
   * as it can be. Default: true.
   */
  readonly keepOldest?: boolean
}

export interface RetentionSubject {
  readonly time: Timestamp
  readonly utcOffsetMinutes?: number
  readonly tags: readonly string[]
}

export interface KeptSnapshot<T> {
  readonly snapshot: T
  /** In restic's words: `last snapshot`, `daily snapshot`, `within 1y6m`, `has tags [a, b]` … */
  readonly reasons: readonly string[]
}

export interface RetentionDecision<T> {
  /** Newest first. */
  readonly keep: readonly KeptSnapshot<T>[]
  readonly remove: readonly T[]
}

export function isEmptyPolicy(policy: RetentionPolicy): boolean {
  const spans = [policy.within, ...Object.values(policy.withinPeriods ?? {})]
  const counts = [policy.last, ...Object.values(policy.counts ?? {})]
  return (
    counts.every((count) => (count ?? 0) === 0) &&
    spans.every((span) => span === undefined || isZeroSpan(span)) &&
    (policy.tags ?? []).length === 0
  )
}

interface Bucket {
  readonly name: 'last' | RetentionPeriod
  readonly reason: string
  /** Undefined: a bucket of a count. */
  readonly after: Timestamp | undefined
  left: number
  lastKey: number | undefined
}

/** @param now snapshots later than this do not count as the latest one */
export function applyRetention<T extends RetentionSubject>(
  snapshots: readonly T[],
  policy: RetentionPolicy,
  now: Timestamp,
): RetentionDecision<T> {
  const newestFirst = [...snapshots].sort((left, right) =>
    left.time > right.time ? -1 : left.time < right.time ? 1 : 0,
  )
  if (isEmptyPolicy(policy)) {
    return { keep: newestFirst.map((snapshot) => ({ snapshot, reasons: ['policy is empty'] })), remove: [] }
  }
  const latest = newestFirst.find((snapshot) => snapshot.time < now)
  const buckets = bucketsOf(policy, latest)
  const withinAfter = after(policy.within, latest)
  const keep: KeptSnapshot<T>[] = []
  const remove: T[] = []
  newestFirst.forEach((snapshot, at) => {
    const reasons = (policy.tags ?? [])
      .filter((tags) => hasTags(snapshot, tags))
      .map((tags) => `has tags [${tags.join(', ')}]`)
    if (policy.within !== undefined && withinAfter !== undefined && snapshot.time > withinAfter) {
      reasons.push(`within ${spanText(policy.within)}`)
    }
    const isOldest = at === newestFirst.length - 1 && policy.keepOldest !== false
    for (const bucket of buckets) {
      const reason = take(bucket, snapshot, at, isOldest)
      if (reason !== undefined) reasons.push(reason)
    }
    if (reasons.length === 0) remove.push(snapshot)
    else keep.push({ snapshot, reasons })
  })
  return { keep, remove }
}

function hasTags(snapshot: RetentionSubject, tags: readonly string[]): boolean {
  return tags.every((tag) => snapshot.tags.includes(tag))
}

/** Undefined where there is no span, or no snapshot to count back from. */
function after(span: RetentionSpan | undefined, latest: RetentionSubject | undefined): Timestamp | undefined {
  if (span === undefined || isZeroSpan(span) || latest === undefined) return undefined
  return spanBefore(latest.time, latest.utcOffsetMinutes ?? 0, span)
}

function bucketsOf(policy: RetentionPolicy, latest: RetentionSubject | undefined): readonly Bucket[] {
  const counted = (name: Bucket['name'], count: KeepCount | undefined): Bucket[] => {
    const left = count === 'unlimited' ? Number.POSITIVE_INFINITY : (count ?? 0)
    return left > 0 ? [{ name, reason: `${name} snapshot`, after: undefined, left, lastKey: undefined }] : []
  }
  const spanned = (name: RetentionPeriod): Bucket[] => {
    const span = policy.withinPeriods?.[name]
    const from = after(span, latest)
    if (span === undefined || from === undefined) return []
    const reason = `${name} within ${spanText(span)}`
    return [{ name, reason, after: from, left: Number.POSITIVE_INFINITY, lastKey: undefined }]
  }
  return [
    ...counted('last', policy.last),
    ...retentionPeriods.flatMap((name) => counted(name, policy.counts?.[name])),
    ...retentionPeriods.flatMap(spanned),
  ]
}

/** The reason why the bucket keeps the snapshot, if it does; then one of its count is used. */
function take(bucket: Bucket, snapshot: RetentionSubject, at: number, isOldest: boolean): string | undefined {
  if (bucket.left <= 0 || (bucket.after !== undefined && snapshot.time <= bucket.after)) return undefined
  const key = bucket.name === 'last' ? at : periodKey(bucket.name, snapshot)
  const isNew = key !== bucket.lastKey
  if (!isNew && !isOldest) return undefined
  bucket.lastKey = key
  bucket.left -= 1
  return isNew ? bucket.reason : `oldest ${bucket.reason}`
}

/** Equal for snapshots of the same period, and only for those. */
function periodKey(period: RetentionPeriod, snapshot: RetentionSubject): number {
  const date = new Date(localMs(snapshot))
  const year = date.getUTCFullYear()
  switch (period) {
    case 'hourly':
      return Math.floor(localMs(snapshot) / 3_600_000)
    case 'daily':
      return Math.floor(localMs(snapshot) / dayMs)
    case 'weekly':
      // Weeks begin on Mondays; 1970 began on a Thursday.
      return Math.floor((Math.floor(localMs(snapshot) / dayMs) + 3) / 7)
    case 'monthly':
      return year * 12 + date.getUTCMonth()
    case 'yearly':
      return year
  }
}

const dayMs = 24 * 3_600_000

/** The clock on the wall where the snapshot was taken, as if it were UTC. */
function localMs(snapshot: RetentionSubject): number {
  // Rounded down also before 1970.
  const ms = Number((snapshot.time - (((snapshot.time % 1_000_000n) + 1_000_000n) % 1_000_000n)) / 1_000_000n)
  return ms + (snapshot.utcOffsetMinutes ?? 0) * 60_000
}
