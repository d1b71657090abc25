/** Owns turning a stream of pieces of any size into chunks, in order, each a buffer of its own. */
import type { Cutter } from './cutter.ts'

const bufferBytesFirst = 64 << 10

/**
 * The concatenation of the chunks is the concatenation of the source; an empty source has no chunk.
 * Memory: at most one chunk of the greatest size and one piece of the source.
 */
export async function* chunksOf(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  cutter: Cutter,
): AsyncGenerator<Buffer> {
  let buffer = Buffer.allocUnsafeSlow(Math.min(bufferBytesFirst, cutter.bytesMax))
  let length = 0
  for await (const piece of source) {
    for (let taken = 0; taken < piece.length; ) {
      if (length === buffer.length) buffer = widened(buffer, cutter.bytesMax)
      const part = piece.subarray(taken, taken + buffer.length - length)
      buffer.set(part, length)
      length += part.length
      taken += part.length
      for (let cut = cutter.cut(buffer, length); cut > 0; cut = cutter.cut(buffer, length)) {
        yield Buffer.from(buffer.subarray(0, cut))
        buffer.copyWithin(0, cut, length)
        length -= cut
      }
    }
  }
  if (length > 0) yield Buffer.from(buffer.subarray(0, length))
}

function widened(buffer: Buffer<ArrayBuffer>, bytesMax: number): Buffer<ArrayBuffer> {
  const wider = Buffer.allocUnsafeSlow(Math.min(buffer.length * 4, bytesMax))
  wider.set(buffer)
  return wider
}
