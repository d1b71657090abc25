/** Owns the backend in memory: for tests and simulations. Two stores over one `MemoryObjects` are one place. */
import { Failure } from '@stillpoint/core/kernel'
import type { BlobStore, ObjectName } from './blob-store.ts'

/** Content by kind and name, as `kind/name`. Copy it to fork a repository. */
export type MemoryObjects = Map<string, Buffer>

/** Few, so that whoever is tested with it meets lists of several batches. */
const batchObjectsMax = 3

export function openMemoryStore(objects: MemoryObjects = new Map()): BlobStore {
  const locate = ({ kind, name }: ObjectName) => `memory:${kind}/${name}`
  const keyOf = ({ kind, name }: ObjectName) => `${kind}/${name}`
  function there(object: ObjectName): Buffer {
    const bytes = objects.get(keyOf(object))
    if (bytes !== undefined) return bytes
    throw new Failure({ code: 'object_missing', message: `${object.kind} ${object.name} is not at ${locate(object)}` })
  }
  return {
    traits: { atomicCreate: true, takesShared: true },
    locate,
    prepare: async () => {},
    async put(object, bytes) {
      if (objects.has(keyOf(object))) return 'exists'
      objects.set(keyOf(object), Buffer.from(bytes))
      return 'created'
    },
    async get(object, range) {
      const bytes = there(object)
      const { offset, length } = range ?? { offset: 0, length: bytes.length }
      if (offset + length <= bytes.length) return Buffer.from(bytes.subarray(offset, offset + length))
      throw new Failure({
        code: 'object_damaged',
        message: `${object.kind} ${object.name} at ${locate(object)} is damaged: it ends before byte ${offset + length}`,
      })
    },
    size: async (object) => objects.get(keyOf(object))?.length,
    async *list(kind) {
      const all = [...objects].filter(([key]) => key.startsWith(`${kind}/`))
      for (let at = 0; at < all.length; at += batchObjectsMax) {
        const batch = all.slice(at, at + batchObjectsMax)
        yield batch.map(([key, bytes]) => ({ name: key.slice(kind.length + 1), bytes: bytes.length }))
      }
    },
    async delete(object) {
      there(object)
      objects.delete(keyOf(object))
    },
    sweep: async () => 0,
  }
}
