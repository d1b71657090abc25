/** Owns a store whose process dies at a chosen operation, for tests of what is left then. */
import { Failure } from '@stillpoint/core/kernel'
import type { BlobStore } from '../blob/blob-store.ts'

/** Throws at the n-th operation, and at every one after it: the process has died, as far as the store knows. */
export function dyingStore(
  store: BlobStore,
  diesAt: number,
): { readonly store: BlobStore; readonly count: () => number } {
  let count = 0
  const step = () => {
    count += 1
    if (count >= diesAt) throw new Failure({ code: 'storage_failed', message: 'died' })
  }
  const wrapped: BlobStore = {
    ...store,
    async put(object, bytes) {
      step()
      return store.put(object, bytes)
    },
    async get(object, range) {
      step()
      return store.get(object, range)
    },
    async delete(object) {
      step()
      return store.delete(object)
    },
    async *list(kind) {
      step()
      for await (const batch of store.list(kind)) {
        yield batch
        step()
      }
    },
  }
  return { store: wrapped, count: () => count }
}
