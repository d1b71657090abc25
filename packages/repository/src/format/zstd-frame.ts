/** Owns the structure of a zstd frame (RFC 8878, section 3.1.1): what it says that it unfolds to, and where it ends. */

const magic = 0xfd2f_b528
/** Longer than any header: what is shorter is not looked at. */
const frameBytesMin = 18
const dictionaryIdBytes = [0, 1, 2, 4] as const
const contentSizeBytes = [0, 2, 4, 8] as const
const blockHeaderBytes = 3
const checksumBytes = 4
const repeatedByte = 1
const reserved = 3

interface FrameHeader {
  /** Where its blocks begin. */
  readonly bytes: number
  readonly promisedBytes: number | undefined
  readonly hasChecksum: boolean
}

/** What the first frame says; undefined where it says nothing, or is none. Not to be believed before it is unfolded. */
export function promisedBytes(frame: Uint8Array): number | undefined {
  return readHeader(frame)?.promisedBytes
}

/**
 * Whether these bytes are one frame, from its magic number to its last block and checksum, that says that it unfolds to
 * so many bytes. A decoder that gets it all at once is left with nothing, and waits for nothing.
 */
export function isOneFrame(bytes: Uint8Array, plainBytes: number): boolean {
  const header = readHeader(bytes)
  if (header === undefined || header.promisedBytes !== plainBytes) return false
  for (let at = header.bytes; at + blockHeaderBytes <= bytes.length; ) {
    const block = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16)
    const type = (block >>> 1) & 3
    if (type === reserved) return false
    at += blockHeaderBytes + (type === repeatedByte ? 1 : block >>> 3)
    const isLast = (block & 1) === 1
    if (isLast) return at + (header.hasChecksum ? checksumBytes : 0) === bytes.length
  }
  return false
}

function readHeader(frame: Uint8Array): FrameHeader | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  if (view.byteLength < frameBytesMin || view.getUint32(0, true) !== magic) return undefined
  const descriptor = view.getUint8(4)
  const isSingleSegment = (descriptor & 0x20) !== 0
  const at = 5 + (isSingleSegment ? 0 : 1) + (dictionaryIdBytes[descriptor & 3] ?? 0)
  const flagged = contentSizeBytes[descriptor >>> 6] ?? 0
  const bytes = flagged === 0 && isSingleSegment ? 1 : flagged
  const hasChecksum = (descriptor & 4) !== 0
  return { bytes: at + bytes, promisedBytes: readContentSize(view, at, bytes), hasChecksum }
}

function readContentSize(view: DataView, at: number, bytes: number): number | undefined {
  switch (bytes) {
    case 1:
      return view.getUint8(at)
    case 2:
      return view.getUint16(at, true) + 256
    case 4:
      return view.getUint32(at, true)
    case 8: {
      const size = view.getBigUint64(at, true)
      return size <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(size) : undefined
    }
    default:
      return undefined
  }
}
