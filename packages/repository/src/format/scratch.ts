/** Owns memory of one thread's that is used again and again: fresh memory costs a page fault per 4 KiB, as much as a MAC. */
import { giveBack } from './give-back.ts'

const bytesFirst = 1 << 20
/** Chunks are shorter. What is longer (only trees are) has memory of its own, which is not kept. */
const keptBytesMax = 16 << 20

export interface Scratch {
  /** Memory of so many bytes; its content is what the last user left. Valid until the next call. */
  of(bytes: number): Buffer<ArrayBuffer>
}

export function createScratch(): Scratch {
  let memory = Buffer.allocUnsafeSlow(0)
  return {
    of(bytes) {
      if (bytes > keptBytesMax) return Buffer.allocUnsafeSlow(bytes)
      if (memory.length < bytes) {
        giveBack(memory)
        memory = Buffer.allocUnsafeSlow(Math.max(bytesFirst, 2 ** Math.ceil(Math.log2(bytes))))
      }
      return memory.subarray(0, bytes)
    },
  }
}
