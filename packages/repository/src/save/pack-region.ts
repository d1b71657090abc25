/**
 * Owns the memory of a pack in the making: a counter of the bytes that are taken, then the pack. Several threads put
 * blobs into it at the same time, each into bytes that it has reserved.
 */
import { assert } from '@stillpoint/core/kernel'

/** The counter has a cache line of its own. */
const counterBytes = 64

export const regionBytes = (packBytes: number): number => counterBytes + packBytes

/** Memory for packs of up to so many bytes, shared between threads. */
export function newRegion(packBytes: number): Buffer<SharedArrayBuffer> {
  return Buffer.from(new SharedArrayBuffer(regionBytes(packBytes)))
}

const counterOf = (region: Uint8Array) => new Int32Array(region.buffer, region.byteOffset, 1)

/** Where the pack is, filled or not. */
export function packPart(region: Uint8Array): Uint8Array {
  return region.subarray(counterBytes)
}

/** The pack in it, as far as it is filled. */
export function filledPart(region: Uint8Array): Uint8Array {
  return region.subarray(counterBytes, counterBytes + Atomics.load(counterOf(region), 0))
}

export function empty(region: Uint8Array): void {
  Atomics.store(counterOf(region), 0, 0)
}

/** The next bytes of the pack, for the caller alone. */
export function reserve(
  region: Uint8Array | undefined,
  bytes: number,
): { readonly offset: number; readonly target: Uint8Array } {
  assert(region !== undefined, 'a blob has a region')
  const offset = Atomics.add(counterOf(region), 0, bytes)
  const start = counterBytes + offset
  assert(start + bytes <= region.length, 'a region has room for what it is given')
  return { offset, target: region.subarray(start, start + bytes) }
}
