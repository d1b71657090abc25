/**
 * Owns which blobs of an index were met: a bit for each of its rows instead of an id for each blob. What the index does
 * not know is kept by id.
 *
 * Invariant: of a blob that was met all rows are marked that the index had by then.
 */
import type { BlobIndex, Digits } from '../blob-index.ts'
import type { BlobType } from '../format/ids.ts'
import { createBitSet } from '../index-memory/bit-set.ts'
import { type BlobSet, createBlobSet } from './blob-set.ts'
import { idOfDigits } from './scan-tree.ts'

export interface ReachedBlobs {
  readonly index: BlobIndex
  /** Of different blobs, those that the index does not know among them. */
  readonly size: number
  /** Blobs that are in no pack, as far as the index knows. */
  readonly unknown: BlobSet
  /** Adds it where it is not there yet. Returns whether it was added. */
  add(id: string, type: BlobType): boolean
  /** The same of a data blob. */
  addDigits(digits: Digits): boolean
  hasRow(row: number): boolean
  /** Whether the blob of this row, which was met, lies in other places too. */
  isRepeated(row: number): boolean
  /** Rows of blobs that were met and lie in several places, in ascending order. */
  eachRepeated(visit: (row: number) => void): void
  /** Of each blob that was met and is known the row that was known first, in ascending order. */
  eachFirst(visit: (row: number) => void): void
}

export function createReachedBlobs(index: BlobIndex): ReachedBlobs {
  const marked = createBitSet(index.size)
  const repeated = createBitSet()
  const unknown = createBlobSet()
  let known = 0
  // Of the question that is under way; one function for all, for there are as many questions as blobs.
  const found = { rows: 0, first: -1, isNew: false }

  function mark(row: number): boolean {
    found.rows += 1
    if (!marked.add(row)) return true
    if (found.rows === 1) {
      found.first = row
      found.isNew = true
    } else {
      repeated.add(found.first)
      repeated.add(row)
    }
    return false
  }

  function begin(): void {
    found.rows = 0
    found.isNew = false
  }

  function end(unknownId: () => string, type: BlobType): boolean {
    if (found.rows === 0) return unknown.add(unknownId(), type)
    if (found.isNew) known += 1
    return found.isNew
  }

  return {
    index,
    unknown,
    get size() {
      return known + unknown.size
    },
    add(id, type) {
      begin()
      index.findRow(id, type, mark)
      return end(() => id, type)
    },
    addDigits(digits) {
      begin()
      index.findRowOfDigits(digits, mark)
      return end(() => idOfDigits(digits), 'data')
    },
    hasRow: marked.has,
    isRepeated: repeated.has,
    eachRepeated: repeated.each,
    eachFirst(visit) {
      marked.each((row) => {
        if (!repeated.has(row) || index.rowsLike(row)[0] === row) visit(row)
      })
    },
  }
}
