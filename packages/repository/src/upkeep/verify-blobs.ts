/** Owns the task that verifies sealed blobs in any thread, without giving out what is in them. */
import { DamageError } from '../format/damage.ts'
import type { SealedPlace } from '../work/open-blobs.ts'
import { openSealed } from '../work/open-sealed.ts'
import type { TaskContext } from '../work/tasks.ts'

export interface VerifyBlobsInput {
  /** A range of a pack; shared memory where possible. */
  readonly sealed: Uint8Array
  readonly blobs: readonly SealedPlace[]
}

/** What is wrong with the first blob that is damaged, or null. */
export function verifyBlobs({ sealed, blobs }: VerifyBlobsInput, { keys }: TaskContext): string | null {
  for (const { id, offset, length, plainBytes } of blobs) {
    try {
      openSealed({ id, plainBytes }, sealed.subarray(offset, offset + length), keys)
    } catch (error) {
      if (error instanceof DamageError) return `blob ${id}: ${error.message}`
      throw error
    }
  }
  return null
}
