/**
 * Owns the packs that are being filled in shared memory, and which of them a blob goes to. Sealing and storing are done
 * by others: a blob is assigned, then its sealed place is told, and a pack is given out when it is full.
 *
 * Invariants: 1. data and tree blobs lie in separate packs. 2. To which of the open packs a blob goes is decided by
 * secure randomness, so that the sizes of chunks in a row cannot be read off a pack (Alexeev, Percival, Zhang: "Chunking
 * Attacks on File Backup Services", IACR ePrint 2025/532). 3. A pack never gets more than its memory holds, however
 * badly its blobs compress. 4. A pack is given out when nothing is being sealed into it any more.
 */
import { assert, type Entropy } from '@stillpoint/core/kernel'
import { sealOverheadBytes } from '../format/crypto.ts'
import type { BlobType } from '../format/ids.ts'
import type { PackEntry } from '../format/pack.ts'
import { createSlabs, type Slab } from '../work/slabs.ts'
import { createChooser, openPacks, packBlobsMax } from './open-packs.ts'
import { empty, filledPart, regionBytes } from './pack-region.ts'

/** The greatest blob that can be assigned to a pack that is nearly full, sealed, and the greatest header. */
const headerBytesMost = 1 << 20
const lastBlobBytesMost = 9 << 20
/** Open ones, and those that are ended and stored meanwhile: who finds none waits. */
const slabsMax: Readonly<Record<BlobType, number>> = { data: 4, tree: 3 }

export interface FillingPack {
  readonly type: BlobType
  /** See pack-region.ts. */
  readonly region: Buffer<SharedArrayBuffer>
  /** What has been sealed into it. */
  readonly entries: PackEntry[]
  /** Gives its memory back. */
  release(): void
}

interface OpenPack extends FillingPack {
  readonly slab: Slab
  /** Sealed, and at most to come. */
  sealedBytes: number
  bytesAtMost: number
  /** What is expected of those to come, by how blobs have compressed lately. */
  bytesExpected: number
  sealing: number
  blobs: number
  isOpen: boolean
}

export interface FillingPacks {
  /** The pack for a blob of this length, or undefined where memory must be waited for. */
  tryAssign(type: BlobType, plainBytes: number): FillingPack | undefined
  /** Waits for memory, and opens a pack in it where one is missing. @throws the signal's reason */
  openAnother(type: BlobType, signal: AbortSignal): Promise<void>
  /** Tells that a blob has been sealed into its pack. Returns the pack if it is full by it. */
  sealed(pack: FillingPack, entry: PackEntry, plainBytes: number): FillingPack | undefined
  /** Takes out what is not full. Nothing may be being sealed. */
  takeRest(type: BlobType): readonly FillingPack[]
  /** Memory for one more pack. */
  takeMemory(type: BlobType, signal: AbortSignal): Promise<Slab>
}

/** @param packBytesTarget a pack is full when it has so many bytes */
export function createFillingPacks(entropy: Entropy, packBytesTarget: number): FillingPacks {
  const packBytesMost = packBytesTarget + lastBlobBytesMost + headerBytesMost
  const slabs = {
    data: createSlabs({ slabBytes: regionBytes(packBytesMost), slabsMax: slabsMax.data }),
    tree: createSlabs({ slabBytes: regionBytes(packBytesMost), slabsMax: slabsMax.tree }),
  }
  const slots: Record<BlobType, (OpenPack | undefined)[]> = {
    data: Array.from({ length: openPacks.data }),
    tree: Array.from({ length: openPacks.tree }),
  }
  const choose = createChooser(entropy)
  const opened = new Map<FillingPack, OpenPack>()
  /** Sealed bytes per plain byte, of late. */
  const ratio = { data: 1, tree: 1 }

  function openIn(type: BlobType, slot: number, slab: Slab): OpenPack {
    empty(slab.bytes)
    const counts = { sealedBytes: 0, bytesAtMost: 0, bytesExpected: 0, sealing: 0, blobs: 0 }
    const pack: OpenPack = {
      ...{ type, region: slab.bytes, slab, entries: [], ...counts, isOpen: true },
      release: () => slab.release(),
    }
    slots[type][slot] = pack
    opened.set(pack, pack)
    return pack
  }

  function close(pack: OpenPack): void {
    pack.isOpen = false
    const all = slots[pack.type]
    const slot = all.indexOf(pack)
    if (slot >= 0) all[slot] = undefined
  }

  /** A pack that compressed better than expected is opened again, if its place is not taken yet. */
  function reopened(pack: OpenPack): boolean {
    if (pack.sealedBytes >= packBytesTarget || pack.blobs >= packBlobsMax) return false
    const slot = slots[pack.type].indexOf(undefined)
    if (slot < 0) return false
    slots[pack.type][slot] = pack
    pack.isOpen = true
    return true
  }

  /** One of the open packs, and of those that memory can be found for. */
  function chosen(type: BlobType, most: number): OpenPack | undefined {
    const first = choose(slots[type].length)
    for (let step = 0; step < slots[type].length; step += 1) {
      const slot = (first + step) % slots[type].length
      const pack = slots[type][slot]
      if (pack !== undefined) {
        if (pack.sealedBytes + pack.bytesAtMost + most <= packBytesMost - headerBytesMost) return pack
        close(pack) // invariant 3
      }
      const slab = slabs[type].tryTake()
      if (slab !== undefined) return openIn(type, slot, slab)
    }
    return undefined
  }

  return {
    tryAssign(type, plainBytes) {
      const most = plainBytes + sealOverheadBytes
      const pack = chosen(type, most)
      if (pack === undefined) return undefined
      pack.sealing += 1
      pack.blobs += 1
      pack.bytesAtMost += most
      pack.bytesExpected += Math.ceil(most * ratio[type])
      if (pack.sealedBytes + pack.bytesExpected >= packBytesTarget || pack.blobs >= packBlobsMax) close(pack)
      return pack
    },
    async openAnother(type, signal) {
      const slab = await slabs[type].take(signal)
      const slot = slots[type].indexOf(undefined)
      // Another one that waited has opened it meanwhile; then all are open, and the next try finds one.
      if (slot < 0) slab.release()
      else openIn(type, slot, slab)
    },
    sealed(filling, entry, plainBytes) {
      const pack = opened.get(filling)
      assert(pack !== undefined && pack.sealing > 0, 'a blob is sealed into the pack that it was assigned to')
      const most = plainBytes + sealOverheadBytes
      pack.entries.push(entry)
      pack.sealing -= 1
      pack.sealedBytes += entry.length
      pack.bytesAtMost -= most
      pack.bytesExpected = pack.sealing === 0 ? 0 : Math.max(0, pack.bytesExpected - Math.ceil(most * ratio[pack.type]))
      ratio[pack.type] += (entry.length / most - ratio[pack.type]) * Math.min(1, most / packBytesTarget)
      if (pack.isOpen || pack.sealing > 0 || reopened(pack)) return undefined
      opened.delete(pack)
      return pack
    },
    takeRest(type) {
      const rest = [...opened.values()].filter((pack) => pack.type === type)
      for (const pack of rest) {
        assert(pack.sealing === 0, 'everything has been sealed')
        assert(filledPart(pack.region).length === pack.sealedBytes, 'a pack holds what was sealed into it')
        close(pack)
        opened.delete(pack)
      }
      return rest
    },
    takeMemory: (type, signal) => slabs[type].take(signal),
  }
}
