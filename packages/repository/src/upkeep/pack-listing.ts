/**
 * Owns the packs of a store beside those of an index: what each measures, by its number in the index, and which of them the
 * index does not know. A map of their names would take ten times as much.
 */
import type { BlobStore, StoredObject } from '../blob/blob-store.ts'
import type { BlobIndex } from '../blob-index.ts'
import { type PackId, packId } from '../format/ids.ts'

/** Packs by numbers, of which some may be of none: an object for each of millions would take most of the memory. */
export interface PackPlaces {
  /** All numbers are below it. */
  readonly placeEnd: number
  /** Made when it is asked for. */
  packAt(place: number): StoredObject | undefined
}

/** Packs that are found by their names, too. */
export interface NamedPlaces extends PackPlaces {
  /** -1 where it is none of these. */
  placeOf(name: string): number
}

/** Those of a pack, in their order. */
export function placesOf(packs: PackPlaces): Uint32Array {
  const places = new Uint32Array(packs.placeEnd)
  let count = 0
  for (let place = 0; place < packs.placeEnd; place += 1) {
    if (packs.packAt(place) !== undefined) places[count++] = place
  }
  return places.subarray(0, count)
}

/** All packs in the store: those of the index in the order of their numbers, then the others. */
export interface PackListing extends NamedPlaces {
  /** The index that gave these numbers, and the end of them when the list began: of later packs nothing is known. */
  readonly index: BlobIndex
  readonly packNumberEnd: number
  /** Of all packs in the store. */
  readonly count: number
  /** Of a pack of the index; undefined where it is not in the store. */
  bytesOf(pack: number): number | undefined
  /** In the store and in no index, in the order of the listing. */
  readonly unknown: readonly { readonly id: PackId; readonly bytes: number }[]
}

export interface ListedPlace {
  readonly store: Pick<BlobStore, 'list'>
  readonly index: { readonly blobs: BlobIndex }
}

/** @param abort called with each batch of the list */
export async function packListing(
  { store, index: { blobs: index } }: ListedPlace,
  abort: () => void,
): Promise<PackListing> {
  // What is not there has no length; a pack may be larger than 4 GiB as far as anybody could know.
  const lengths = new Float64Array(index.packNumberEnd).fill(Number.NaN)
  const unknown: { id: PackId; bytes: number }[] = []
  let count = 0
  for await (const batch of store.list('pack')) {
    abort()
    count += batch.length
    for (const { name, bytes } of batch) {
      const id = packId(name)
      const pack = index.packNumber(id)
      if (pack < 0) unknown.push({ id, bytes })
      else if (pack < lengths.length) lengths[pack] = bytes
    }
  }
  const bytesOf = (pack: number) => {
    const bytes = lengths[pack]
    return bytes === undefined || Number.isNaN(bytes) ? undefined : bytes
  }
  // Those of the index first, by their numbers there.
  const placeEnd = lengths.length + unknown.length
  let unknownPlaces: ReadonlyMap<string, number> | undefined

  function packAt(place: number): StoredObject | undefined {
    const stray = unknown[place - lengths.length]
    if (stray !== undefined) return { name: stray.id, bytes: stray.bytes }
    const bytes = bytesOf(place)
    return bytes === undefined ? undefined : { name: index.packId(place), bytes }
  }

  function placeOf(name: string): number {
    const pack = index.packNumber(name)
    if (pack >= 0) return bytesOf(pack) === undefined ? -1 : pack
    unknownPlaces ??= new Map(unknown.map(({ id }, at) => [id, lengths.length + at]))
    return unknownPlaces.get(name) ?? -1
  }

  return {
    index,
    packNumberEnd: lengths.length,
    count,
    unknown,
    bytesOf,
    placeEnd,
    packAt,
    placeOf,
  }
}
