/** Owns ending a pack whose blobs are sealed: in the memory in which they were sealed, or gathered from several. */
import { assert } from '@stillpoint/core/kernel'
import { copyBytes } from '../format/copy-bytes.ts'
import { ivBytes } from '../format/crypto.ts'
import { encodePackHeader, type PackEntry } from '../format/pack.ts'
import type { Vault } from '../vault.ts'
import type { Slab } from '../work/slabs.ts'
import type { SealedBlob } from './blob-coder.ts'
import { headerRoom } from './finish-pack.ts'
import { filledPart, packPart } from './pack-region.ts'
import type { FinishedPack } from './pack-writer.ts'

/** @throws Failure `self_check_failed`, `worker_failed` */
export async function finishedPack(
  vault: Vault,
  region: Uint8Array,
  entries: readonly PackEntry[],
): Promise<FinishedPack> {
  return ended(vault, { bytes: packPart(region), filled: filledPart(region).length, entries })
}

interface Ending {
  readonly bytes: Uint8Array
  readonly filled: number
  readonly entries: readonly PackEntry[]
}

async function ended(vault: Vault, { bytes, filled, entries }: Ending): Promise<FinishedPack> {
  // Threads have put them there in any order; the header goes by where they lie.
  const ordered = [...entries].sort((left, right) => left.offset - right.offset)
  let end = 0
  for (const { offset, length } of ordered) {
    assert(offset === end, 'the blobs of a pack lie one after the other')
    end += length
  }
  assert(end === filled, 'a pack is filled with its blobs')
  const iv = new Uint8Array(ivBytes)
  vault.entropy.fill(iv)
  const header = new Uint8Array(encodePackHeader(ordered))
  const input = { bytes, filled, header, iv }
  const { id, length } = await vault.work.run('finishPack', input, { bytes: filled })
  return { id, entries: ordered, bytes: bytes.subarray(0, length) }
}

/** Up to so many bytes have memory of their own; more would be worth taking from where it is reused. */
const ownBytesMax = 4 << 20

/** Copies the blobs into one pack. `release` gives its memory back. */
export async function gatheredPack(
  vault: Vault,
  blobs: readonly SealedBlob[],
  takeMemory: () => Promise<Slab>,
): Promise<{ readonly pack: FinishedPack; readonly release: () => void }> {
  let filled = 0
  const entries = blobs.map(({ id, type, sealed, plainBytes }): PackEntry => {
    filled += sealed.length
    return { id, type, offset: filled - sealed.length, length: sealed.length, plainBytes }
  })
  const bytesMax = filled + headerRoom(encodePackHeader(entries))
  const slab = bytesMax > ownBytesMax ? await takeMemory() : undefined
  const bytes = slab === undefined ? Buffer.from(new SharedArrayBuffer(bytesMax)) : packPart(slab.bytes)
  for (const [at, { sealed }] of blobs.entries()) copyBytes(sealed, bytes, entries[at]?.offset ?? 0)
  const pack = await ended(vault, { bytes, filled, entries })
  return { pack, release: () => slab?.release() }
}
