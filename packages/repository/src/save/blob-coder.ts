/**
 * Owns what is done to one blob on its way in and out: hash, compress, seal; unseal, decompress, verify.
 * Each function depends only on its arguments, so that it can move into a worker.
 */
import type { Entropy } from '@stillpoint/core/kernel'
import { compress, decompress, levelOf } from '../format/compression.ts'
import { type CryptKeys, seal, unseal } from '../format/crypto.ts'
import { sound } from '../format/damage.ts'
import { type BlobType, sha256 } from '../format/ids.ts'
import type { PackEntry } from '../format/pack.ts'
import type { CompressionMode } from '../write-settings.ts'

export interface SealedBlob {
  readonly id: string
  readonly type: BlobType
  readonly sealed: Uint8Array
  /** Length of the plaintext where it is compressed; undefined where that would not have made it smaller. */
  readonly plainBytes: number | undefined
}

export interface SealSettings {
  readonly keys: CryptKeys
  readonly entropy: Entropy
  readonly compression: CompressionMode
}

export async function sealBlob(
  blob: { readonly id: string; readonly type: BlobType; readonly plaintext: Uint8Array },
  { keys, entropy, compression }: SealSettings,
): Promise<SealedBlob> {
  const { id, type, plaintext } = blob
  const level = levelOf(type, compression)
  const compressed = level === undefined ? plaintext : await compress(plaintext, level)
  const worthwhile = compressed.length < plaintext.length
  const sealed = seal(keys, worthwhile ? compressed : plaintext, entropy)
  return { id, type, sealed, plainBytes: worthwhile ? plaintext.length : undefined }
}

/** The plaintext, whose hash is the id. @throws DamageError */
export async function openBlob(
  entry: Pick<PackEntry, 'id' | 'plainBytes'>,
  sealed: Uint8Array,
  keys: CryptKeys,
): Promise<Buffer> {
  const opened = unseal(keys, sealed)
  const plaintext = entry.plainBytes === undefined ? opened : await decompress(opened, entry.plainBytes)
  sound(entry.plainBytes === undefined || plaintext.length === entry.plainBytes, 'its length is not as recorded')
  sound(sha256(plaintext) === entry.id, 'its content does not match its id')
  return plaintext
}
