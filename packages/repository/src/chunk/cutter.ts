/**
 * Owns where a stream is cut into chunks.
 *
 * Content-defined: FastCDC (Xia et al., "FastCDC: a Fast and Efficient Content-Defined Chunking Approach for Data
 * Deduplication", ATC 2016) with a 32-bit gear hash, normalised chunking of level 2, masks of the high bits (those that
 * depend on the most bytes), the minimum size skipped. Fixed: chunks of whole pages, for files that change page by page.
 *
 * Invariants: 1. whether a position is a cut depends only on the 32 bytes before it and its distance from the chunk's
 * beginning, so that after an edit the cuts fall into step again. 2. All chunks but the last are of 512 KiB to 8 MiB.
 */
import { Failure } from '@stillpoint/core/kernel'
import type { GearTable } from './gear-table.ts'

const highBits = (count: number) => -1 << (32 - count)

/** The limits that restic uses. */
export const chunkBytesMin = 512 << 10
export const chunkBytesAverage = 1 << 20
export const chunkBytesMax = 8 << 20
/** Bytes that the 32-bit hash remembers. */
const windowBytes = 32
/** 2^20 is the average; normalisation asks for two bits more before it, and for two less after it. */
const hardMask = highBits(22)
const easyMask = highBits(18)

const pageBytesMin = 512
/** A changed page costs one chunk: small enough to be cheap, large enough to keep the index small. */
const pagedChunkBytes = 128 << 10

/** How a stream is cut. `pageBytes`: the file's page size; chunks are whole pages, about 128 KiB. */
export type Chunking = { readonly kind: 'content' } | { readonly kind: 'pages'; readonly pageBytes: number }

/** For one stream; remembers what it has looked at. */
export interface Cutter {
  /** No chunk is longer. */
  readonly bytesMax: number
  /**
   * Length of the chunk at the beginning of `buffer`, or 0 where more than the `length` bytes there are needed to tell.
   * Called again with the same bytes and more after them; after a cut, with what follows it.
   */
  cut(buffer: Uint8Array, length: number): number
}

/** @throws Failure `page_size_invalid` */
export function createCutter(chunking: Chunking, gear: GearTable): Cutter {
  return chunking.kind === 'content' ? contentCutter(gear) : pageCutter(chunking.pageBytes)
}

/** Where the search for a cut has come to. */
interface Search {
  hash: number
  position: number
}

function contentCutter(gear: GearTable): Cutter {
  const table = new Int32Array(gear.buffer, gear.byteOffset, gear.length)
  const start = chunkBytesMin - windowBytes
  const search: Search = { hash: 0, position: start }
  const reset = (length: number) => {
    search.hash = 0
    search.position = start
    return length
  }
  return {
    bytesMax: chunkBytesMax,
    cut(buffer, length) {
      const end = Math.min(length, chunkBytesMax)
      warmUp(search, table, buffer, Math.min(end, chunkBytesMin - 1))
      if (scan(search, table, buffer, { end: Math.min(end, chunkBytesAverage), mask: hardMask })) {
        return reset(search.position)
      }
      if (scan(search, table, buffer, { end, mask: easyMask })) return reset(search.position)
      return length >= chunkBytesMax ? reset(chunkBytesMax) : 0
    },
  }
}

/** The window before the first possible cut. */
function warmUp(search: Search, table: Int32Array, buffer: Uint8Array, end: number): void {
  for (; search.position < end; search.position += 1) {
    search.hash = ((search.hash << 1) + (table[buffer[search.position] ?? 0] ?? 0)) | 0
  }
}

const isLittleEndian = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1

/**
 * Whether there is a cut before `end`; the position is then behind it. A fifth of the cost of a save: four bytes at a
 * time, since loading them one by one takes longer than hashing them.
 */
function scan(
  search: Search,
  table: Int32Array,
  buffer: Uint8Array,
  { end, mask }: { readonly end: number; readonly mask: number },
): boolean {
  let { hash, position } = search
  const base = buffer.byteOffset
  const words = new Int32Array(buffer.buffer, 0, buffer.buffer.byteLength >>> 2)
  for (let isAligned = false; position < end; position += 1) {
    if (!isAligned && isLittleEndian && ((base + position) & 3) === 0) {
      isAligned = true
      let word = (base + position) >>> 2
      for (const wordEnd = (base + end) >>> 2; word < wordEnd; word += 1) {
        const four = words[word] ?? 0
        const first = ((hash << 1) + (table[four & 255] ?? 0)) | 0
        const second = ((first << 1) + (table[(four >>> 8) & 255] ?? 0)) | 0
        const third = ((second << 1) + (table[(four >>> 16) & 255] ?? 0)) | 0
        const fourth = ((third << 1) + (table[four >>> 24] ?? 0)) | 0
        // The bytes are then looked at one by one. A test of bits and a jump are one instruction.
        if ((first & mask) === 0 || (second & mask) === 0 || (third & mask) === 0 || (fourth & mask) === 0) break
        hash = fourth
      }
      position = word * 4 - base
      if (position >= end) break
    }
    hash = ((hash << 1) + (table[buffer[position] ?? 0] ?? 0)) | 0
    if ((hash & mask) !== 0) continue
    search.position = position + 1
    return true
  }
  search.hash = hash
  search.position = position
  return false
}

function pageCutter(pageBytes: number): Cutter {
  if (!Number.isSafeInteger(pageBytes) || pageBytes < pageBytesMin || pageBytes > chunkBytesMax) {
    throw new Failure({
      code: 'page_size_invalid',
      message: `a page of ${pageBytes} bytes cannot be a chunk`,
      hint: `Use a whole number from ${pageBytesMin} to ${chunkBytesMax}.`,
    })
  }
  const bytes = Math.max(1, Math.floor(pagedChunkBytes / pageBytes)) * pageBytes
  return { bytesMax: bytes, cut: (_, length) => (length >= bytes ? bytes : 0) }
}
