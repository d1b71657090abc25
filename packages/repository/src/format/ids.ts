/**
 * Identifiers of the repository: 64 lower-case hexadecimal digits, the SHA-256 of content.
 * Of a blob: of its plaintext. Of a file in the repository: of the file's bytes.
 */
import { hash } from 'node:crypto'
import type { Branded, TreeId } from '@stillpoint/core/kernel'
import { DamageError } from './damage.ts'

export type { TreeId }
/** A chunk of a file's content. */
export type BlobId = Branded<string, 'BlobId'>
export type SnapshotId = Branded<string, 'SnapshotId'>
/** Name of a pack file. */
export type PackId = Branded<string, 'PackId'>
export type BlobType = 'data' | 'tree'

export const idBytes = 32
const idDigits = 2 * idBytes
const idPattern = /^[0-9a-f]{64}$/

export function isId(value: unknown): value is string {
  return typeof value === 'string' && idPattern.test(value)
}

/** Of ids that stand one after the other, each of them. */
export function idsIn(text: string): readonly string[] {
  return Array.from({ length: text.length / idDigits }, (_, at) => text.slice(at * idDigits, (at + 1) * idDigits))
}

/** SHA-256 as 64 hexadecimal digits (FIPS 180-4). */
export function sha256(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'hex')
}

function checked(value: unknown, what: string): string {
  if (!isId(value)) throw new DamageError(`${what} is not an id of 64 hexadecimal digits`)
  return value
}

/** @throws DamageError */
export function blobId(value: unknown, what = 'blob id'): BlobId {
  return checked(value, what) as BlobId
}
/** @throws DamageError */
export function treeId(value: unknown, what = 'tree id'): TreeId {
  return checked(value, what) as TreeId
}
/** @throws DamageError */
export function snapshotId(value: unknown, what = 'snapshot id'): SnapshotId {
  return checked(value, what) as SnapshotId
}
/** @throws DamageError */
export function packId(value: unknown, what = 'pack id'): PackId {
  return checked(value, what) as PackId
}
