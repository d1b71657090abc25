/** Owns the task that opens sealed blobs, see open-sealed.ts. For load and upkeep. */
import { copyBytes } from '../format/copy-bytes.ts'
import { DamageError } from '../format/damage.ts'
import { openSealed } from './open-sealed.ts'
import type { TaskContext } from './tasks.ts'

export interface SealedPlace {
  readonly id: string
  /** Within `sealed`. */
  readonly offset: number
  readonly length: number
  /** Length of the plaintext where the blob is compressed. */
  readonly plainBytes: number | undefined
}

export interface OpenBlobsInput {
  /** A pack, or a range of it; shared memory where possible. */
  readonly sealed: Uint8Array
  readonly blobs: readonly SealedPlace[]
  /**
   * Shared memory for the plaintexts, one after the other, long enough for all of them. Without it they are only
   * verified.
   */
  readonly target?: Uint8Array
}

/** By blob, in order: where its plaintext is in `target`, or what is wrong with it. */
export type OpenedPlace =
  | { readonly kind: 'opened'; readonly offset: number; readonly length: number }
  | { readonly kind: 'damaged'; readonly reason: string }

export function openBlobs(input: OpenBlobsInput, { keys }: TaskContext): readonly OpenedPlace[] {
  let filled = 0
  return input.blobs.map((blob): OpenedPlace => {
    try {
      const plaintext = openSealed(blob, input.sealed.subarray(blob.offset, blob.offset + blob.length), keys)
      const offset = filled
      if (input.target !== undefined) {
        copyBytes(plaintext, input.target, offset)
        filled += plaintext.length
      }
      return { kind: 'opened', offset, length: plaintext.length }
    } catch (error) {
      if (!(error instanceof DamageError)) throw error
      return { kind: 'damaged', reason: error.message }
    }
  })
}
