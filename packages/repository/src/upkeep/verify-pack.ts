/** Owns the task that verifies a whole pack in any thread: its name, its header, every blob in it. */
import { DamageError, sound } from '../format/damage.ts'
import { sha256 } from '../format/ids.ts'
import type { PackEntry } from '../format/pack.ts'
import { readPackEntries } from '../save/pack-builder.ts'
import { openSealed } from '../work/open-blobs.ts'
import type { TaskContext } from '../work/tasks.ts'

export interface VerifyPackInput {
  /** What its bytes must hash to. */
  readonly name: string
  /** All of it; shared memory where possible. */
  readonly bytes: Uint8Array
}

export type VerifiedPack =
  | { readonly kind: 'sound'; readonly entries: readonly PackEntry[] }
  | { readonly kind: 'damaged'; readonly reason: string }

export function verifyPack({ name, bytes }: VerifyPackInput, { keys }: TaskContext): VerifiedPack {
  const pack = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  try {
    sound(sha256(pack) === name, 'its content does not match its name')
    const entries = readPackEntries(pack, keys)
    for (const entry of entries) openSealed(entry, pack.subarray(entry.offset, entry.offset + entry.length), keys)
    return { kind: 'sound', entries }
  } catch (error) {
    if (!(error instanceof DamageError)) throw error
    return { kind: 'damaged', reason: error.message }
  }
}
