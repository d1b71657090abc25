/** Owns the header of a zstd frame (RFC 8878, section 3.1.1.1): how much it says that it unfolds to. */

const magic = 0xfd2f_b528
const dictionaryIdBytes = [0, 1, 2, 4] as const
const contentSizeBytes = [0, 2, 4, 8] as const

/** What the first frame says; undefined where it says nothing, or is none. Not to be believed before it is unfolded. */
export function promisedBytes(frame: Uint8Array): number | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  if (view.byteLength < 18 || view.getUint32(0, true) !== magic) return undefined
  const descriptor = view.getUint8(4)
  const isSingleSegment = (descriptor & 0x20) !== 0
  const sizeFlag = descriptor >>> 6
  const at = 5 + (isSingleSegment ? 0 : 1) + (dictionaryIdBytes[descriptor & 3] ?? 0)
  switch (contentSizeBytes[sizeFlag]) {
    case 2:
      return view.getUint16(at, true) + 256
    case 4:
      return view.getUint32(at, true)
    case 8: {
      const bytes = view.getBigUint64(at, true)
      return bytes <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(bytes) : undefined
    }
    default:
      return isSingleSegment ? view.getUint8(at) : undefined
  }
}
