/**
 * Owns the index in memory: where each blob lies. Columns of typed arrays and one table of open addressing, 48 bytes per
 * blob and 4 per slot of the table (kept at most two thirds full).
 * Does not own index files; see loaded-index.ts.
 *
 * Invariants: 1. a blob may lie in several packs, each place is one row, the same place only once. 2. rows are only added.
 */
import { assert } from '@stillpoint/core/kernel'
import { type BlobType, idBytes, type PackId } from './format/ids.ts'
import type { IndexedPack } from './format/index-file.ts'
import type { PackEntry } from './format/pack.ts'

export interface BlobPlace extends PackEntry {
  readonly pack: PackId
}

export interface BlobIndex {
  readonly size: number
  readonly packs: readonly PackId[]
  add(pack: IndexedPack): void
  has(id: string, type: BlobType): boolean
  /** Every place of a blob, the first known first. */
  places(id: string, type: BlobType): BlobPlace[]
  /** All rows, grouped by pack. */
  byPack(): Map<PackId, PackEntry[]>
}

const rowsFirst = 1024
/** Bit of the column `packs`, above all pack numbers. */
const treeBit = 0x8000_0000

interface Columns {
  readonly ids: Buffer
  readonly packs: Uint32Array
  readonly offsets: Uint32Array
  readonly lengths: Uint32Array
  /** 0: not compressed; otherwise the length of the plaintext */
  readonly plain: Uint32Array
}

function columns(rows: number): Columns {
  return {
    ids: Buffer.alloc(rows * idBytes),
    packs: new Uint32Array(rows),
    offsets: new Uint32Array(rows),
    lengths: new Uint32Array(rows),
    plain: new Uint32Array(rows),
  }
}

export function createBlobIndex(): BlobIndex {
  let data = columns(rowsFirst)
  let table = new Uint32Array(rowsFirst * 2)
  let size = 0
  const packs: PackId[] = []
  const packNumbers = new Map<PackId, number>()
  const key = Buffer.alloc(idBytes)

  function slotOf(ids: Buffer, at: number): number {
    // Ids are uniformly distributed already: four of their bytes are the hash.
    return ids.readUInt32LE(at) % table.length
  }

  function grow(): void {
    const wider = columns(data.packs.length * 2)
    wider.ids.set(data.ids)
    wider.packs.set(data.packs)
    wider.offsets.set(data.offsets)
    wider.lengths.set(data.lengths)
    wider.plain.set(data.plain)
    data = wider
    table = new Uint32Array(Math.ceil(wider.packs.length * 1.5))
    for (let row = 0; row < size; row += 1) link(row)
  }

  function link(row: number): void {
    let slot = slotOf(data.ids, row * idBytes)
    while (table[slot] !== 0) slot = (slot + 1) % table.length
    table[slot] = row + 1
  }

  /** Rows with this id and type, in the order of insertion. */
  function rowsOf(id: string, type: BlobType): number[] {
    assert(key.write(id, 'hex') === idBytes, 'an id has 64 hexadecimal digits')
    const rows: number[] = []
    for (let slot = slotOf(key, 0); ; slot = (slot + 1) % table.length) {
      const row = (table[slot] ?? 0) - 1
      if (row < 0) return rows
      const at = row * idBytes
      if (data.ids.compare(key, 0, idBytes, at, at + idBytes) === 0 && typeOf(row) === type) rows.push(row)
    }
  }

  const typeOf = (row: number): BlobType => ((data.packs[row] ?? 0) >= treeBit ? 'tree' : 'data')
  const packOf = (row: number) => (data.packs[row] ?? 0) % treeBit

  function placeAt(row: number): BlobPlace {
    const pack = packs[packOf(row)]
    assert(pack !== undefined, 'each row has a pack')
    const plain = data.plain[row] ?? 0
    return {
      pack,
      id: data.ids.toString('hex', row * idBytes, (row + 1) * idBytes),
      type: typeOf(row),
      offset: data.offsets[row] ?? 0,
      length: data.lengths[row] ?? 0,
      plainBytes: plain === 0 ? undefined : plain,
    }
  }

  function addEntry(entry: PackEntry, pack: number): void {
    const known = rowsOf(entry.id, entry.type)
    if (known.some((row) => packOf(row) === pack && data.offsets[row] === entry.offset)) return
    if (size === data.packs.length) grow()
    data.ids.write(entry.id, size * idBytes, 'hex')
    data.packs[size] = pack + (entry.type === 'tree' ? treeBit : 0)
    data.offsets[size] = entry.offset
    data.lengths[size] = entry.length
    data.plain[size] = entry.plainBytes ?? 0
    link(size)
    size += 1
  }

  return {
    get size() {
      return size
    },
    packs,
    add(pack) {
      let number = packNumbers.get(pack.id)
      if (number === undefined) {
        number = packs.push(pack.id) - 1
        packNumbers.set(pack.id, number)
      }
      for (const entry of pack.entries) addEntry(entry, number)
    },
    has: (id, type) => rowsOf(id, type).length > 0,
    places: (id, type) => rowsOf(id, type).map(placeAt),
    byPack() {
      const grouped = new Map<PackId, PackEntry[]>(packs.map((pack) => [pack, []]))
      for (let row = 0; row < size; row += 1) {
        const place = placeAt(row)
        grouped.get(place.pack)?.push(place)
      }
      return grouped
    },
  }
}
