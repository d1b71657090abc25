/** Owns the task that ends a pack: its header, proven from its final bytes, and its name. */
import { assert, Failure } from '@stillpoint/core/kernel'
import { sealInto, sealOverheadBytes, unseal } from '../format/crypto.ts'
import { DamageError, sound } from '../format/damage.ts'
import { type PackId, packId, sha256 } from '../format/ids.ts'
import { decodeHeaderLength, decodePackHeader, encodePackHeader, headerLengthBytes } from '../format/pack.ts'
import type { TaskContext } from '../work/tasks.ts'

export interface FinishPackInput {
  /** Sealed blobs one after the other, proven, and room for the header. */
  readonly bytes: Uint8Array
  /** How many of the bytes are blobs. */
  readonly filled: number
  /** As `encodePackHeader` made it. */
  readonly header: Uint8Array
  /** 16 fresh random bytes. */
  readonly iv: Uint8Array
}

/** What a header adds to a pack. */
export const headerRoom = (header: Uint8Array): number => header.length + sealOverheadBytes + headerLengthBytes

/** @throws Failure `self_check_failed` */
export function finishPack(
  input: FinishPackInput,
  { keys }: TaskContext,
): { readonly id: PackId; readonly length: number } {
  const { filled, header, iv } = input
  const bytes = Buffer.from(input.bytes.buffer, input.bytes.byteOffset, filled + headerRoom(header))
  const length = sealInto({ keys, plaintext: header, iv, target: bytes.subarray(filled) })
  bytes.writeUInt32LE(length, filled + length)
  prove(bytes, input, keys)
  return { id: packId(sha256(bytes)), length: bytes.length }
}

function prove(bytes: Buffer, { filled, header }: FinishPackInput, keys: TaskContext['keys']): void {
  try {
    const end = bytes.length - headerLengthBytes
    const length = decodeHeaderLength(bytes.subarray(end), bytes.length)
    const entries = decodePackHeader(unseal(keys, bytes.subarray(end - length, end)))
    sound(encodePackHeader(entries).equals(header), 'the header that is read is not the header that was written')
    const last = entries.at(-1)
    assert(last !== undefined && last.offset + last.length === filled, 'the header tells of all that is in the pack')
  } catch (error) {
    if (!(error instanceof DamageError)) throw error
    throw new Failure({
      code: 'self_check_failed',
      message: `a pack was damaged in memory before it was stored: ${error.message}`,
      hint: 'Nothing damaged was stored. Test the memory of this machine.',
      cause: error,
    })
  }
}
