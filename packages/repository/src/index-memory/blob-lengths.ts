/**
 * Owns two lengths per row: of the sealed blob and of its plaintext, three bytes each. Few blobs have 16 MiB or more (trees
 * of very large directories); those are in a map beside it.
 */
import { createByteSegments } from './segments.ts'

export interface BlobLengths {
  readonly bytes: number
  add(row: number, sealed: number, plain: number): void
  /** Length of the sealed blob. */
  sealed(row: number): number
  /** Length of the plaintext; 0 where the blob is not compressed. */
  plain(row: number): number
}

const bytesPerRow = 6
/** Stands for "in the map". */
const large = 0xff_ffff
/** What an entry of a map takes, roughly. */
const mapEntryBytes = 40

export function createBlobLengths(): BlobLengths {
  const rows = createByteSegments(bytesPerRow)
  const largeOnes = new Map<number, number>()

  function put(segment: Uint8Array, at: number, value: number): boolean {
    const fits = value < large
    const stored = fits ? value : large
    segment[at] = stored & 0xff
    segment[at + 1] = (stored >>> 8) & 0xff
    segment[at + 2] = stored >>> 16
    return fits
  }

  function get(row: number, which: 0 | 1): number {
    const segment = rows.segment(row)
    const at = rows.rowAt(row) + which * 3
    const stored = (segment[at] ?? 0) | ((segment[at + 1] ?? 0) << 8) | ((segment[at + 2] ?? 0) << 16)
    return stored === large ? (largeOnes.get(row * 2 + which) ?? 0) : stored
  }

  return {
    get bytes() {
      return rows.bytes + largeOnes.size * mapEntryBytes
    },
    add(row, sealed, plain) {
      rows.reserve(row)
      const segment = rows.segment(row)
      const at = rows.rowAt(row)
      if (!put(segment, at, sealed)) largeOnes.set(row * 2, sealed)
      if (!put(segment, at + 3, plain)) largeOnes.set(row * 2 + 1, plain)
    },
    sealed: (row) => get(row, 0),
    plain: (row) => get(row, 1),
  }
}
