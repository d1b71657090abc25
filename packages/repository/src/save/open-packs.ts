/**
 * Owns which pack a blob goes to. Nothing here waits or writes.
 *
 * Invariants: 1. data and tree blobs lie in separate packs. 2. To which of the open packs a blob goes is decided by
 * secure randomness, so that the sizes of chunks in a row cannot be read off a pack (Alexeev, Percival, Zhang: "Chunking
 * Attacks on File Backup Services", IACR ePrint 2025/532).
 */
import { assert, type Entropy } from '@stillpoint/core/kernel'
import type { BlobType } from '../format/ids.ts'
import type { SealedBlob } from './blob-coder.ts'

/** Keeps a pack of tiny blobs well below the largest header. */
export const packBlobsMax = 20_000
export const openPacks: Readonly<Record<BlobType, number>> = { data: 3, tree: 2 }

interface OpenPack {
  blobs: SealedBlob[]
  bytes: number
}

export interface OpenPacks {
  /** Takes a blob in; returns the blobs of its pack when that is full by it. */
  add(blob: SealedBlob): readonly SealedBlob[] | undefined
  /** Takes out what is left of a type: in random order, in as few packs as possible. */
  takeRest(type: BlobType): readonly (readonly SealedBlob[])[]
}

/** @param packBytes a pack is full when it has so many bytes */
export function createOpenPacks(entropy: Entropy, packBytes: number): OpenPacks {
  const open: Record<BlobType, OpenPack[]> = { data: emptyPacks('data'), tree: emptyPacks('tree') }
  return {
    add(blob) {
      const packs = open[blob.type]
      const pack = packs[chooseBelow(entropy, packs.length)]
      assert(pack !== undefined, 'the choice is one of the open packs')
      pack.blobs.push(blob)
      pack.bytes += blob.sealed.length
      if (pack.bytes < packBytes && pack.blobs.length < packBlobsMax) return undefined
      const full = pack.blobs
      pack.blobs = []
      pack.bytes = 0
      return full
    },
    takeRest(type) {
      const blobs = open[type].flatMap((pack) => pack.blobs)
      open[type] = emptyPacks(type)
      return split(shuffled(entropy, blobs), packBytes)
    },
  }
}

export function chooseBelow(entropy: Entropy, count: number): number {
  const bytes = new Uint8Array(4)
  entropy.fill(bytes)
  return new DataView(bytes.buffer).getUint32(0) % count
}

/** The same, many times: entropy is asked for in larger pieces, since each asking takes several µs. */
export function createChooser(entropy: Entropy): (count: number) => number {
  const drawn = new Uint32Array(1024)
  let used = drawn.length
  return (count) => {
    if (used === drawn.length) {
      entropy.fill(new Uint8Array(drawn.buffer))
      used = 0
    }
    used += 1
    return (drawn[used - 1] ?? 0) % count
  }
}

/** Fisher and Yates, in place. */
export function shuffled<T>(entropy: Entropy, blobs: T[]): T[] {
  const choose = createChooser(entropy)
  for (let last = blobs.length - 1; last > 0; last -= 1) {
    const other = choose(last + 1)
    const [left, right] = [blobs[last], blobs[other]]
    assert(left !== undefined && right !== undefined, 'both are within')
    blobs[last] = right
    blobs[other] = left
  }
  return blobs
}

function emptyPacks(type: BlobType): OpenPack[] {
  return Array.from({ length: openPacks[type] }, () => ({ blobs: [], bytes: 0 }))
}

/** As few packs as possible. */
export function split(blobs: readonly SealedBlob[], packBytes: number): SealedBlob[][] {
  const packs: SealedBlob[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const blob of blobs) {
    if (bytes >= packBytes || (packs.at(-1)?.length ?? 0) >= packBlobsMax) {
      packs.push([])
      bytes = 0
    }
    packs.at(-1)?.push(blob)
    bytes += blob.sealed.length
  }
  return packs
}
