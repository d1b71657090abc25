/**
 * Owns the index in memory: where each blob lies. About 24 bytes per blob and 50 per pack (which has 15 blobs or more),
 * in arrays that grow piece by piece; blob-index.test.ts holds it to 40 per blob at any size.
 * Does not own index files; see loaded-index.ts.
 *
 * Ids are not kept but fingerprints of them, under a key of this index: see fingerprint.ts for why no wrong "yes" is to be
 * feared. So what it knows can be asked by id, and cannot be listed by id: read the index files for that.
 *
 * Invariants: 1. a blob may lie in several packs, each place is one row, the same place only once. 2. Rows are only added;
 * those of removed packs are not given out any more. 3. A pack of which two index files say different things has the
 * places of both, and `isContradictory` says so.
 */
import { assert, type Entropy } from '@stillpoint/core/kernel'
import { sealOverheadBytes } from './format/crypto.ts'
import { type BlobType, isId, type PackId } from './format/ids.ts'
import { columnsOf, type IndexedPack } from './format/index-file.ts'
import type { IndexColumns } from './format/index-scan.ts'
import { emptyPackBytes, headerEntryBytes, type PackEntry } from './format/pack.ts'
import { createBlobLengths } from './index-memory/blob-lengths.ts'
import { createFingerprinter, type Fingerprint } from './index-memory/fingerprint.ts'
import { createFingerprintTable } from './index-memory/fingerprint-table.ts'
import { createPackTable, type Run, runRowsMax } from './index-memory/pack-table.ts'

export interface BlobPlace extends PackEntry {
  readonly pack: PackId
}

export interface PackSummary {
  readonly number: number
  readonly blobs: number
  /** What the file measures if it has these blobs and no others. */
  readonly fileBytes: number
}

export interface BlobIndex {
  /** Places that are known, those of removed packs among them. */
  readonly size: number
  /** Packs that are not removed. */
  readonly packs: number
  /** Of all arrays, in use and spare. */
  readonly bytes: number
  /** Places in packs that are removed. */
  readonly removedRows: number
  readonly isContradictory: boolean
  /** All numbers of packs are below it. */
  readonly packNumberEnd: number
  add(pack: IndexedPack): void
  /** Adds all packs of an index file. Returns their numbers, in the order of the file. */
  addColumns(columns: IndexColumns): Uint32Array
  has(id: string, type: BlobType): boolean
  /** Every place of a blob, the first known first. */
  places(id: string, type: BlobType): BlobPlace[]
  /** Length of a blob's plaintext, wherever it lies; undefined where it is not known. */
  plainBytes(id: string, type: BlobType): number | undefined
  /** The same of a data blob whose id has its digits there, which were validated before. */
  plainBytesOfDigits(digits: Digits): number | undefined
  /** The row of each place of a blob, in no particular order, until `visit` returns true. */
  findRow(id: string, type: BlobType, visit: (row: number) => boolean): void
  /** The same of a data blob whose id has its digits there, which were validated before. */
  findRowOfDigits(digits: Digits, visit: (row: number) => boolean): void
  /** All rows of the blob that has this row, the first known first. */
  rowsLike(row: number): number[]
  rowPlace(row: number): RowPlace
  /** Rows of a pack in the order of their offsets. What is given out changes with the next one. */
  eachRowOf(pack: number, visit: (row: PackRow) => void): void
  /** Packs that are not removed, in the order of their numbers. */
  eachPack(visit: (pack: PackSummary) => void): void
  hasPack(id: string): boolean
  /** The number of a pack that is not removed, or -1. */
  packNumber(id: string): number
  packId(pack: number): PackId
  /** Negative where the id of `pack` comes before the one of `other`. */
  comparePacks(pack: number, other: number): number
  /** A pack of which two index files say different things. */
  contradictoryPack(): PackId | undefined
  /** What a pack of trees measures; undefined where the pack is not known or holds data. */
  treePackBytes(id: string): number | undefined
  /** Whether exactly these are the entries that are known of the pack. */
  agrees(pack: IndexedPack): boolean
  /** Forgets the packs whose numbers are not kept. */
  removePacks(isKept: (packNumber: number) => boolean): void
  /** Makes place for as many blobs in all. */
  expect(blobs: number): void
}

/** Where the 64 digits of an id lie. */
export interface Digits {
  readonly bytes: Uint8Array
  at: number
}

export interface RowPlace {
  readonly pack: number
  readonly offset: number
  /** Of the sealed blob. */
  readonly length: number
  /** Length of the plaintext, also where the blob is not compressed. */
  readonly plainBytes: number
  readonly isCompressed: boolean
}

export interface PackRow {
  readonly row: number
  readonly type: BlobType
  readonly length: number
  readonly isCompressed: boolean
}

/** A row of a pack that is given anew. */
interface Row extends Fingerprint {
  readonly type: BlobType
  readonly offset: number
  readonly length: number
  readonly plain: number
}

export function createBlobIndex(entropy: Entropy): BlobIndex {
  const fingerprinter = createFingerprinter(entropy)
  const rows = createFingerprintTable()
  const lengths = createBlobLengths()
  const packs = createPackTable()
  let removedRows = 0
  /** Of the last one that was contradicted, or -1. */
  let contradictory = -1
  const idDigits = Buffer.alloc(64)

  // The run that is being filled: how many rows it can still take, and where in the pack it ends.
  const open = { rowsLeft: 0, end: 0, type: 'data' as BlobType }

  /** Adds a row to the last pack. Its fingerprint is in `row`. */
  function appendRow(row: Fingerprint, place: Omit<Row, keyof Fingerprint>): void {
    const number = rows.add(row)
    lengths.add(number, place.length, place.plain)
    if (open.rowsLeft === 0 || open.end !== place.offset || open.type !== place.type) {
      packs.addRun({ type: place.type, firstRow: number, offset: place.offset })
      open.rowsLeft = runRowsMax
      open.type = place.type
    }
    open.rowsLeft -= 1
    open.end = place.offset + place.length
  }

  function beginPack(digits: Uint8Array, at: number): number {
    open.rowsLeft = 0
    return packs.add(digits, at)
  }

  function endOfRun(run: number): number {
    return run + 1 < packs.runs ? packs.runAt(run + 1).firstRow : rows.size
  }

  function summaryOf(firstRun: number, endRun: number): Omit<PackSummary, 'number'> {
    let [blobs, fileBytes] = [0, emptyPackBytes]
    for (let run = firstRun; run < endRun; run += 1) {
      for (let row = packs.runAt(run).firstRow, end = endOfRun(run); row < end; row += 1) {
        blobs += 1
        fileBytes += lengths.sealed(row) + headerEntryBytes(lengths.plain(row) !== 0)
      }
    }
    return { blobs, fileBytes }
  }

  function livePack(id: string): number {
    assert(isId(id), 'an id has 64 hexadecimal digits')
    idDigits.write(id, 'latin1')
    const pack = packs.numberOf(idDigits, 0)
    return pack >= 0 && packs.isRemoved(pack) ? -1 : pack
  }

  function rowsOfPack(pack: number): Row[] {
    const found: Row[] = []
    const { first, end } = packs.runsOf(pack)
    for (let run = first; run < end; run += 1) {
      const { type, firstRow, offset: begin } = packs.runAt(run)
      let offset = begin
      for (let row = firstRow; row < endOfRun(run); row += 1) {
        const [length, plain] = [lengths.sealed(row), lengths.plain(row)]
        const fingerprint = { a: 0, b: 0, c: 0 }
        rows.fingerprintAt(row, fingerprint)
        found.push({ ...fingerprint, type, offset, length, plain })
        offset += length
      }
    }
    return found
  }

  /** Whether the rows of a pack are these, in this order: so they are in all packs but odd ones. */
  function isInOrder(pack: number, entries: readonly PackEntry[]): boolean {
    const { first, end } = packs.runsOf(pack)
    const known: Fingerprint = { a: 0, b: 0, c: 0 }
    let at = 0
    for (let run = first; run < end; run += 1) {
      const { type, firstRow, offset: begin } = packs.runAt(run)
      let offset = begin
      for (let row = firstRow, rowEnd = endOfRun(run); row < rowEnd; row += 1, at += 1) {
        const entry = entries[at]
        if (entry === undefined || entry.type !== type || entry.offset !== offset) return false
        const length = lengths.sealed(row)
        if (entry.length !== length || (entry.plainBytes ?? 0) !== lengths.plain(row)) return false
        rows.fingerprintAt(row, known)
        fingerprinter.ofText(entry.id, type)
        const { a, b, c } = fingerprinter.last
        if (a !== known.a || b !== known.b || c !== known.c) return false
        offset += length
      }
    }
    return at === entries.length
  }

  function rowAt(columns: IndexColumns, blob: number): Row {
    const isTree = columns.isTree[blob] === 1
    fingerprinter.ofDigits(columns.bytes, columns.idAt[blob] ?? 0, isTree)
    const { a, b, c } = fingerprinter.last
    const offset = columns.offset[blob] ?? 0
    const length = columns.length[blob] ?? 0
    return { a, b, c, type: isTree ? 'tree' : 'data', offset, length, plain: columns.plain[blob] ?? 0 }
  }

  /** Entries of one pack of an index file, in the order of their offsets, each once. */
  function rowsIn(columns: IndexColumns, from: number, end: number): Row[] {
    const found: Row[] = []
    for (let blob = from; blob < end; blob += 1) found.push(rowAt(columns, blob))
    found.sort(byOffset)
    return withoutRepeats(found)
  }

  function addPack(columns: IndexColumns, pack: number, from: number, end: number): number {
    const digits = columns.bytes
    const at = columns.packIdAt[pack] ?? 0
    const known = packs.numberOf(digits, at)
    if (known >= 0) return addKnown(known, rowsIn(columns, from, end), { digits, at })
    const number = beginPack(digits, at)
    if (isAscending(columns.offset, from, end)) {
      for (let blob = from; blob < end; blob += 1) {
        const row = rowAt(columns, blob)
        appendRow(row, row)
      }
    } else for (const row of rowsIn(columns, from, end)) appendRow(row, row)
    return number
  }

  /** Invariant 3: what is known and what is new become a pack of their own, in the place of the known one. */
  function addKnown(known: number, given: readonly Row[], { digits, at }: { digits: Uint8Array; at: number }): number {
    const before = rowsOfPack(known)
    const isLive = !packs.isRemoved(known)
    if (areEqual(before, given)) {
      if (!isLive) remove(known, before.length, false)
      return known
    }
    if (isLive) {
      contradictory = known
      remove(known, before.length, true)
    }
    const number = beginPack(digits, at)
    const all = isLive ? withoutRepeats([...before, ...given].sort(byOffset)) : given
    for (const row of all) appendRow(row, row)
    return number
  }

  function remove(pack: number, blobs: number, isRemoved: boolean): void {
    packs.setRemoved(pack, isRemoved)
    removedRows += isRemoved ? blobs : -blobs
  }

  function placeAt(row: number, id: string): BlobPlace {
    const run = packs.runOfRow(row)
    const plain = lengths.plain(row)
    const plainBytes = plain === 0 ? undefined : plain
    const offset = offsetOf(row, run)
    return { pack: packs.id(run.pack), id, type: run.type, offset, length: lengths.sealed(row), plainBytes }
  }

  const isThere = (row: number) => packs.live === packs.size || !packs.isRemoved(packs.packOfRow(row))

  function addColumns(columns: IndexColumns): Uint32Array {
    const numbers = new Uint32Array(columns.packs)
    for (let pack = 0, from = 0; pack < columns.packs; pack += 1) {
      const end = columns.packEnd[pack] ?? 0
      numbers[pack] = addPack(columns, pack, from, end)
      from = end
    }
    return numbers
  }

  function plainBytesAt(row: number): number | undefined {
    return row < 0 ? undefined : lengths.plain(row) || lengths.sealed(row) - sealOverheadBytes
  }

  /** Of the fingerprint that was made last. */
  function findRow(visit: (row: number) => boolean): void {
    rows.find(fingerprinter.last, packs.live === packs.size ? visit : (row) => isThere(row) && visit(row))
  }

  function offsetOf(row: number, run: Run): number {
    let { offset } = run
    for (let before = run.firstRow; before < row; before += 1) offset += lengths.sealed(before)
    return offset
  }

  return {
    get size() {
      return rows.size
    },
    get packs() {
      return packs.live
    },
    get bytes() {
      return rows.bytes + lengths.bytes + packs.bytes
    },
    get removedRows() {
      return removedRows
    },
    get isContradictory() {
      return contradictory >= 0
    },
    get packNumberEnd() {
      return packs.size
    },
    addColumns,
    add: (pack) => void addColumns(columnsOf([pack])),
    has(id, type) {
      if (rows.size === 0) return false // in a new repository, for as long as its first index is not written
      fingerprinter.ofText(id, type)
      return rows.find(fingerprinter.last, isThere) >= 0
    },
    places(id, type) {
      fingerprinter.ofText(id, type)
      return rows
        .rowsOf(fingerprinter.last)
        .filter(isThere)
        .map((row) => placeAt(row, id))
    },
    plainBytes(id, type) {
      fingerprinter.ofText(id, type)
      return plainBytesAt(rows.find(fingerprinter.last, isThere))
    },
    plainBytesOfDigits({ bytes, at }) {
      fingerprinter.ofDigits(bytes, at, false)
      return plainBytesAt(rows.find(fingerprinter.last, isThere))
    },
    findRow(id, type, visit) {
      fingerprinter.ofText(id, type)
      findRow(visit)
    },
    findRowOfDigits({ bytes, at }, visit) {
      fingerprinter.ofDigits(bytes, at, false)
      findRow(visit)
    },
    rowsLike(row) {
      const fingerprint = { a: 0, b: 0, c: 0 }
      rows.fingerprintAt(row, fingerprint)
      return rows.rowsOf(fingerprint).filter(isThere)
    },
    rowPlace(row) {
      const run = packs.runOfRow(row)
      const [length, plain] = [lengths.sealed(row), lengths.plain(row)]
      const plainBytes = plain || length - sealOverheadBytes
      return { pack: run.pack, offset: offsetOf(row, run), length, plainBytes, isCompressed: plain !== 0 }
    },
    eachRowOf(pack, visit) {
      const { first, end } = packs.runsOf(pack)
      const given: { -readonly [K in keyof PackRow]: PackRow[K] } = {
        row: 0,
        type: 'data',
        length: 0,
        isCompressed: false,
      }
      for (let run = first; run < end; run += 1) {
        const { type, firstRow } = packs.runAt(run)
        given.type = type
        for (let row = firstRow, rowEnd = endOfRun(run); row < rowEnd; row += 1) {
          given.row = row
          given.length = lengths.sealed(row)
          given.isCompressed = lengths.plain(row) !== 0
          visit(given)
        }
      }
    },
    eachPack(visit) {
      for (let number = 0, run = 0; number < packs.size; number += 1) {
        const first = run
        while (run < packs.runs && packs.packOfRun(run) === number) run += 1
        if (!packs.isRemoved(number)) visit({ number, ...summaryOf(first, run) })
      }
    },
    hasPack: (id) => livePack(id) >= 0,
    packNumber: livePack,
    packId: packs.id,
    comparePacks: packs.compare,
    contradictoryPack: () => (contradictory < 0 ? undefined : packs.id(contradictory)),
    treePackBytes(id) {
      const pack = livePack(id)
      if (pack < 0) return undefined
      const { first, end } = packs.runsOf(pack)
      if (first === end || packs.runAt(first).type !== 'tree') return undefined
      return summaryOf(first, end).fileBytes
    },
    agrees(given) {
      const pack = livePack(given.id)
      if (pack < 0) return false
      if (isInOrder(pack, given.entries)) return true
      const columns = columnsOf([given])
      return areEqual(rowsOfPack(pack), rowsIn(columns, 0, columns.blobs))
    },
    removePacks(isKept) {
      for (let pack = 0; pack < packs.size; pack += 1) {
        if (packs.isRemoved(pack) || isKept(pack)) continue
        const { first, end } = packs.runsOf(pack)
        const blobs = first === end ? 0 : endOfRun(end - 1) - packs.runAt(first).firstRow
        remove(pack, blobs, true)
      }
    },
    expect: (blobs) => rows.expect(blobs),
  }
}

const byOffset = (one: Row, other: Row) => one.offset - other.offset

function isAscending(offsets: Uint32Array, from: number, end: number): boolean {
  for (let at = from + 1; at < end; at += 1) if ((offsets[at] ?? 0) <= (offsets[at - 1] ?? 0)) return false
  return true
}

const isSame = (one: Row, other: Row) =>
  one.a === other.a &&
  one.b === other.b &&
  one.c === other.c &&
  one.type === other.type &&
  one.offset === other.offset &&
  one.length === other.length &&
  one.plain === other.plain

/** Of rows that are in the order of their offsets. Blobs without a place of their own are rare, and no sign of damage. */
function withoutRepeats(rows: readonly Row[]): Row[] {
  const isRepeated = rows.some((row, at) => row.offset === rows[at - 1]?.offset)
  if (!isRepeated) return [...rows]
  const known = new Map<string, Row>()
  for (const row of rows) known.set([row.a, row.b, row.c, row.type, row.offset, row.length, row.plain].join(), row)
  return [...known.values()]
}

/** Of rows that are in the order of their offsets. */
function areEqual(some: readonly Row[], others: readonly Row[]): boolean {
  return (
    some.length === others.length &&
    some.every((row, at) => {
      const other = others[at]
      return other !== undefined && isSame(row, other)
    })
  )
}
