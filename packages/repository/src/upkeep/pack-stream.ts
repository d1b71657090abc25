/**
 * Owns reading many blobs of a pack in few ranges, each blob verified.
 * Does not own which blobs, nor what is done with them.
 */
import { isFailure } from '@stillpoint/core/kernel'
import { DamageError } from '../format/damage.ts'
import type { PackId } from '../format/ids.ts'
import { blobPlainBytes, type PackEntry } from '../format/pack.ts'
import { readBlob } from '../load/blob-reader.ts'
import { openBlob } from '../save/blob-coder.ts'
import type { Vault } from '../vault.ts'

/** A gap that is cheaper to read than to ask for another range. */
const gapBytesMax = 64 << 10
const rangeBytesMax = 16 << 20

export interface OpenedBlob {
  readonly entry: PackEntry
  readonly plaintext: Uint8Array
  /** As it lies in the pack; undefined where that is damaged and the plaintext came from another pack. */
  readonly sealed: Uint8Array | undefined
}

/**
 * The entries' blobs in the order of their offsets. Damage falls back to another place of the blob.
 * @throws Failure `object_damaged`, `object_missing`
 */
export async function* readPackBlobs(
  vault: Vault,
  pack: PackId,
  entries: readonly PackEntry[],
): AsyncGenerator<OpenedBlob> {
  for (const range of packRanges(entries)) {
    const [first] = range
    const last = range.at(-1)
    if (first === undefined || last === undefined) continue
    const length = last.offset + last.length - first.offset
    const bytes = await readPackRange(vault, pack, { offset: first.offset, length })
    for (const entry of range) {
      const at = entry.offset - first.offset
      yield await open(vault, entry, bytes?.subarray(at, at + entry.length))
    }
  }
}

export interface RangeBounds {
  /** From the first to the last. */
  readonly rangeBytes: number
  /** Of the plaintexts. */
  readonly plainBytes: number
}

const usualBounds: RangeBounds = { rangeBytes: rangeBytesMax, plainBytes: Number.POSITIVE_INFINITY }

/** Entries of a pack that are read together, in the order of their offsets. What is beyond the bounds is alone. */
export function packRanges(entries: readonly PackEntry[], bounds = usualBounds): readonly (readonly PackEntry[])[] {
  const ranges: PackEntry[][] = []
  let begin = 0
  let end = 0
  let plainBytes = 0
  for (const entry of [...entries].sort((left, right) => left.offset - right.offset)) {
    const range = ranges.at(-1)
    plainBytes += blobPlainBytes(entry)
    const isNear = entry.offset - end <= gapBytesMax && entry.offset + entry.length - begin <= bounds.rangeBytes
    if (range !== undefined && isNear && plainBytes <= bounds.plainBytes) range.push(entry)
    else {
      ranges.push([entry])
      begin = entry.offset
      plainBytes = blobPlainBytes(entry)
    }
    end = entry.offset + entry.length
  }
  return ranges
}

/** Undefined where the pack is gone or too short: its blobs may lie elsewhere too. */
export async function readPackRange(
  vault: Vault,
  pack: PackId,
  range: { readonly offset: number; readonly length: number },
): Promise<Buffer | undefined> {
  try {
    return await vault.store.get({ kind: 'pack', name: pack }, range)
  } catch (error) {
    if (isFailure(error, 'object_missing') || isFailure(error, 'object_damaged')) return undefined
    throw error
  }
}

async function open(vault: Vault, entry: PackEntry, sealed: Uint8Array | undefined): Promise<OpenedBlob> {
  if (sealed !== undefined) {
    try {
      return { entry, sealed, plaintext: await openBlob(entry, sealed, vault.keys) }
    } catch (error) {
      if (!(error instanceof DamageError)) throw error
    }
  }
  // Its failure names the blob and the pack.
  return { entry, sealed: undefined, plaintext: await readBlob(vault, entry.id, entry.type) }
}
