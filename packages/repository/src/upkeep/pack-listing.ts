/**
 * Owns the packs of a store beside those of an index: what each measures, by its number in the index, and which of them the
 * index does not know. A map of their names would take ten times as much.
 */
import type { StoredObject } from '../blob/blob-store.ts'
import type { BlobIndex } from '../blob-index.ts'
import { type PackId, packId } from '../format/ids.ts'

export interface PackListing {
  /** Of all packs in the store. */
  readonly count: number
  /** Of a pack of the index; undefined where it is not in the store. */
  bytesOf(pack: number): number | undefined
  /** In the store and in no index, in the order of the listing. */
  readonly unknown: readonly { readonly id: PackId; readonly bytes: number }[]
}

export function packListing(listed: readonly StoredObject[], index: BlobIndex): PackListing {
  // What is not there has no length; a pack may be larger than 4 GiB as far as anybody could know.
  const lengths = new Float64Array(index.packNumberEnd).fill(Number.NaN)
  const unknown: { id: PackId; bytes: number }[] = []
  for (const { name, bytes } of listed) {
    const id = packId(name)
    const pack = index.packNumber(id)
    if (pack < 0) unknown.push({ id, bytes })
    else lengths[pack] = bytes
  }
  return {
    count: listed.length,
    unknown,
    bytesOf(pack) {
      const bytes = lengths[pack]
      return bytes === undefined || Number.isNaN(bytes) ? undefined : bytes
    },
  }
}
