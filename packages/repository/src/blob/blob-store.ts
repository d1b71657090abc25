/**
 * Owns the interface between the repository and the place where its objects lie. Does not own what objects mean.
 * The semantics stated here are tested by conformance.ts, which every backend must pass.
 */

/** What a repository is made of. There is one `config`; all others have names of 64 hexadecimal digits. */
export type ObjectKind = 'config' | 'key' | 'lock' | 'snapshot' | 'index' | 'pack'

export interface ObjectName {
  readonly kind: ObjectKind
  /** 64 lower-case hexadecimal digits; `config` for the config. */
  readonly name: string
}

export const configObject: ObjectName = { kind: 'config', name: 'config' }

export interface ByteRange {
  readonly offset: number
  readonly length: number
}

export interface StoredObject {
  readonly name: string
  readonly bytes: number
}

export interface BlobStoreTraits {
  /** `put` is create-only even against another machine at the same instant. */
  readonly atomicCreate: boolean
  /** `put` takes bytes in shared memory, and is done with them when it settles. Others are given bytes of their own. */
  readonly takesShared?: boolean
}

/**
 * Objects are written once, whole, and never changed.
 *
 * Atomic: an object is either absent or whole, for every reader, also after a crash.
 * Durable: when `put` or `delete` has resolved, a power cut does not undo it.
 * Read-after-write: what `put` stored, `get`, `size` and `list` of every client see at once.
 * All methods throw `Failure`s only: `object_missing`, `object_damaged` (shorter than asked for), `no_space`,
 * `storage_denied`, `storage_failed`; or the reason of a signal that the store was opened with.
 * After a failed `put` the object may or may not be there, and putting the same name again must not be taken as success
 * before its content has been compared (retrying.ts).
 */
export interface BlobStore {
  readonly traits: BlobStoreTraits
  /** Where the object is, for messages: a path or an address. */
  locate(object: ObjectName): string
  /** Makes the places for objects. Idempotent. */
  prepare(): Promise<void>
  /** Stores an object that is not there yet. `exists`: there was one, which is left as it was. */
  put(object: ObjectName, bytes: Uint8Array): Promise<'created' | 'exists'>
  /** The whole object, or exactly the range; the buffer is the caller's. */
  get(object: ObjectName, range?: ByteRange): Promise<Buffer>
  /** Length in bytes, or undefined where there is none. */
  size(object: ObjectName): Promise<number | undefined>
  /**
   * All objects of a kind, each once, in no particular order: in batches of any size, as they come, for there may be
   * more than fit into memory. It begins with the first batch that is asked for, and ends where no more are. What is
   * stored or deleted meanwhile is in it or is not. A list that fails half-way has handed over a part: it counts for
   * nothing.
   */
  list(kind: ObjectKind): AsyncIterable<readonly StoredObject[]>
  delete(object: ObjectName): Promise<void>
  /** Removes what interrupted `put`s have left. Only while nobody else writes. Returns how many. */
  sweep(): Promise<number>
}

/** All objects of a kind at once: of packs, that is 150 bytes for each. */
export async function listAll(store: Pick<BlobStore, 'list'>, kind: ObjectKind): Promise<StoredObject[]> {
  const all: StoredObject[] = []
  for await (const batch of store.list(kind)) for (const object of batch) all.push(object)
  return all
}
