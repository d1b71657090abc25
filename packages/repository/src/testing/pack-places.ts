/** Packs as a listing gives them, of any list. For tests. */
import type { StoredObject } from '../blob/blob-store.ts'
import type { NamedPlaces } from '../upkeep/pack-listing.ts'

/** Every second place is of no pack. */
export function placesFor(packs: readonly StoredObject[]): NamedPlaces {
  return {
    placeEnd: packs.length * 2,
    packAt: (place) => (place % 2 === 0 ? undefined : packs[(place - 1) / 2]),
    placeOf(name) {
      const at = packs.findIndex((pack) => pack.name === name)
      return at < 0 ? -1 : at * 2 + 1
    },
  }
}
