/**
 * Owns a set of blobs with a count for each: about 40 bytes per blob, in arrays that grow piece by piece. A JavaScript
 * set of ids takes four times that. Ids are kept whole, for whoever has to name what is missing.
 *
 * Invariant: rows are only added; a row's number never changes.
 */
import { assert } from '@stillpoint/core/kernel'
import { type BlobType, idBytes } from '../format/ids.ts'
import type { Fingerprint } from '../index-memory/fingerprint.ts'
import { createFingerprintTable } from '../index-memory/fingerprint-table.ts'
import { createByteSegments } from '../index-memory/segments.ts'

export interface BlobSet {
  readonly size: number
  /** Adds it where it is not there yet. Returns whether it was added. */
  add(id: string, type: BlobType): boolean
  has(id: string, type: BlobType): boolean
  /** Number of the blob's row, or -1. */
  rowOf(id: string, type: BlobType): number
  /** Counts up to 255. Of row numbers from `rowOf`. */
  readonly counts: { get(row: number): number; increment(row: number): void }
  /** Blobs in the order in which they were added. */
  each(visit: (id: string, type: BlobType, row: number) => void): void
  /** The blob that has this row. */
  at(row: number): { readonly id: string; readonly type: BlobType }
}

/** The beginning of an id is what it is found by, the rest is compared: so that no id is taken for another. */
const beginBytes = 12
const restBytes = idBytes - beginBytes
const typeAt = restBytes
const countAt = restBytes + 1

export function createBlobSet(): BlobSet {
  const begins = createFingerprintTable()
  /** The rest of the id, the type, the count. */
  const rests = createByteSegments(restBytes + 2)
  const key = Buffer.alloc(idBytes)
  const begin: Fingerprint = { a: 0, b: 0, c: 0 }
  let wanted = 0

  function isWanted(row: number): boolean {
    const segment = rests.segment(row)
    const at = rests.rowAt(row)
    if (segment[at + typeAt] !== wanted) return false
    for (let byte = 0; byte < restBytes; byte += 1) if (segment[at + byte] !== key[beginBytes + byte]) return false
    return true
  }

  function rowOf(id: string, type: BlobType): number {
    assert(id.length === idBytes * 2 && key.write(id, 'hex') === idBytes, 'an id has 64 hexadecimal digits')
    begin.a = key.readUInt32LE(0)
    begin.b = key.readUInt32LE(4)
    begin.c = key.readUInt32LE(8)
    wanted = type === 'tree' ? 1 : 0
    return begins.find(begin, isWanted)
  }

  const id = Buffer.alloc(idBytes)
  function at(row: number): { readonly id: string; readonly type: BlobType } {
    begins.fingerprintAt(row, begin)
    id.writeUInt32LE(begin.a, 0)
    id.writeUInt32LE(begin.b, 4)
    id.writeUInt32LE(begin.c, 8)
    const segment = rests.segment(row)
    const rest = rests.rowAt(row)
    id.set(segment.subarray(rest, rest + restBytes), beginBytes)
    return { id: id.toString('hex'), type: segment[rest + typeAt] === 1 ? 'tree' : 'data' }
  }

  return {
    get size() {
      return begins.size
    },
    rowOf,
    has: (id, type) => rowOf(id, type) >= 0,
    add(id, type) {
      if (rowOf(id, type) >= 0) return false
      const row = begins.add(begin)
      rests.reserve(row)
      const segment = rests.segment(row)
      const at = rests.rowAt(row)
      segment.set(key.subarray(beginBytes), at)
      segment[at + typeAt] = wanted
      return true
    },
    counts: {
      get: (row) => rests.segment(row)[rests.rowAt(row) + countAt] ?? 0,
      increment(row) {
        const segment = rests.segment(row)
        const at = rests.rowAt(row) + countAt
        const count = segment[at] ?? 0
        if (count < 255) segment[at] = count + 1
      },
    },
    at,
    each(visit) {
      for (let row = 0; row < begins.size; row += 1) {
        const { id: blob, type } = at(row)
        visit(blob, type, row)
      }
    },
  }
}
