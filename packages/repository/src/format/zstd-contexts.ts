/**
 * Owns zstd contexts that are kept from one frame to the next, and that read and write memory of the caller's.
 *
 * Node's functions for one frame make a context for each, 20 to 40 µs, and fresh memory for what comes out, 0.25 ms per
 * MiB; for small files that is most of the work. Its streams keep their context, but do nothing synchronously. So this
 * calls the streams' own handle, which is not documented: ADR 0009. Where it is not as expected (looked at and tried out
 * once per thread), there are no contexts, and zstd.ts does without.
 *
 * Invariants: 1. a context begins a frame only where it has ended the one before: one that has failed, or was not left
 * empty, is dropped. 2. No call depends on what was done before.
 */
import { constants, createZstdCompress, createZstdDecompress, zstdCompressSync, zstdDecompressSync } from 'node:zlib'

/** Does one frame at once; the bytes that are in `target` afterwards, or undefined where it did not succeed. */
export type FrameCoder = (source: Uint8Array, target: Uint8Array) => number | undefined

interface Handle {
  writeSync(
    flush: number,
    source: Uint8Array,
    sourceAt: number,
    sourceBytes: number,
    target: Uint8Array,
    targetAt: number,
    targetBytes: number,
  ): void
}

/** A stream's handle, and where it tells what it has left: of the target, of the source. */
interface Context {
  readonly handle: Handle
  readonly left: Uint32Array
  readonly hasFailed: () => boolean
}

type ZstdStream = ReturnType<typeof createZstdCompress> | ReturnType<typeof createZstdDecompress>

function isHandle(value: unknown): value is Handle {
  return typeof value === 'object' && value !== null && 'writeSync' in value && typeof value.writeSync === 'function'
}

/** Undefined where streams are made otherwise. */
function contextOf(stream: ZstdStream): Context | undefined {
  if (!('_handle' in stream) || !('_writeState' in stream)) return undefined
  const { _handle: handle, _writeState: left } = stream
  if (!isHandle(handle) || !(left instanceof Uint32Array) || left.length !== 2) return undefined
  let hasFailed = false
  stream.on('error', () => {
    hasFailed = true // also read at once: an error destroys the stream
  })
  return { handle, left, hasFailed: () => hasFailed || stream.destroyed }
}

/** Keeps one context, made when it is first needed. */
function coderOf(create: () => ZstdStream): FrameCoder {
  let kept: Context | undefined
  return (source, target) => {
    kept ??= contextOf(create())
    if (kept === undefined) return undefined
    const { handle, left, hasFailed } = kept
    let isDone = false
    try {
      handle.writeSync(constants.ZSTD_e_end, source, 0, source.length, target, 0, target.length)
      const [targetLeft = 0, sourceLeft = 0] = left
      isDone = !hasFailed() && sourceLeft === 0
      return isDone ? target.length - targetLeft : undefined
    } finally {
      if (!isDone) kept = undefined
    }
  }
}

export interface FrameCoders {
  /** `target`: `compressedBytesMax` long. */
  readonly compressorOf: (level: number) => FrameCoder
  /** The source is one frame, see `isOneFrame`; the target has room for what it promises. */
  readonly decompress: FrameCoder
}

/** ZSTD_COMPRESSBOUND, rounded up: with this much room a frame is written at once. */
export const compressedBytesMax = (bytes: number): number => bytes + (bytes >>> 8) + 1024

/** Undefined where Node's streams are not as expected. */
export function createFrameCoders(): FrameCoders | undefined {
  const compressors = new Map<number, FrameCoder>()
  const coders: FrameCoders = {
    compressorOf(level) {
      let compressor = compressors.get(level)
      if (compressor === undefined) {
        compressor = coderOf(() => createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: level } }))
        compressors.set(level, compressor)
      }
      return compressor
    },
    decompress: coderOf(() => createZstdDecompress()),
  }
  return isSound(coders) ? coders : undefined
}

/** Two frames one after the other, against Node's documented functions. */
function isSound({ compressorOf, decompress }: FrameCoders): boolean {
  const target = Buffer.alloc(compressedBytesMax(1000))
  return ['first ', 'second '].every((word) => {
    const plaintext = Buffer.alloc(1000, word)
    const compressed = compressorOf(1)(plaintext, target)
    if (compressed === undefined) return false
    if (!zstdDecompressSync(target.subarray(0, compressed)).equals(plaintext)) return false
    const frame = zstdCompressSync(plaintext, { pledgedSrcSize: plaintext.length })
    const bytes = decompress(frame, target.subarray(0, plaintext.length))
    return bytes === plaintext.length && target.subarray(0, bytes).equals(plaintext)
  })
}
