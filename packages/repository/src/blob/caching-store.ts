/**
 * Owns what of a repository is kept near: a `BlobStore` around another one that keeps indexes, snapshots and packs of trees
 * in a local directory, and a few packs of trees in memory. Data is never kept. Does not own the directory's layout.
 *
 * Objects never change and are named by their content, so what is kept cannot be old; it can only be of an object that is
 * gone. `list` and `size` always ask the store itself, and what a list does not name any more is forgotten.
 *
 * Invariants: 1. an object is given out of the cache only where its SHA-256 is its name, and a part of one only where it
 * was when this process first read it: who reads a part verifies that, as each blob has a code and an id of its own.
 * 2. What is kept is what was read or created, never what was refused (`exists`). 3. Every buffer that is given out is the
 * caller's own.
 */
import { sha256 } from '../format/ids.ts'
import type { BlobStore, ByteRange, ObjectKind, ObjectName } from './blob-store.ts'
import { type DirectoryCache, isCachedKind } from './caching-directory.ts'

export interface CachingOptions {
  /** Without it, only packs of trees are kept, in memory. */
  readonly directory?: DirectoryCache
  /** What a pack that is known to hold trees measures; undefined of other packs. */
  readonly treePackBytes: (name: string) => number | undefined
  /** Of packs of trees in memory. Larger ones are not kept at all. Default: 48 MiB, three packs of the usual size. */
  readonly memoryBytesMax?: number
}

const memoryBytesMaxDefault = 48 << 20
/** With no directory to keep it in, a pack is fetched as a whole only after so many reads of a part. */
const partialReadsMax = 4

export function cachingStore(store: BlobStore, options: CachingOptions): BlobStore {
  const { directory, memoryBytesMax = memoryBytesMaxDefault } = options
  const packs = createPackMemory(memoryBytesMax)
  /** Packs of trees that were asked for, and whether they are small enough. */
  const isSmall = new Map<string, boolean>()
  const fetching = new Map<string, Promise<Buffer>>()
  const partialReads = new Map<string, number>()
  /** Packs that were found to be what their names say, and may have had to give up their memory to others since. */
  const sound = new Set<string>()

  /** From the directory, or from the store and then into the directory. */
  async function whole(object: ObjectName): Promise<Buffer> {
    const kept = await directory?.get(object)
    if (kept !== undefined) return kept
    const bytes = await store.get(object)
    await directory?.put(object, bytes)
    return bytes
  }

  /** A pack of trees; callers at the same time share one fetch. Undefined where it is not what its name says. */
  async function wholePack(object: ObjectName): Promise<Buffer | undefined> {
    const { name } = object
    const known = packs.get(name)
    if (known !== undefined) return known
    let fetch = fetching.get(name)
    if (fetch === undefined) {
      fetch = whole(object).finally(() => fetching.delete(name))
      fetching.set(name, fetch)
    }
    const bytes = await fetch
    if (packs.get(name) === undefined) {
      if (sha256(bytes) !== name) return undefined
      packs.put(name, bytes)
      sound.add(name)
    }
    return bytes
  }

  /** Whether it is a pack of trees that is worth fetching as a whole: it is read again and again, or can be kept. */
  function isWorthFetching({ kind, name }: ObjectName): boolean {
    if (kind !== 'pack') return false
    const isKnownSmall = isSmall.get(name)
    if (isKnownSmall === undefined) {
      const bytes = options.treePackBytes(name)
      if (bytes === undefined) return false
      isSmall.set(name, bytes <= memoryBytesMax)
      return isWorthFetching({ kind, name })
    }
    if (!isKnownSmall) return false
    if (directory !== undefined || packs.get(name) !== undefined) return true
    const reads = (partialReads.get(name) ?? 0) + 1
    partialReads.set(name, reads)
    return reads > partialReadsMax
  }

  async function getRange(object: ObjectName, range: ByteRange): Promise<Buffer> {
    if (isWorthFetching(object)) {
      // To read all of it again for a part, with as many packs taking turns, would be most of the work of a prune.
      if (sound.has(object.name) && packs.get(object.name) === undefined) {
        const part = await directory?.getRange(object, range)
        if (part !== undefined) return part
      }
      const pack = await wholePack(object)
      const end = range.offset + range.length
      // A pack that is damaged or too short: the store says so in its own words, or its blobs do.
      if (pack !== undefined && end <= pack.length) return Buffer.from(pack.subarray(range.offset, end))
    }
    return store.get(object, range)
  }

  return {
    ...store,
    get(object, range) {
      if (range !== undefined) return getRange(object, range)
      return object.kind === 'index' || object.kind === 'snapshot' ? whole(object) : store.get(object)
    },
    async put(object, bytes) {
      const outcome = await store.put(object, bytes)
      if (outcome === 'created' && (object.kind === 'index' || object.kind === 'snapshot')) {
        await directory?.put(object, bytes)
      }
      return outcome
    },
    async *list(kind: ObjectKind) {
      // Who lists all packs has walked all trees, or is about to: what is in memory is not what is needed next.
      if (kind === 'pack') packs.clear()
      if (directory === undefined || !isCachedKind(kind)) return yield* store.list(kind)
      // Of what is kept rather than of what is there: few packs hold trees. And before the list: what is kept since is new.
      const gone = await directory.names(kind)
      for await (const batch of store.list(kind)) {
        for (const { name } of batch) gone.delete(name)
        yield batch
      }
      await directory.retain(kind, (name) => !gone.has(name))
    },
    async delete(object) {
      packs.remove(object.name)
      sound.delete(object.name)
      await directory?.remove(object)
      await store.delete(object)
    },
  }
}

interface PackMemory {
  get(name: string): Buffer | undefined
  put(name: string, bytes: Buffer): void
  remove(name: string): void
  clear(): void
}

/** The packs that were used last, up to a sum of bytes. A map keeps the order of insertion: the first is the oldest. */
function createPackMemory(bytesMax: number): PackMemory {
  const packs = new Map<string, Buffer>()
  let bytes = 0

  function remove(name: string): void {
    bytes -= packs.get(name)?.length ?? 0
    packs.delete(name)
  }

  return {
    get(name) {
      const pack = packs.get(name)
      if (pack === undefined) return undefined
      packs.delete(name)
      packs.set(name, pack)
      return pack
    },
    put(name, pack) {
      remove(name)
      if (pack.length > bytesMax) return
      packs.set(name, pack)
      bytes += pack.length
      for (const [oldest] of packs) {
        if (bytes <= bytesMax) return
        remove(oldest)
      }
    },
    remove,
    clear() {
      packs.clear()
      bytes = 0
    },
  }
}
