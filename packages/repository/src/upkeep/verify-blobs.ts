/** Owns the task that verifies sealed blobs in any thread, without giving out what is in them. */
import { giveBack, unsealInto } from '../format/crypto.ts'
import { DamageError, sound } from '../format/damage.ts'
import { sha256 } from '../format/ids.ts'
import { decompressSync } from '../format/zstd.ts'
import type { SealedPlace } from '../work/open-blobs.ts'
import type { TaskContext } from '../work/tasks.ts'

export interface VerifyBlobsInput {
  /** A range of a pack; shared memory where possible. */
  readonly sealed: Uint8Array
  readonly blobs: readonly SealedPlace[]
}

/** Memory of this thread for what is unsealed, taken once: fresh memory for each blob costs as much as its MAC. */
let scratch = Buffer.allocUnsafeSlow(1 << 20)

function growScratch(bytes: number): void {
  giveBack(scratch)
  scratch = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(bytes)))
}

/** What is wrong with the first blob that is damaged, or null. */
export function verifyBlobs({ sealed, blobs }: VerifyBlobsInput, { keys }: TaskContext): string | null {
  for (const { id, offset, length, plainBytes } of blobs) {
    try {
      if (scratch.length < length) growScratch(length)
      const opened = scratch.subarray(0, unsealInto(keys, sealed.subarray(offset, offset + length), scratch))
      if (plainBytes === undefined) sound(sha256(opened) === id, 'its content does not match its id')
      else {
        const plaintext = decompressSync(opened, plainBytes)
        sound(sha256(plaintext) === id, 'its content does not match its id')
        giveBack(plaintext)
      }
    } catch (error) {
      if (error instanceof DamageError) return `blob ${id}: ${error.message}`
      throw error
    }
  }
  return null
}
