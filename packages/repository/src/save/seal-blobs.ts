/**
 * Owns the task that turns plaintexts into sealed blobs: probe, compress, seal into the place of a pack, prove.
 *
 * Invariant: no blob is handed out that was not read back from where it lies in its pack: unsealed, decompressed and
 * compared with its plaintext; unless the settings say that this is not wanted. Memory errors and our own bugs are found
 * before the source is gone.
 */
import { Failure } from '@stillpoint/core/kernel'
import { levelOf } from '../format/compression.ts'
import { type CryptKeys, ivBytes, sealInto, sealOverheadBytes, unsealInto, unsealsTo } from '../format/crypto.ts'
import { DamageError } from '../format/damage.ts'
import type { BlobType } from '../format/ids.ts'
import { createScratch } from '../format/scratch.ts'
import { compressIn, decompressIn } from '../format/zstd.ts'
import type { TaskContext } from '../work/tasks.ts'
import type { CompressionMode } from '../write-settings.ts'
import { reserve } from './pack-region.ts'

export interface SealBlobsInput {
  readonly type: BlobType
  readonly compression: CompressionMode
  readonly selfCheck: boolean
  /** Shared memory that holds the plaintexts. */
  readonly window: Uint8Array
  /** Of each blob: where it begins in the window, its length, and to which of the regions it goes. */
  readonly places: Uint32Array
  /** Fresh random bytes, an IV for each blob. */
  readonly ivs: Uint8Array
  readonly regions: readonly Uint8Array[]
}

export const placeFields = 3

/** Of each blob: where it lies in its region's pack, its sealed length, and its plain length where it is compressed, or 0. */
export type SealedPlaces = Uint32Array

export const sealedFields = 3

const compressedMemory = createScratch()
const unsealedMemory = createScratch()
const unfoldedMemory = createScratch()

/** @throws Failure `self_check_failed` */
export function sealBlobs(input: SealBlobsInput, { keys }: TaskContext): SealedPlaces {
  const { places, ivs, window, regions } = input
  const count = places.length / placeFields
  const sealed = new Uint32Array(count * sealedFields)
  const level = levelOf(input.type, input.compression)
  // Who wants it as small as can be has it tried.
  const isTried = input.compression === 'max' ? (plaintext: Uint8Array) => plaintext.length > 0 : compressible
  for (let at = 0; at < count; at += 1) {
    const [start = 0, length = 0, region = 0] = places.subarray(at * placeFields, (at + 1) * placeFields)
    const plaintext = window.subarray(start, start + length)
    const iv = ivs.subarray(at * ivBytes, (at + 1) * ivBytes)
    const compressed =
      level !== undefined && isTried(plaintext) ? compressIn(compressedMemory, plaintext, level) : undefined
    const isSmaller = compressed !== undefined && compressed.length < plaintext.length
    const text = isSmaller ? compressed : plaintext
    const { offset, target } = reserve(regions[region], text.length + sealOverheadBytes)
    sealInto({ keys, plaintext: text, iv, target })
    if (input.selfCheck) prove(keys, target, { text, plaintext, isSmaller })
    sealed.set([offset, target.length, isSmaller ? plaintext.length : 0], at * sealedFields)
  }
  return sealed
}

interface Sealing {
  /** What was sealed: the plaintext, or what it was compressed to. */
  readonly text: Uint8Array
  readonly plaintext: Uint8Array
  readonly isSmaller: boolean
}

function prove(keys: CryptKeys, sealed: Uint8Array, { text, plaintext, isSmaller }: Sealing): void {
  try {
    if (!isSmaller && unsealsTo(keys, sealed, text)) return
    if (isSmaller) {
      const unsealed = unsealedMemory.of(sealed.length - sealOverheadBytes)
      unsealInto(keys, sealed, unsealed)
      const unfolded = decompressIn(unfoldedMemory, unsealed, plaintext.length)
      if (Buffer.compare(unfolded, plaintext) === 0) return
    }
    throw new DamageError('what is sealed is not what was read')
  } catch (error) {
    if (!(error instanceof DamageError)) throw error
    throw new Failure({
      code: 'self_check_failed',
      message: `a blob was damaged in memory before it was stored: ${error.message}`,
      hint: 'Nothing damaged was stored. Test the memory of this machine.',
      cause: error,
    })
  }
}

/** Below it, counts say nothing. */
const countedBytesMin = 256
/** As many stripes of so many bytes, evenly spread, are counted. */
const stripes = 8
const stripeBytes = 128
/** Below it, the sample would be most of the blob. */
const probedBytesMin = 512 << 10
const sampleBytes = 8 << 10
const samples = 8
/** A sample that gets smaller by less than this says that the rest does not, either. */
const probeGain = 0.01

/**
 * Whether compression is worth a try. What is said to be incompressible is stored as it is: a wrong guess costs space,
 * never content.
 */
function compressible(plaintext: Uint8Array): boolean {
  if (plaintext.length < countedBytesMin) return plaintext.length > 0
  if (plaintext.length < probedBytesMin) return !looksRandom(plaintext)
  const sample = Buffer.allocUnsafe(samples * sampleBytes)
  const stride = Math.floor((plaintext.length - sampleBytes) / (samples - 1))
  for (let at = 0; at < samples; at += 1) {
    sample.set(plaintext.subarray(at * stride, at * stride + sampleBytes), at * sampleBytes)
  }
  return compressIn(compressedMemory, sample, 1).length < sample.length * (1 - probeGain)
}

const counts = new Uint32Array(256)

/**
 * Whether its bytes are as evenly distributed as chance would have them: the sum of the squares of their counts is then
 * n + n·(n−1)/256, with a standard deviation of √2·n/16. Text has ten times as much.
 */
function looksRandom(plaintext: Uint8Array): boolean {
  counts.fill(0)
  const n = Math.min(stripes * stripeBytes, plaintext.length)
  if (n === plaintext.length) count(plaintext, 0, n)
  else {
    const stride = Math.floor((plaintext.length - stripeBytes) / (stripes - 1))
    for (let at = 0; at < stripes; at += 1) count(plaintext, at * stride, at * stride + stripeBytes)
  }
  let squares = 0
  for (let byte = 0; byte < 256; byte += 1) squares += (counts[byte] ?? 0) ** 2
  const expected = n + (n * (n - 1)) / 256
  return Math.abs(squares - expected) < Math.max(0.03 * expected, (3 * Math.SQRT2 * n) / 16)
}

function count(plaintext: Uint8Array, from: number, end: number): void {
  for (let at = from; at < end; at += 1) {
    const byte = plaintext[at] ?? 0
    counts[byte] = (counts[byte] ?? 0) + 1
  }
}
