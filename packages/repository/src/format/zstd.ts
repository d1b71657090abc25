/** Owns zstd (RFC 8878) done at once in the calling thread: for threads that have nothing else to do. */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { DamageError, sound } from './damage.ts'

/** Memory that is taken before it is known whether the bytes unfold to what they promise. */
const promisedBytesMax = 16 << 20
/** No sound program makes larger blobs: an honest bomb must not take all memory either. */
const plainBytesMax = 1 << 29

export function compressSync(bytes: Uint8Array, level: number): Buffer {
  return zstdCompressSync(bytes, {
    params: { [constants.ZSTD_c_compressionLevel]: level },
    pledgedSrcSize: bytes.length,
    // ZSTD_COMPRESSBOUND and more: all output at once, without pieces that are put together afterwards.
    chunkSize: bytes.length + (bytes.length >> 8) + 1024,
  })
}

/** `plainBytes`: what they must unfold to, exactly. @throws DamageError */
export function decompressSync(bytes: Uint8Array, plainBytes: number): Buffer {
  sound(plainBytes <= plainBytesMax, `it claims to unfold to ${plainBytes} bytes`)
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
