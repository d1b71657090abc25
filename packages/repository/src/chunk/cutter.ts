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

/** The limits that restic uses. */
export const chunkBytesMin = 512 << 10
export const chunkBytesAverage = 1 << 20
export const chunkBytesMax = 8 << 20
/** Bytes that the 32-bit hash remembers. */
const windowBytes = 32
/** 2^20 is the average; normalisation asks for two bits more before it, and for two less after it. */
const hardShift = 32 - 22
const easyShift = 32 - 18

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

function contentCutter(gear: GearTable): Cutter {
  const start = chunkBytesMin - windowBytes
  let hash = 0
  let position = start
  const reset = (length: number) => {
    hash = 0
    position = start
    return length
  }
  return {
    bytesMax: chunkBytesMax,
    cut(buffer, length) {
      const end = Math.min(length, chunkBytesMax)
      // Warming up: the window before the first possible cut.
      for (const warm = Math.min(end, chunkBytesMin - 1); position < warm; position += 1) {
        hash = ((hash << 1) + (gear[buffer[position] ?? 0] ?? 0)) | 0
      }
      for (const hard = Math.min(end, chunkBytesAverage); position < hard; position += 1) {
        hash = ((hash << 1) + (gear[buffer[position] ?? 0] ?? 0)) | 0
        if (hash >>> hardShift === 0) return reset(position + 1)
      }
      for (; position < end; position += 1) {
        hash = ((hash << 1) + (gear[buffer[position] ?? 0] ?? 0)) | 0
        if (hash >>> easyShift === 0) return reset(position + 1)
      }
      return length >= chunkBytesMax ? reset(chunkBytesMax) : 0
    },
  }
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
