/**
 * Owns zstd (RFC 8878) and the "unpacked" encoding of index, snapshot and lock files: one byte of encoding version, 2,
 * then compressed JSON; documents that begin with `{` or `[` are plain JSON.
 */
import { promisify } from 'node:util'
import { constants, zstdCompress, zstdDecompress, zstdDecompressSync } from 'node:zlib'
import type { CompressionMode } from '../write-settings.ts'
import { DamageError, sound } from './damage.ts'
import type { BlobType } from './ids.ts'
import type { Scratch } from './scratch.ts'
import { decompressIn } from './zstd.ts'
import { promisedBytes } from './zstd-frame.ts'

const compressZstd = promisify(zstdCompress)
const decompressZstd = promisify(zstdDecompress)

/** Of file content: level 1 is a sixth to a quarter faster, and its packs up to 3 % larger than those of restic. */
export const dataLevel = 2
const fastestLevel = 1
/** Three times what level 2 takes, and programs and text get an eighth smaller. */
const betterLevel = 6
/** Of trees and documents: small, read often, kept long. */
const documentLevel = 3
/** Text and programs take six times what level 2 takes, and get a tenth to a sixth smaller; 13 takes twice that for 1 %. */
const greatestLevel = 12

/** How hard a blob is compressed; undefined: not at all. */
export function levelOf(type: BlobType, mode: CompressionMode): number | undefined {
  switch (mode) {
    case 'max':
      return greatestLevel
    case 'better':
      return betterLevel
    case 'fastest':
      return type === 'tree' ? documentLevel : fastestLevel
    case 'auto':
      return type === 'tree' ? documentLevel : dataLevel
    case 'off':
      return type === 'tree' ? documentLevel : undefined
  }
}
const encodingVersion = 2
/** An authentic index file of restic's stays below 8 MiB; nothing we read may unfold to more than this. */
const documentBytesMax = 1 << 29

/** What is this small is unfolded at once: another thread would take four times as long to be asked. */
const atOnceBytesMax = 16 << 10
const atOnceUnfoldedBytesMax = 256 << 10
/** What is unfolded there is the caller's. */
const freshMemory: Scratch = { of: (bytes) => Buffer.allocUnsafeSlow(bytes) }

export function compress(bytes: Uint8Array, level: number): Promise<Buffer> {
  return compressZstd(bytes, {
    params: { [constants.ZSTD_c_compressionLevel]: level },
    pledgedSrcSize: bytes.length,
  })
}

/** @throws DamageError where the bytes are no zstd frames or unfold to more than `bytesMax` */
export async function decompress(bytes: Uint8Array, bytesMax: number): Promise<Buffer> {
  sound(bytesMax <= documentBytesMax, `it claims to unfold to ${bytesMax} bytes`)
  try {
    const limits = { maxOutputLength: Math.max(1, bytesMax), chunkSize: pieceBytes(bytes) }
    return decompressAtOnce(bytes, bytesMax) ?? (await decompressZstd(bytes, limits))
  } catch (error) {
    throw new DamageError('it does not decompress', { cause: error })
  }
}

/** Pieces of Node's usual size cost a turn of the event loop each, and a copy at the end. */
const pieceBytesMin = 16 << 10
/** What is taken at once for a promise that nobody has kept yet. */
const pieceBytesMax = 16 << 20

/** In pieces of which size it is unfolded: in one that it just does not fill, if what it promises is true. */
function pieceBytes(bytes: Uint8Array): number {
  return Math.min(Math.max(pieceBytesMin, (promisedBytes(bytes) ?? 0) + 1), pieceBytesMax)
}

/** Undefined where it is, or may be, too large for that. */
function decompressAtOnce(bytes: Uint8Array, bytesMax: number): Buffer | undefined {
  if (bytes.length > atOnceBytesMax) return undefined
  const promised = promisedBytes(bytes)
  if (promised !== undefined && promised <= Math.min(bytesMax, atOnceUnfoldedBytesMax)) {
    return decompressIn(freshMemory, bytes, promised)
  }
  try {
    return zstdDecompressSync(bytes, { maxOutputLength: Math.max(1, Math.min(bytesMax, atOnceUnfoldedBytesMax)) })
  } catch (error) {
    if (bytesMax <= atOnceUnfoldedBytesMax) throw error
    return undefined
  }
}

export async function encodeDocument(json: string): Promise<Buffer> {
  return Buffer.concat([Uint8Array.of(encodingVersion), await compress(Buffer.from(json), documentLevel)])
}

/** The JSON text of an index, snapshot or lock. @throws DamageError */
export async function decodeDocument(plaintext: Uint8Array): Promise<string> {
  return (await decodeDocumentBytes(plaintext)).toString('utf8')
}

/** The same, in UTF-8. @throws DamageError */
export async function decodeDocumentBytes(plaintext: Uint8Array): Promise<Buffer> {
  const version = plaintext[0]
  if (version === 0x7b || version === 0x5b) return Buffer.from(plaintext)
  sound(version === encodingVersion, `encoding version ${version ?? 'none'} is unknown`)
  return await decompress(plaintext.subarray(1), documentBytesMax)
}
