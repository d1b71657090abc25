/** Owns opening one sealed blob in memory of this thread's: unseal, decompress, verify against the id. */
import { type CryptKeys, sealOverheadBytes, unsealInto } from '../format/crypto.ts'
import { sound } from '../format/damage.ts'
import { sha256 } from '../format/ids.ts'
import { createScratch } from '../format/scratch.ts'
import { decompressIn } from '../format/zstd.ts'

export interface SealedId {
  readonly id: string
  /** Length of the plaintext where the blob is compressed. */
  readonly plainBytes: number | undefined
}

const unsealedMemory = createScratch()
const plainMemory = createScratch()

/** The plaintext, whose hash is the id; valid until the next call in this thread. @throws DamageError */
export function openSealed({ id, plainBytes }: SealedId, sealed: Uint8Array, keys: CryptKeys): Uint8Array {
  const unsealed = unsealedMemory.of(Math.max(0, sealed.length - sealOverheadBytes))
  unsealInto(keys, sealed, unsealed)
  const plaintext = plainBytes === undefined ? unsealed : decompressIn(plainMemory, unsealed, plainBytes)
  sound(sha256(plaintext) === id, 'its content does not match its id')
  return plaintext
}
