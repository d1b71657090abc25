/**
 * Owns when each pack of a listing was last read in full and found sound: milliseconds since 1970 by this machine's clock,
 * in an array by its place. Of packs that are not in the listing nothing is kept.
 */
import type { NamedPlaces } from './pack-listing.ts'

export interface ReadTimes {
  /** Undefined where it was never read. */
  of(place: number): number | undefined
  set(name: string, readMs: number): void
  forget(name: string): void
  /** Those that were read, in the order of their places. */
  readonly all: Iterable<readonly [name: string, readMs: number]>
}

export function createReadTimes(packs: NamedPlaces): ReadTimes {
  const times = new Float64Array(packs.placeEnd).fill(Number.NaN)
  function of(place: number): number | undefined {
    const readMs = times[place]
    return readMs === undefined || Number.isNaN(readMs) ? undefined : readMs
  }
  function put(name: string, readMs: number): void {
    const place = packs.placeOf(name)
    if (place >= 0) times[place] = readMs
  }
  function* all(): Generator<readonly [string, number]> {
    for (let place = 0; place < packs.placeEnd; place += 1) {
      const readMs = of(place)
      const pack = readMs === undefined ? undefined : packs.packAt(place)
      if (readMs !== undefined && pack !== undefined) yield [pack.name, readMs]
    }
  }
  return { of, set: put, forget: (name) => put(name, Number.NaN), all: { [Symbol.iterator]: all } }
}
