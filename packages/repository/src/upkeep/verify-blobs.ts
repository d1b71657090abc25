/** Owns the task that verifies sealed blobs in any thread, without giving out what is in them. */
import { DamageError } from '../format/damage.ts'
import { decodePackHeader } from '../format/pack.ts'
import { openSealed } from '../work/open-sealed.ts'
import type { TaskContext } from '../work/tasks.ts'

export interface VerifyBlobsInput {
  /** A range of a pack; shared memory where possible. */
  readonly sealed: Uint8Array
  /** The part of the pack's header that tells of them: a tenth of what an object for each takes to send. */
  readonly header: Uint8Array
}

/** What is wrong with the first blob that is damaged, or null. */
export function verifyBlobs({ sealed, header }: VerifyBlobsInput, { keys }: TaskContext): string | null {
  for (const { id, offset, length, plainBytes } of decodePackHeader(header)) {
    try {
      openSealed({ id, plainBytes }, sealed.subarray(offset, offset + length), keys)
    } catch (error) {
      if (error instanceof DamageError) return `blob ${id}: ${error.message}`
      throw error
    }
  }
  return null
}
