/**
 * Owns arrays that grow at their end without ever being copied as a whole: segments of 8192 rows, of which only the last
 * one is copied while it grows. What is there stays where it is, and a growing array needs no second one beside it.
 */

export const segmentBits = 13
export const segmentRows = 1 << segmentBits
const rowsFirst = 256
const lowRow = segmentRows - 1

export interface WordSegments {
  /** Of the arrays, in use and spare. */
  readonly bytes: number
  get(row: number, word: number): number
  set(row: number, word: number, value: number): void
  /** Makes place for the row after the last one. */
  reserve(row: number): void
}

/** Rows of 32-bit words. */
export function createWordSegments(wordsPerRow: number): WordSegments {
  const segments: Uint32Array[] = []
  const store = growing(segments, (rows) => new Uint32Array(rows * wordsPerRow), wordsPerRow)
  return {
    get bytes() {
      return store.bytes()
    },
    reserve: store.reserve,
    get: (row, word) => segments[row >>> segmentBits]?.[(row & lowRow) * wordsPerRow + word] ?? 0,
    set(row, word, value) {
      const segment = segments[row >>> segmentBits]
      if (segment !== undefined) segment[(row & lowRow) * wordsPerRow + word] = value
    },
  }
}

export interface ByteSegments {
  readonly bytes: number
  /** The segment of a row; the row begins at `rowAt(row)` in it. */
  segment(row: number): Uint8Array
  rowAt(row: number): number
  reserve(row: number): void
}

/** Rows of bytes. */
export function createByteSegments(bytesPerRow: number): ByteSegments {
  const segments: Uint8Array[] = []
  const store = growing(segments, (rows) => new Uint8Array(rows * bytesPerRow), bytesPerRow)
  const none = new Uint8Array(0)
  return {
    get bytes() {
      return store.bytes()
    },
    reserve: store.reserve,
    segment: (row) => segments[row >>> segmentBits] ?? none,
    rowAt: (row) => (row & lowRow) * bytesPerRow,
  }
}

interface Growing {
  bytes(): number
  reserve(row: number): void
}

function growing<T extends Uint32Array | Uint8Array>(
  segments: T[],
  allocate: (rows: number) => T,
  elementsPerRow: number,
): Growing {
  return {
    bytes: () => segments.reduce((sum, segment) => sum + segment.byteLength, 0),
    reserve(row) {
      const number = row >>> segmentBits
      const segment = segments[number]
      const rows = (segment?.length ?? 0) / elementsPerRow
      const needed = (row & lowRow) + 1
      if (needed <= rows) return
      const wider = allocate(Math.min(segmentRows, Math.max(rowsFirst, needed, Math.ceil(rows * 1.5))))
      if (segment !== undefined) wider.set(segment)
      segments[number] = wider
    },
  }
}
