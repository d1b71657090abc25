/**
 * Owns access to an opened repository's objects as plaintext: every module of save, load and upkeep works on a `Vault`.
 * Does not own locks, nor the order of writing.
 *
 * Invariants: 1. a file's name is the SHA-256 of its bytes, checked on every whole read. 2. Damage and absence name the
 * object's kind, id and path.
 */
import { type Clock, type Entropy, Failure, type Random } from '@stillpoint/core/kernel'
import type { BlobStore, ObjectKind, ObjectName } from './blob/blob-store.ts'
import { decodeDocument, decodeDocumentBytes, encodeDocument } from './format/compression.ts'
import type { Config } from './format/config.ts'
import { type CryptKeys, seal, unseal } from './format/crypto.ts'
import { DamageError, sound } from './format/damage.ts'
import { sha256 } from './format/ids.ts'
import type { LoadedIndex } from './loaded-index.ts'
import type { WorkPool } from './work/work-pool.ts'
import type { WriteSettings } from './write-settings.ts'

export interface ObjectAccess {
  readonly store: BlobStore
  readonly keys: CryptKeys
  readonly entropy: Entropy
}

export interface Vault extends ObjectAccess {
  readonly config: Config
  /** Name of the key file that opened it; another one after the password was changed. */
  readonly openedWith: { keyName: string }
  readonly clock: Clock
  readonly random: Random
  readonly index: LoadedIndex
  /** The store without what is kept of it near here: for who asks whether the repository itself is sound. */
  readonly direct: () => BlobStore
  /** Threads for what is heavy; they start when it pays and end by themselves. */
  readonly work: WorkPool
  /** How what is written is packed. */
  readonly writes: WriteSettings
}

export const damageHint =
  'Check the repository with all data read to see what is affected; snapshots that do not need it are whole.'

/** `object_damaged`, naming what and where. */
export function damaged(store: BlobStore, object: ObjectName, error: unknown): unknown {
  if (!(error instanceof DamageError)) return error
  return new Failure({
    code: 'object_damaged',
    message: `${object.kind} ${object.name} at ${store.locate(object)} is damaged: ${error.message}`,
    hint: damageHint,
    cause: error,
  })
}

/** Runs `read` and lets damage name the object. */
export async function namingDamage<T>(store: BlobStore, object: ObjectName, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (error) {
    throw damaged(store, object, error)
  }
}

/** Bytes of a whole object, whose name is found to be their hash. @throws Failure */
export async function readObject(store: BlobStore, object: ObjectName): Promise<Buffer> {
  const bytes = await store.get(object)
  return namingDamage(store, object, async () => {
    sound(sha256(bytes) === object.name, 'its content does not match its name')
    return bytes
  })
}

/** A document (index, snapshot, lock), decoded. @throws Failure `object_damaged`, `object_missing`, … */
export async function readDocument<T>(
  access: ObjectAccess,
  object: ObjectName,
  decode: (json: string) => T,
): Promise<T> {
  const bytes = await readObject(access.store, object)
  return namingDamage(access.store, object, async () => decode(await decodeDocument(unseal(access.keys, bytes))))
}

/** As `readDocument`, for documents that are better not made a string. @throws Failure */
export async function readDocumentBytes<T>(
  access: ObjectAccess,
  object: ObjectName,
  decode: (json: Buffer) => T,
): Promise<T> {
  const bytes = await readObject(access.store, object)
  return namingDamage(access.store, object, async () => decode(await decodeDocumentBytes(unseal(access.keys, bytes))))
}

/** Stores a document; durable when it resolves. Returns its name. */
export async function writeDocument(access: ObjectAccess, kind: ObjectKind, json: string): Promise<string> {
  const bytes = seal(access.keys, await encodeDocument(json), access.entropy)
  const name = sha256(bytes)
  await access.store.put({ kind, name }, bytes)
  return name
}
