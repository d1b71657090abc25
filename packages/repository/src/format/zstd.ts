/** Owns zstd (RFC 8878) done at once in the calling thread, in memory that is used again: see scratch.ts. */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { DamageError, sound } from './damage.ts'
import type { Scratch } from './scratch.ts'
import { compressedBytesMax, createFrameCoders, type FrameCoders } from './zstd-contexts.ts'
import { isOneFrame } from './zstd-frame.ts'

/** Memory that is taken before it is known whether the bytes unfold to what they promise. */
const promisedBytesMax = 16 << 20
/** No sound program makes larger blobs: an honest bomb must not take all memory either. */
const plainBytesMax = 1 << 29

/** Of this thread, made when first needed; null where there are none. */
let coders: FrameCoders | null | undefined

function coder(): FrameCoders | null {
  coders ??= createFrameCoders() ?? null
  return coders
}

export function compressIn(memory: Scratch, bytes: Uint8Array, level: number): Uint8Array {
  // With so much room all comes out at once, without pieces that are put together afterwards.
  const chunkSize = compressedBytesMax(bytes.length)
  const target = memory.of(chunkSize)
  const length = coder()?.compressorOf(level)(bytes, target)
  if (length !== undefined) return target.subarray(0, length)
  const params = { [constants.ZSTD_c_compressionLevel]: level }
  return zstdCompressSync(bytes, { params, pledgedSrcSize: bytes.length, chunkSize })
}

/** `plainBytes`: what they must unfold to, exactly. @throws DamageError */
export function decompressIn(memory: Scratch, bytes: Uint8Array, plainBytes: number): Buffer {
  sound(plainBytes <= plainBytesMax, `it claims to unfold to ${plainBytes} bytes`)
  const target = memory.of(plainBytes)
  if (isOneFrame(bytes, plainBytes) && coder()?.decompress(bytes, target) === plainBytes) return target
  return inPieces(bytes, plainBytes)
}

/** @throws DamageError */
function inPieces(bytes: Uint8Array, plainBytes: number): Buffer {
  let plaintext: Buffer
  try {
    const chunkSize = Math.min(Math.max(64, plainBytes + 1), promisedBytesMax)
    plaintext = zstdDecompressSync(bytes, { maxOutputLength: Math.max(1, plainBytes), chunkSize })
  } catch (error) {
    throw new DamageError('it does not decompress', { cause: error })
  }
  sound(plaintext.length === plainBytes, 'its length is not as recorded')
  return plaintext
}
