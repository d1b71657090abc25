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

/** The columns, and the table of row numbers plus one, by id. */
interface Rows {
  data: Columns
  table: Uint32Array
  size: number
}

/** Ids are uniformly distributed already: four of their bytes are the hash. */
function slotOf(rows: Rows, ids: Buffer, at: number): number {
  return ids.readUInt32LE(at) % rows.table.length
}

function linkRow(rows: Rows, row: number): void {
  let slot = slotOf(rows, rows.data.ids, row * idBytes)
  while (rows.table[slot] !== 0) slot = (slot + 1) % rows.table.length
  rows.table[slot] = row + 1
}

function grow(rows: Rows): void {
  const { data } = rows
  const wider = columns(data.packs.length * 2)
  wider.ids.set(data.ids)
  wider.packs.set(data.packs)
  wider.offsets.set(data.offsets)
  wider.lengths.set(data.lengths)
  wider.plain.set(data.plain)
  rows.data = wider
  rows.table = new Uint32Array(Math.ceil(wider.packs.length * 1.5))
  for (let row = 0; row < rows.size; row += 1) linkRow(rows, row)
}

const typeOf = ({ data }: Rows, row: number): BlobType => ((data.packs[row] ?? 0) >= treeBit ? 'tree' : 'data')
const packNumberOf = ({ data }: Rows, row: number) => (data.packs[row] ?? 0) % treeBit

const key = Buffer.alloc(idBytes)

/** Rows with this id and type, in the order of insertion. */
function rowsOf(rows: Rows, id: string, type: BlobType): number[] {
  assert(key.write(id, 'hex') === idBytes, 'an id has 64 hexadecimal digits')
  const found: number[] = []
  for (let slot = slotOf(rows, key, 0); ; slot = (slot + 1) % rows.table.length) {
    const row = (rows.table[slot] ?? 0) - 1
    if (row < 0) return found
    const at = row * idBytes
    if (rows.data.ids.compare(key, 0, idBytes, at, at + idBytes) === 0 && typeOf(rows, row) === type) found.push(row)
  }
}

function addRow(rows: Rows, entry: PackEntry, pack: number): void {
  const known = rowsOf(rows, entry.id, entry.type)
  if (known.some((row) => packNumberOf(rows, row) === pack && rows.data.offsets[row] === entry.offset)) return
  if (rows.size === rows.data.packs.length) grow(rows)
  const { data, size } = rows
  data.ids.write(entry.id, size * idBytes, 'hex')
  data.packs[size] = pack + (entry.type === 'tree' ? treeBit : 0)
  data.offsets[size] = entry.offset
  data.lengths[size] = entry.length
  data.plain[size] = entry.plainBytes ?? 0
  linkRow(rows, size)
  rows.size += 1
}

export function createBlobIndex(): BlobIndex {
  const rows: Rows = { data: columns(rowsFirst), table: new Uint32Array(rowsFirst * 2), size: 0 }
  const packs: PackId[] = []
  const packNumbers = new Map<PackId, number>()

  function placeAt(row: number): BlobPlace {
    const pack = packs[packNumberOf(rows, row)]
    assert(pack !== undefined, 'each row has a pack')
    const { ids, offsets, lengths, plain } = rows.data
    return {
      pack,
      id: ids.toString('hex', row * idBytes, (row + 1) * idBytes),
      type: typeOf(rows, row),
      offset: offsets[row] ?? 0,
      length: lengths[row] ?? 0,
      plainBytes: plain[row] === 0 ? undefined : plain[row],
    }
  }

  return {
    get size() {
      return rows.size
    },
    packs,
    add(pack) {
      let number = packNumbers.get(pack.id)
      if (number === undefined) {
        number = packs.push(pack.id) - 1
        packNumbers.set(pack.id, number)
      }
      for (const entry of pack.entries) addRow(rows, entry, number)
    },
    has: (id, type) => rowsOf(rows, id, type).length > 0,
    places: (id, type) => rowsOf(rows, id, type).map(placeAt),
    byPack() {
      const grouped = new Map<PackId, PackEntry[]>(packs.map((pack) => [pack, []]))
      for (let row = 0; row < rows.size; row += 1) {
        const place = placeAt(row)
        grouped.get(place.pack)?.push(place)
      }
      return grouped
    },
  }
}
