/** Owns in which pieces packs are read: each blob that is wanted once, in few requests, in the order of the packs. */
import type { PackId } from '../format/ids.ts'
import type { Section } from './load-plan.ts'

export interface PackRange {
  readonly pack: PackId
  readonly offset: number
  readonly length: number
  /** In the order of their offsets. */
  readonly blobs: Uint32Array
}

/** Of one request, unless a single blob is longer. */
export const rangeBytesMax = 2 << 20
/** Blobs that are not needed are read where that costs less than another request. */
const gapBytesMax = 256 << 10

export function* rangesOf({ blobs }: Section): Generator<PackRange> {
  for (const { pack, blobs: numbers } of blobs.byPack()) {
    let first = 0
    let offset = 0
    let end = 0
    for (const [at, blob] of numbers.entries()) {
      const place = blobs.place(blob)
      const fits = place.offset + place.length - offset <= rangeBytesMax && place.offset - end <= gapBytesMax
      if (at > first && !fits) {
        yield { pack, offset, length: end - offset, blobs: numbers.subarray(first, at) }
        first = at
      }
      if (at === first) offset = place.offset
      end = at === first ? place.offset + place.length : Math.max(end, place.offset + place.length)
    }
    if (first < numbers.length) yield { pack, offset, length: end - offset, blobs: numbers.subarray(first) }
  }
}
