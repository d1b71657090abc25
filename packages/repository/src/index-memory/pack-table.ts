/**
 * Owns which rows belong to which pack, and where in it they lie. A pack's rows follow one another in the order of their
 * offsets, so that an offset need not be kept: it is that of the run plus the lengths before. A run is at most 64 rows
 * of one type without gaps: 12 bytes. A pack is its id of 32 bytes, a byte of state and a slot to find it by.
 *
 * Invariants: 1. a row belongs to one run, a run to one pack; runs are in the order of rows and of pack numbers.
 * 2. Pack numbers are never reused.
 */
import { type BlobType, idBytes, type PackId, packId } from '../format/ids.ts'
import { digitOf } from './fingerprint.ts'
import { createByteSegments, createWordSegments } from './segments.ts'

export const runRowsMax = 64

export interface Run {
  readonly pack: number
  readonly type: BlobType
  readonly firstRow: number
  /** Of the first row. */
  readonly offset: number
}

export interface PackTable {
  readonly size: number
  /** Packs that are not removed. */
  readonly live: number
  readonly runs: number
  readonly bytes: number
  /** The number of the pack whose id has its digits there, or -1. */
  numberOf(digits: Uint8Array, at: number): number
  /** Adds a pack; another one of this id is not found any more. Returns its number. */
  add(digits: Uint8Array, at: number): number
  /** Adds a run of the last pack, from this row on. */
  addRun(run: Omit<Run, 'pack'>): void
  runAt(run: number): Run
  packOfRun(run: number): number
  /** The run that the row is in. */
  runOfRow(row: number): Run
  /** Runs of a pack: from `first` up to, not with, `end`. */
  runsOf(pack: number): { readonly first: number; readonly end: number }
  packOfRow(row: number): number
  id(pack: number): PackId
  /** Negative where the id of `pack` comes before the one of `other`. */
  compare(pack: number, other: number): number
  isRemoved(pack: number): boolean
  setRemoved(pack: number, isRemoved: boolean): void
}

const treeBit = 0x8000_0000
const slotsFirst = 64
const stateBytes = 1

export function createPackTable(): PackTable {
  const ids = createByteSegments(idBytes + stateBytes)
  const runs = createWordSegments(3)
  let slots = new Uint32Array(slotsFirst)
  let size = 0
  let removed = 0
  let runCount = 0
  const key = Buffer.alloc(idBytes)

  const idOf = (pack: number) => {
    const at = ids.rowAt(pack)
    const { buffer, byteOffset } = ids.segment(pack)
    return Buffer.from(buffer, byteOffset + at, idBytes)
  }

  /** Byte by byte: a view of the bytes for each comparison would be much that is soon forgotten. */
  function isPack(pack: number, id: Uint8Array): boolean {
    const bytes = ids.segment(pack)
    const at = ids.rowAt(pack)
    for (let byte = 0; byte < idBytes; byte += 1) if (bytes[at + byte] !== id[byte]) return false
    return true
  }

  /** The slot of the pack that has this id, or the free one where it belongs. */
  function slotOf(id: Buffer): number {
    for (let slot = id.readUInt32LE(0) % slots.length; ; slot = (slot + 1) % slots.length) {
      const pack = (slots[slot] ?? 0) - 1
      if (pack < 0 || isPack(pack, id)) return slot
    }
  }

  function growSlots(): void {
    const before = slots
    slots = new Uint32Array(Math.ceil(before.length * 1.5))
    for (const slot of before) if (slot !== 0) slots[slotOf(idOf(slot - 1))] = slot
  }

  function readKey(digits: Uint8Array, at: number): void {
    for (let byte = 0; byte < idBytes; byte += 1) {
      key[byte] = (digitOf(digits[at + byte * 2] ?? 0) << 4) | digitOf(digits[at + byte * 2 + 1] ?? 0)
    }
  }

  /** The last run of which `isBefore` holds; it holds for a beginning of all runs. */
  function lastRun(isBefore: (run: number) => boolean): number {
    let low = 0
    let high = runCount
    while (high - low > 1) {
      const middle = (low + high) >>> 1
      if (isBefore(middle)) low = middle
      else high = middle
    }
    return low
  }

  const packOfRun = (run: number) => runs.get(run, 1) % treeBit
  const runOfRow = (row: number) => lastRun((run) => runs.get(run, 0) <= row)
  const runAt = (run: number): Run => {
    const word = runs.get(run, 1)
    return {
      firstRow: runs.get(run, 0),
      pack: word % treeBit,
      type: word >= treeBit ? 'tree' : 'data',
      offset: runs.get(run, 2),
    }
  }

  return {
    get size() {
      return size
    },
    get live() {
      return size - removed
    },
    get runs() {
      return runCount
    },
    get bytes() {
      return ids.bytes + runs.bytes + slots.byteLength
    },
    numberOf(digits, at) {
      readKey(digits, at)
      return (slots[slotOf(key)] ?? 0) - 1
    },
    add(digits, at) {
      if ((size + 1) * 4 > slots.length * 3) growSlots()
      readKey(digits, at)
      ids.reserve(size)
      const slot = slotOf(key)
      ids.segment(size).set(key, ids.rowAt(size))
      size += 1
      slots[slot] = size
      return size - 1
    },
    addRun({ firstRow, type, offset }) {
      runs.reserve(runCount)
      runs.set(runCount, 0, firstRow)
      runs.set(runCount, 1, size - 1 + (type === 'tree' ? treeBit : 0))
      runs.set(runCount, 2, offset)
      runCount += 1
    },
    runAt,
    runOfRow: (row) => runAt(runOfRow(row)),
    runsOf(pack) {
      const last = lastRun((run) => packOfRun(run) <= pack)
      let first = last
      while (first > 0 && packOfRun(first - 1) === pack) first -= 1
      return packOfRun(last) === pack ? { first, end: last + 1 } : { first: 0, end: 0 }
    },
    packOfRun,
    packOfRow: (row) => packOfRun(runOfRow(row)),
    id: (pack) => packId(idOf(pack).toString('hex')),
    compare(pack, other) {
      const [bytes, otherBytes] = [ids.segment(pack), ids.segment(other)]
      const [at, otherAt] = [ids.rowAt(pack), ids.rowAt(other)]
      for (let byte = 0; byte < idBytes; byte += 1) {
        const difference = (bytes[at + byte] ?? 0) - (otherBytes[otherAt + byte] ?? 0)
        if (difference !== 0) return difference
      }
      return 0
    },
    isRemoved: (pack) => ids.segment(pack)[ids.rowAt(pack) + idBytes] === 1,
    setRemoved(pack, isRemoved) {
      const segment = ids.segment(pack)
      const at = ids.rowAt(pack) + idBytes
      if ((segment[at] === 1) === isRemoved) return
      segment[at] = isRemoved ? 1 : 0
      removed += isRemoved ? 1 : -1
    },
  }
}
