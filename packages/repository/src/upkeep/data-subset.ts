/** Owns which packs are read when only a part of the data is to be checked. */
import { Failure, type Random } from '@stillpoint/core/kernel'
import { parseBytes } from './byte-quantity.ts'
import { type PackPlaces, placesOf } from './pack-listing.ts'

export type DataSubset =
  /** The n-th of `of` parts, from 1: packs by the first byte of their ids, so that all parts are all packs. */
  | { readonly kind: 'part'; readonly part: number; readonly of: number }
  /** A random share. */
  | { readonly kind: 'percent'; readonly percent: number }
  /** A random choice of about this size. */
  | { readonly kind: 'bytes'; readonly bytes: number }

const partsMax = 256

/** Reads `2/10`, `5%`, `2.5%`, `500M`. @throws Failure `options_invalid` */
export function parseDataSubset(text: string): DataSubset {
  const [, part, of] = /^(\d{1,3})\/(\d{1,3})$/.exec(text) ?? []
  if (part !== undefined && of !== undefined) {
    const subset = { kind: 'part', part: Number(part), of: Number(of) } as const
    if (subset.part >= 1 && subset.part <= subset.of && subset.of <= partsMax) return subset
    throw invalid(text)
  }
  const [, percent] = /^(\d{1,3}(?:\.\d+)?)%$/.exec(text) ?? []
  if (percent !== undefined) {
    if (Number(percent) > 0 && Number(percent) <= 100) return { kind: 'percent', percent: Number(percent) }
    throw invalid(text)
  }
  const bytes = parseBytes(text)
  if (bytes === undefined || bytes === 0) throw invalid(text)
  return { kind: 'bytes', bytes }
}

function invalid(text: string): Failure {
  return new Failure({
    code: 'options_invalid',
    message: `${JSON.stringify(text.slice(0, 40))} is no part of the data`,
    hint: `Give n/t with 1 ≤ n ≤ t ≤ ${partsMax}, a share such as 5%, or a size such as 500M.`,
  })
}

/** Places of the packs to read. */
export function packsToRead(packs: PackPlaces, subset: DataSubset, random: Random): Uint32Array {
  const there = placesOf(packs)
  if (subset.kind === 'part') {
    const bucket = (place: number) => Number.parseInt(packs.packAt(place)?.name.slice(0, 2) ?? '', 16) % subset.of
    return there.filter((place) => bucket(place) === subset.part - 1)
  }
  shuffle(there, random)
  if (subset.kind === 'percent') {
    // One at least, as restic does: a check of some of the data has read some.
    return there.subarray(0, Math.max(1, Math.floor((there.length * subset.percent) / 100)))
  }
  let [chosen, bytes] = [0, 0]
  for (const place of there) {
    const { bytes: more = 0 } = packs.packAt(place) ?? {}
    if (chosen > 0 && bytes + more > subset.bytes) continue
    there[chosen++] = place // what stood there has been looked at
    bytes += more
  }
  return there.subarray(0, chosen)
}

/** Fisher and Yates. */
function shuffle(places: Uint32Array, random: Random): void {
  for (let last = places.length - 1; last > 0; last -= 1) {
    const other = random.uint32() % (last + 1)
    const [left = 0, right = 0] = [places[last], places[other]]
    places[last] = right
    places[other] = left
  }
}
