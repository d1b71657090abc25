/**
 * Owns the rolling check of data: which packs a budget reads next, and how much has been read since when.
 * Does not own reading, nor where the times are kept (coverage-file.ts). Pure.
 *
 * Invariants: 1. what has not been read longest comes first, what has never been read before all; so whatever is stored is
 * read again and again, as long as budgets are not 0. 2. Counts are exact: they are of the packs that are there now.
 * 3. A time counts for a pack only if all of it was read then and found sound.
 */
import { Failure } from '@stillpoint/core/kernel'
import { parseBytes } from './byte-quantity.ts'
import { type PackPlaces, placesOf } from './pack-listing.ts'
import type { ReadTimes } from './read-times.ts'

export type ReadBudget =
  | { readonly kind: 'bytes'; readonly bytes: number }
  /** Of the bytes of all packs that there are to choose from. */
  | { readonly kind: 'percent'; readonly percent: number }
  /** Begins no pack after this time. */
  | { readonly kind: 'time'; readonly durationMs: number }

export interface ReadCoverage {
  /** Of the counts "within". */
  readonly withinMs: number
  readonly packs: number
  readonly bytes: number
  readonly packsWithin: number
  readonly bytesWithin: number
  readonly packsNever: number
  readonly bytesNever: number
  /** Of packs that have been read: when the one was that waits longest; undefined where none has been. */
  readonly oldestMs: number | undefined
}

const unitsMs: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000 }

/** Reads `10G`, `10%`, `2.5%`, and times: `30min`, `2h`, `1h30min`, `45s`. @throws Failure `options_invalid` */
export function parseReadBudget(text: string): ReadBudget {
  const [, percent] = /^(\d{1,3}(?:\.\d+)?)%$/.exec(text) ?? []
  if (percent !== undefined && Number(percent) > 0 && Number(percent) <= 100) {
    return { kind: 'percent', percent: Number(percent) }
  }
  // "m" alone are mebibytes, as in all sizes.
  if (/^(?:\d{1,6}(?:h|min|s))+$/.test(text)) {
    const parts = [...text.matchAll(/(\d+)(h|m|s)/g)]
    const durationMs = parts.reduce((sum, [, amount, unit = '']) => sum + Number(amount) * (unitsMs[unit] ?? 0), 0)
    if (durationMs > 0) return { kind: 'time', durationMs }
  }
  const bytes = parseBytes(text)
  if (bytes !== undefined && bytes > 0) return { kind: 'bytes', bytes }
  throw new Failure({
    code: 'options_invalid',
    message: `${JSON.stringify(text.slice(0, 40))} is no budget for reading data`,
    hint: 'Give a size such as 10G, a share such as 5%, or a time such as 30min or 2h.',
  })
}

/** Places of packs in the order in which they are to be read; of a time budget all, of the others as many as fit, but one at least. */
export function packsInBudget(packs: PackPlaces, budget: ReadBudget, times: Pick<ReadTimes, 'of'>): Uint32Array {
  const timeOf = (place: number) => times.of(place) ?? Number.NEGATIVE_INFINITY
  const bytesAt = (place: number) => packs.packAt(place)?.bytes ?? 0
  // Of those that were read at the same time, or never, in the order of their places: any that stays the same will do.
  const ordered = placesOf(packs).sort((left, right) => compare(timeOf(left), timeOf(right)) || left - right)
  if (budget.kind === 'time') return ordered
  const allBytes = ordered.reduce((sum, place) => sum + bytesAt(place), 0)
  let leftBytes = budget.kind === 'bytes' ? budget.bytes : Math.ceil((allBytes * budget.percent) / 100)
  let chosen = 0
  for (const place of ordered) {
    const bytes = bytesAt(place)
    // The order is kept: a small one that would still fit must not overtake what has waited longer.
    if (chosen > 0 && bytes > leftBytes) break
    chosen += 1
    leftBytes -= bytes
  }
  return ordered.subarray(0, chosen)
}

const compare = (left: number, right: number) => (left < right ? -1 : left > right ? 1 : 0)

export interface CoverageQuestion {
  readonly times: Pick<ReadTimes, 'of'>
  readonly nowMs: number
  readonly withinMs: number
}

export function coverageOf(packs: PackPlaces, { times, nowMs, withinMs }: CoverageQuestion): ReadCoverage {
  const count = { packs: 0, bytes: 0, packsWithin: 0, bytesWithin: 0, packsNever: 0, bytesNever: 0 }
  let oldestMs: number | undefined
  for (let place = 0; place < packs.placeEnd; place += 1) {
    const { bytes } = packs.packAt(place) ?? {}
    if (bytes === undefined) continue
    const readMs = times.of(place)
    count.packs += 1
    count.bytes += bytes
    if (readMs === undefined) {
      count.packsNever += 1
      count.bytesNever += bytes
      continue
    }
    oldestMs = Math.min(oldestMs ?? readMs, readMs)
    if (nowMs - readMs > withinMs) continue
    count.packsWithin += 1
    count.bytesWithin += bytes
  }
  return { withinMs, ...count, oldestMs }
}
