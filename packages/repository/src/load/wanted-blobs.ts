/**
 * Owns what a restore needs of the data blobs: each once, where it lies, and all the places in files where it belongs.
 * In typed arrays: 52 bytes per blob and 20 per place, for there may be millions.
 */
import type { BlobPlace } from '../blob-index.ts'
import { sealOverheadBytes } from '../format/crypto.ts'
import { idBytes, type PackId } from '../format/ids.ts'
import { grown } from './growing.ts'

export interface WantedBlobs {
  readonly size: number
  readonly references: number
  /** The number of a blob, which is looked up with `find` when it is new; undefined where that finds nothing. */
  add(id: string, find: (id: string) => BlobPlace | undefined): number | undefined
  /** Another place for the blob. */
  refer(blob: number, file: number, position: number): void
  plainBytes(blob: number): number
  /** 32 bytes. */
  id(blob: number): Buffer
  place(blob: number): { readonly offset: number; readonly length: number; readonly plainBytes: number }
  /** Calls `visit` with every place of the blob. */
  eachReference(blob: number, visit: (file: number, position: number) => void): void
  /** Blobs by pack, in the order of their offsets; packs in the order in which they were first needed. */
  byPack(): Generator<{ readonly pack: PackId; readonly blobs: Uint32Array }>
}

const blobWords = 6
const referenceWords = 3
const none = 0xffff_ffff
const slotsFirst = 2048

export function createWantedBlobs(): WantedBlobs {
  let ids: Uint8Array = new Uint8Array(idBytes * 1024)
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
  const key = Buffer.alloc(idBytes)

  const idOf = (blob: number) => Buffer.from(ids.buffer, blob * idBytes, idBytes)
  const field = (blob: number, number: number) => blobs[blob * blobWords + number] ?? 0

  /** The slot of the blob with this id, or the free one where it belongs. */
  function slotOf(id: Buffer): number {
    for (let slot = id.readUInt32LE(0) % slots.length; ; slot = (slot + 1) % slots.length) {
      const blob = (slots[slot] ?? 0) - 1
      if (blob < 0 || idOf(blob).equals(id)) return slot
    }
  }

  function packNumber(pack: PackId): number {
    const known = packNumbers.get(pack)
    if (known !== undefined) return known
    const number = packs.push(pack) - 1
    packNumbers.set(pack, number)
    return number
  }

  function growSlots(): void {
    slots = new Uint32Array(slots.length * 2)
    for (let blob = 0; blob < size; blob += 1) slots[slotOf(idOf(blob))] = blob + 1
  }

  return {
    get size() {
      return size
    },
    get references() {
      return referenceCount
    },
    add(id, find) {
      key.write(id, 'hex')
      const slot = slotOf(key)
      const known = (slots[slot] ?? 0) - 1
      if (known >= 0) return known
      const place = find(id)
      if (place === undefined) return undefined
      const blob = size
      ids = grown(ids, (blob + 1) * idBytes)
      ids.set(key, blob * idBytes)
      blobs = grown(blobs, (blob + 1) * blobWords)
      blobs.set(
        [packNumber(place.pack), place.offset, place.length, place.plainBytes ?? 0, none, none],
        blob * blobWords,
      )
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
      references.set([blob, file, none], reference * referenceWords)
      positions[reference] = position
      const last = field(blob, 5)
      if (last === none) blobs[blob * blobWords + 4] = reference
      else references[last * referenceWords + 2] = reference
      blobs[blob * blobWords + 5] = reference
    },
    plainBytes: (blob) => field(blob, 3) || field(blob, 2) - sealOverheadBytes,
    id: idOf,
    place: (blob) => ({ offset: field(blob, 1), length: field(blob, 2), plainBytes: field(blob, 3) }),
    eachReference(blob, visit) {
      for (let at = field(blob, 4); at !== none; at = references[at * referenceWords + 2] ?? none) {
        visit(references[at * referenceWords + 1] ?? 0, positions[at] ?? 0)
      }
    },
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

function add(numbers: Uint32Array, at: number, amount: number): void {
  numbers[at] = (numbers[at] ?? 0) + amount
}
