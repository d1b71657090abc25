/**
 * Owns a set of blobs with a count for each, in typed arrays: 37 bytes per blob and 6 to 12 for the table. A JavaScript set of
 * ids takes four times that.
 *
 * Invariant: rows are only added; a row's number never changes.
 */
import { assert } from '@stillpoint/core/kernel'
import { type BlobType, idBytes } from '../format/ids.ts'

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
}

const rowsFirst = 1024

interface Table {
  ids: Buffer
  types: Uint8Array
  counts: Uint8Array
  slots: Uint32Array
  size: number
}

const key = Buffer.alloc(idBytes)

export function createBlobSet(): BlobSet {
  const table: Table = {
    ids: Buffer.alloc(rowsFirst * idBytes),
    types: new Uint8Array(rowsFirst),
    counts: new Uint8Array(rowsFirst),
    slots: new Uint32Array(rowsFirst * 2),
    size: 0,
  }

  function rowOf(id: string, type: BlobType): number {
    const slot = findSlot(table, id, type)
    return (table.slots[slot] ?? 0) - 1
  }

  return {
    get size() {
      return table.size
    },
    rowOf,
    has: (id, type) => rowOf(id, type) >= 0,
    add(id, type) {
      let slot = findSlot(table, id, type)
      if (table.slots[slot] !== 0) return false
      if (table.size === table.types.length) {
        grow(table)
        slot = findSlot(table, id, type)
      }
      key.copy(table.ids, table.size * idBytes)
      table.types[table.size] = type === 'tree' ? 1 : 0
      table.size += 1
      table.slots[slot] = table.size
      return true
    },
    counts: {
      get: (row) => table.counts[row] ?? 0,
      increment(row) {
        const count = table.counts[row] ?? 0
        if (count < 255) table.counts[row] = count + 1
      },
    },
    each(visit) {
      for (let row = 0; row < table.size; row += 1) {
        const id = table.ids.toString('hex', row * idBytes, (row + 1) * idBytes)
        visit(id, table.types[row] === 1 ? 'tree' : 'data', row)
      }
    },
  }
}

/** The slot of the blob, or the free one where it belongs. Leaves the id in `key`. */
function findSlot(table: Table, id: string, type: BlobType): number {
  assert(id.length === idBytes * 2 && key.write(id, 'hex') === idBytes, 'an id has 64 hexadecimal digits')
  const wanted = type === 'tree' ? 1 : 0
  // Ids are uniformly distributed: their first bytes are the hash.
  for (let slot = key.readUInt32LE(0) % table.slots.length; ; slot = (slot + 1) % table.slots.length) {
    const row = (table.slots[slot] ?? 0) - 1
    if (row < 0) return slot
    if (table.types[row] !== wanted) continue
    if (table.ids.compare(key, 0, idBytes, row * idBytes, (row + 1) * idBytes) === 0) return slot
  }
}

function grow(table: Table): void {
  const rows = table.types.length * 2
  const ids = Buffer.alloc(rows * idBytes)
  ids.set(table.ids)
  const types = new Uint8Array(rows)
  types.set(table.types)
  const counts = new Uint8Array(rows)
  counts.set(table.counts)
  table.ids = ids
  table.types = types
  table.counts = counts
  table.slots = new Uint32Array(Math.ceil(rows * 1.5))
  for (let row = 0; row < table.size; row += 1) {
    let slot = ids.readUInt32LE(row * idBytes) % table.slots.length
    while (table.slots[slot] !== 0) slot = (slot + 1) % table.slots.length
    table.slots[slot] = row + 1
  }
}
