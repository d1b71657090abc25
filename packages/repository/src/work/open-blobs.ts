/** Owns the task that opens sealed blobs: unseal, decompress, verify against the id. For load and upkeep. */

import { unseal } from '../format/crypto.ts'
import { DamageError, sound } from '../format/damage.ts'
import { sha256 } from '../format/ids.ts'
import type { PackEntry } from '../format/pack.ts'
import { decompressSync } from '../format/zstd.ts'
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
        input.target.set(plaintext, offset)
        filled += plaintext.length
      }
      return { kind: 'opened', offset, length: plaintext.length }
    } catch (error) {
      if (!(error instanceof DamageError)) throw error
      return { kind: 'damaged', reason: error.message }
    }
  })
}

/** The plaintext, whose hash is the id. @throws DamageError */
export function openSealed(
  blob: Pick<PackEntry, 'id' | 'plainBytes'>,
  sealed: Uint8Array,
  keys: TaskContext['keys'],
): Buffer {
  const opened = unseal(keys, sealed)
  const plaintext = blob.plainBytes === undefined ? opened : decompressSync(opened, blob.plainBytes)
  sound(sha256(plaintext) === blob.id, 'its content does not match its id')
  return plaintext
}
