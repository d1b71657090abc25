/**
 * Owns a table of fingerprints by row: 12 bytes per row, and slots of 4 bytes to find the row of a fingerprint. Does not
 * own what a row stands for.
 *
 * A slot holds the row's number and, in the bits that the numbers do not need yet, a tag of the fingerprint, so that
 * probing rarely has to look at a row. Slots lie in 64 shards with linear probing, at most 5/6 full, each of which grows
 * by a quarter on its own: growing needs room for one shard more, not for the whole table once more.
 *
 * Invariants: 1. rows are only added, their numbers never change. 2. Equal fingerprints may have several rows, and all of
 * them are found.
 */
import { assert } from '@stillpoint/core/kernel'
import { type Fingerprint, fingerprintWords } from './fingerprint.ts'
import { createWordSegments } from './segments.ts'

export interface FingerprintTable {
  readonly size: number
  /** Of the arrays, in use and spare. */
  readonly bytes: number
  /** Adds a row, also where one has this fingerprint. Returns its number. */
  add(fingerprint: Fingerprint): number
  /** A row with this fingerprint of which `isIt` holds, or -1. */
  find(fingerprint: Fingerprint, isIt: (row: number) => boolean): number
  /** All rows with this fingerprint, oldest first. */
  rowsOf(fingerprint: Fingerprint): number[]
  fingerprintAt(row: number, into: Fingerprint): void
  /** Makes place for as many rows in all, so that slots need not grow on the way there. */
  expect(rows: number): void
}

const shardBits = 6
const shardCount = 1 << shardBits
const slotsFirst = 16
const fillMax = 5 / 6
const growth = 1.25
const rowBitsFirst = 16
const rowBitsMax = 31

interface Shard {
  slots: Uint32Array
  used: number
}

export function createFingerprintTable(): FingerprintTable {
  const words = createWordSegments(fingerprintWords)
  const shards = Array.from({ length: shardCount }, (): Shard => ({ slots: new Uint32Array(slotsFirst), used: 0 }))
  let size = 0
  let rowBits = rowBitsFirst

  /** Homes are in the order of the second words, so that a shard is rewritten from its beginning to its end. */
  const homeOf = (slots: Uint32Array, b: number) => Math.floor(b * (slots.length / 2 ** 32))

  function placeSlot(slots: Uint32Array, b: number, slot: number): void {
    let at = homeOf(slots, b)
    while (slots[at] !== 0) at = at + 1 === slots.length ? 0 : at + 1
    slots[at] = slot
  }

  function resize(shard: Shard, slotsWanted: number): void {
    const slots = new Uint32Array(slotsWanted)
    const mask = 2 ** rowBits - 1
    for (const slot of shard.slots) if (slot !== 0) placeSlot(slots, words.get((slot & mask) - 1, 1), slot)
    shard.slots = slots
  }

  /** One more bit for row numbers, one less for tags: in place. */
  function widenRows(): void {
    assert(rowBits < rowBitsMax, 'an index has less than 2^31 places')
    const mask = 2 ** rowBits - 1
    for (const { slots } of shards) {
      for (let at = 0; at < slots.length; at += 1) {
        const slot = slots[at] ?? 0
        slots[at] = (((slot >>> rowBits) >>> 1) << (rowBits + 1)) | (slot & mask)
      }
    }
    rowBits += 1
  }

  /** Calls `isIt` with the rows that have this fingerprint, until it returns true: of that row, or -1. */
  function find({ a, b, c }: Fingerprint, isIt: (row: number) => boolean): number {
    const slots = shards[a >>> (32 - shardBits)]?.slots
    assert(slots !== undefined, 'there is a shard for each beginning')
    const tag = c >>> rowBits
    const mask = 2 ** rowBits - 1
    for (let at = homeOf(slots, b); ; at = at + 1 === slots.length ? 0 : at + 1) {
      const slot = slots[at] ?? 0
      if (slot === 0) return -1
      if (slot >>> rowBits !== tag) continue
      const row = (slot & mask) - 1
      if (words.get(row, 2) !== c || words.get(row, 1) !== b || words.get(row, 0) !== a) continue
      if (isIt(row)) return row
    }
  }

  return {
    get size() {
      return size
    },
    get bytes() {
      return words.bytes + shards.reduce((sum, { slots }) => sum + slots.byteLength, 0)
    },
    add({ a, b, c }) {
      const row = size
      words.reserve(row)
      words.set(row, 0, a)
      words.set(row, 1, b)
      words.set(row, 2, c)
      size += 1
      if (size >= 2 ** rowBits) widenRows()
      const shard = shards[a >>> (32 - shardBits)]
      assert(shard !== undefined, 'there is a shard for each beginning')
      if (shard.used + 1 > shard.slots.length * fillMax) resize(shard, Math.ceil(shard.slots.length * growth))
      placeSlot(shard.slots, b, ((c >>> rowBits) << rowBits) | (row + 1))
      shard.used += 1
      return row
    },
    find,
    rowsOf(fingerprint) {
      const rows: number[] = []
      find(fingerprint, (row) => {
        rows.push(row)
        return false
      })
      return rows.sort((one, other) => one - other)
    },
    fingerprintAt(row, into) {
      into.a = words.get(row, 0)
      into.b = words.get(row, 1)
      into.c = words.get(row, 2)
    },
    expect(rows) {
      const slotsWanted = Math.ceil((rows / shardCount / fillMax) * 1.02)
      for (const shard of shards) if (shard.slots.length < slotsWanted) resize(shard, slotsWanted)
    },
  }
}
