/**
 * Owns putting a pack file together and proving it before it is stored.
 *
 * Invariant: no pack is handed out that has not been parsed from its final bytes, decrypted, decompressed and compared
 * with the ids of its blobs: memory errors and our own bugs are found before the source is gone. Where the settings say
 * that this is not wanted, only its header is read back.
 */
import { assert, type Entropy, Failure } from '@stillpoint/core/kernel'
import { type CryptKeys, seal, unseal } from '../format/crypto.ts'
import { DamageError } from '../format/damage.ts'
import { packId, sha256 } from '../format/ids.ts'
import type { IndexedPack } from '../format/index-file.ts'
import {
  decodeHeaderLength,
  decodePackHeader,
  encodePackHeader,
  headerLengthBytes,
  type PackEntry,
} from '../format/pack.ts'
import { openBlob, type SealedBlob } from './blob-coder.ts'

export interface BuiltPack extends IndexedPack {
  readonly bytes: Buffer
}

export interface BuildSettings {
  readonly keys: CryptKeys
  readonly entropy: Entropy
  readonly selfCheck: boolean
}

/** @throws Failure `self_check_failed` */
export async function buildPack(
  blobs: readonly SealedBlob[],
  { keys, entropy, selfCheck }: BuildSettings,
): Promise<BuiltPack> {
  assert(blobs.length > 0, 'a pack has blobs')
  assert(
    blobs.every((blob) => blob.type === blobs[0]?.type),
    'a pack has blobs of one type',
  )
  let offset = 0
  const entries = blobs.map(({ id, type, sealed, plainBytes }): PackEntry => {
    const entry = { id, type, offset, length: sealed.length, plainBytes }
    offset += sealed.length
    return entry
  })
  const header = seal(keys, encodePackHeader(entries), entropy)
  const tail = Buffer.alloc(headerLengthBytes)
  tail.writeUInt32LE(header.length)
  const bytes = Buffer.concat([...blobs.map((blob) => blob.sealed), header, tail])
  await prove(bytes, entries, { keys, selfCheck })
  return { id: packId(sha256(bytes)), entries, bytes }
}

async function prove(
  bytes: Buffer,
  entries: readonly PackEntry[],
  { keys, selfCheck }: Omit<BuildSettings, 'entropy'>,
): Promise<void> {
  try {
    const read = readPackEntries(bytes, keys)
    assert(JSON.stringify(read) === JSON.stringify(entries), 'the header that is read is the header that was written')
    if (!selfCheck) return
    for (const entry of read) await openBlob(entry, bytes.subarray(entry.offset, entry.offset + entry.length), keys)
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

/** Entries of a whole pack, from its header. @throws DamageError */
export function readPackEntries(bytes: Buffer, keys: CryptKeys): PackEntry[] {
  const end = bytes.length - headerLengthBytes
  const headerBytes = decodeHeaderLength(bytes.subarray(Math.max(0, end)), bytes.length)
  const entries = decodePackHeader(unseal(keys, bytes.subarray(end - headerBytes, end)))
  const last = entries.at(-1)
  if (last !== undefined && last.offset + last.length !== end - headerBytes) {
    throw new DamageError('its blobs and its header do not fill it')
  }
  return entries
}
