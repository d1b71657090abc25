/**
 * Owns what a restore needs of the data blobs: each once, where it lies, and all the places in files where it belongs.
 * In typed arrays: 52 bytes per blob and 20 per place, for there may be millions.
 */
import type { BlobIndex, RowPlace } from '../blob-index.ts'
import { sealOverheadBytes } from '../format/crypto.ts'
import { idBytes, type PackId } from '../format/ids.ts'
import { grown } from './growing.ts'

export interface WantedBlobs {
  readonly size: number
  readonly references: number
  /** The number of a data blob, which is looked up when it is new; undefined where the index does not know it. */
  add(id: string, index: BlobIndex): number | undefined
  /** Another place for the blob. */
  refer(blob: number, file: number, position: number): void
  plainBytes(blob: number): number
  /** 32 bytes. */
  id(blob: number): Buffer
  place(blob: number): { readonly offset: number; readonly length: number; readonly plainBytes: number }
  copyId(blob: number, target: Uint8Array, at: number): void
  /** Places of the blob, one after the other; -1 where there is none. */
  firstReference(blob: number): number
  nextReference(reference: number): number
  fileAt(reference: number): number
  positionAt(reference: number): number
  /** Blobs by pack, in the order of their offsets; packs in the order in which they were first needed. */
  byPack(): Generator<{ readonly pack: PackId; readonly blobs: Uint32Array }>
}

const idWords = idBytes / 4
const blobWords = 6
const referenceWords = 3
const none = 0xffff_ffff
const slotsFirst = 2048

export function createWantedBlobs(): WantedBlobs {
  let ids = new Uint32Array(idWords * 1024)
  /** Pack, offset, length, plain, first reference, last reference. */
  let blobs = new Uint32Array(blobWords * 1024)
  /** Blob number plus one. */
  let slots = new Uint32Array(slotsFirst)
  /** Blob, file, next reference. */
  let references = new Uint32Array(referenceWords * 1024)
  let positions = new Float64Array(1024)
  let size = 0
  let referenceCount = 0
  const packs: PackId[] = []
  const packNumbers = new Map<PackId, number>()
  const key = new Uint32Array(idWords)
  const keyBytes = Buffer.from(key.buffer)

  const idOf = (blob: number) => Buffer.from(ids.buffer, blob * idBytes, idBytes)
  const field = (blob: number, number: number) => blobs[blob * blobWords + number] ?? 0

  /** Ids are hashes: their first word is as good as another. There is a power of two of slots. */
  const homeOf = (word: number) => word & (slots.length - 1)

  /** The slot of the blob with the id that is in `key`, or the free one where it belongs. */
  function slotOfKey(): number {
    for (let slot = homeOf(key[0] ?? 0); ; slot = homeOf(slot + 1)) {
      const blob = (slots[slot] ?? 0) - 1
      if (blob < 0 || hasKey(blob)) return slot
    }
  }

  function hasKey(blob: number): boolean {
    for (let word = 0; word < idWords; word += 1) if (ids[blob * idWords + word] !== key[word]) return false
    return true
  }

  function packNumber(pack: PackId): number {
    const known = packNumbers.get(pack)
    if (known !== undefined) return known
    const number = packs.push(pack) - 1
    packNumbers.set(pack, number)
    return number
  }

  /** Numbers of packs that an index has given, and ours: to ask for an id costs more than all else. */
  let numbersOf: BlobIndex | undefined
  const ourNumbers = new Map<number, number>()

  function ourPackNumber(index: BlobIndex, pack: number): number {
    if (numbersOf !== index) ourNumbers.clear()
    numbersOf = index
    const known = ourNumbers.get(pack)
    if (known !== undefined) return known
    const number = packNumber(index.packId(pack))
    ourNumbers.set(pack, number)
    return number
  }

  function growSlots(): void {
    slots = new Uint32Array(slots.length * 2)
    for (let blob = 0; blob < size; blob += 1) {
      let slot = homeOf(ids[blob * idWords] ?? 0)
      while (slots[slot] !== 0) slot = homeOf(slot + 1)
      slots[slot] = blob + 1
    }
  }

  return {
    get size() {
      return size
    },
    get references() {
      return referenceCount
    },
    add(id, index) {
      keyBytes.write(id, 'hex')
      const slot = slotOfKey()
      const known = (slots[slot] ?? 0) - 1
      if (known >= 0) return known
      const place = firstPlace(index, id)
      if (place === undefined) return undefined
      const blob = size
      ids = grown(ids, (blob + 1) * idWords)
      for (let word = 0; word < idWords; word += 1) ids[blob * idWords + word] = key[word] ?? 0
      blobs = grown(blobs, (blob + 1) * blobWords)
      const row = blob * blobWords
      blobs[row] = ourPackNumber(index, place.pack)
      blobs[row + 1] = place.offset
      blobs[row + 2] = place.length
      blobs[row + 3] = place.isCompressed ? place.plainBytes : 0
      blobs[row + 4] = none
      blobs[row + 5] = none
      size += 1
      slots[slot] = size
      if (size * 2 > slots.length) growSlots()
      return blob
    },
    refer(blob, file, position) {
      const reference = referenceCount
      referenceCount += 1
      references = grown(references, referenceCount * referenceWords)
      positions = grown(positions, referenceCount)
      references[reference * referenceWords] = blob
      references[reference * referenceWords + 1] = file
      references[reference * referenceWords + 2] = none
      positions[reference] = position
      const last = field(blob, 5)
      if (last === none) blobs[blob * blobWords + 4] = reference
      else references[last * referenceWords + 2] = reference
      blobs[blob * blobWords + 5] = reference
    },
    plainBytes: (blob) => field(blob, 3) || field(blob, 2) - sealOverheadBytes,
    id: idOf,
    place: (blob) => ({ offset: field(blob, 1), length: field(blob, 2), plainBytes: field(blob, 3) }),
    copyId(blob, target, at) {
      const from = blob * idBytes
      const bytes = new Uint8Array(ids.buffer, from, idBytes)
      target.set(bytes, at)
    },
    firstReference: (blob) => orMinusOne(field(blob, 4)),
    nextReference: (reference) => orMinusOne(references[reference * referenceWords + 2] ?? none),
    fileAt: (reference) => references[reference * referenceWords + 1] ?? 0,
    positionAt: (reference) => positions[reference] ?? 0,
    *byPack() {
      const counts = new Uint32Array(packs.length + 1)
      const wanted = (blob: number) => field(blob, 4) !== none
      for (let blob = 0; blob < size; blob += 1) if (wanted(blob)) add(counts, field(blob, 0) + 1, 1)
      for (let pack = 1; pack <= packs.length; pack += 1) add(counts, pack, counts[pack - 1] ?? 0)
      const order = new Uint32Array(counts[packs.length] ?? 0)
      const filled = counts.slice()
      for (let blob = 0; blob < size; blob += 1) {
        if (!wanted(blob)) continue
        const pack = field(blob, 0)
        order[filled[pack] ?? 0] = blob
        add(filled, pack, 1)
      }
      for (const [number, pack] of packs.entries()) {
        const ofPack = order.subarray(counts[number], counts[number + 1])
        if (ofPack.length === 0) continue
        yield { pack, blobs: ofPack.sort((left, right) => field(left, 1) - field(right, 1)) }
      }
    },
  }
}

function firstPlace(index: BlobIndex, id: string): RowPlace | undefined {
  let found = -1
  index.findRow(id, 'data', (row) => {
    found = row
    return true
  })
  return found < 0 ? undefined : index.rowPlace(found)
}

const orMinusOne = (reference: number) => (reference === none ? -1 : reference)

function add(numbers: Uint32Array, at: number, amount: number): void {
  numbers[at] = (numbers[at] ?? 0) + amount
}
