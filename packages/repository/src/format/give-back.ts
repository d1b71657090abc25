/** Owns giving memory back before it is collected. */

/** Node takes small buffers out of memory that they share; larger ones have their own. */
const ownBytesMin = 128 << 10

/** Frees memory now, not when it is collected: the next piece then takes the same, which needs no page faults. */
export function giveBack(bytes: Buffer): void {
  const { buffer, byteOffset, length } = bytes
  if (!(buffer instanceof ArrayBuffer) || byteOffset !== 0) return
  if (buffer.byteLength === length || buffer.byteLength >= ownBytesMin) buffer.transfer(0)
}
