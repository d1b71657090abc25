/**
 * Owns the gear table of content-defined chunking: 256 secret numbers of 32 bits. They are derived from the master keys
 * by HKDF-SHA-256 (RFC 5869), salted with the repository's id, so that where chunks end tells nothing about content to
 * whoever does not have the keys, and all writers of one repository cut alike. docs/format/repository.md fixes it.
 */
import { hkdfSync } from 'node:crypto'
import type { CryptKeys } from '../format/crypto.ts'

const purpose = 'stillpoint repository gear table v1'
/** HKDF gives at most 255 · 32 bytes from one expansion, enough for 256 numbers. */
const tableBytes = 256 * 4

export type GearTable = Uint32Array

export function deriveGearTable(keys: CryptKeys, repositoryId: string): GearTable {
  const secret = Buffer.concat([keys.encrypt, keys.macK, keys.macR])
  const bytes = Buffer.from(hkdfSync('sha256', secret, Buffer.from(repositoryId, 'hex'), purpose, tableBytes))
  return Uint32Array.from({ length: 256 }, (_, entry) => bytes.readUInt32LE(entry * 4))
}
