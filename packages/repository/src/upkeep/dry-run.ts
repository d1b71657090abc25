/**
 * Owns a vault for trying: it reads as the real one, and what is written into it goes nowhere.
 *
 * Invariant: nothing that is done with it changes the repository.
 */
import type { BlobStore, ObjectName } from '../blob/blob-store.ts'
import type { LoadedIndex } from '../loaded-index.ts'
import type { Vault } from '../vault.ts'

export function dryVault(vault: Vault): Vault {
  // Who writes looks whether it is there: the lengths of packs and the few bytes of documents are kept for that.
  const lengths = new Map<string, number>()
  const documents = new Map<string, Buffer>()
  const keyOf = ({ kind, name }: ObjectName) => `${kind} ${name}`
  const store: BlobStore = {
    ...vault.store,
    prepare: async () => {},
    async put(object, bytes) {
      lengths.set(keyOf(object), bytes.length)
      if (object.kind !== 'pack') documents.set(keyOf(object), Buffer.from(bytes))
      return 'created'
    },
    size: async (object) => lengths.get(keyOf(object)) ?? vault.store.size(object),
    async get(object, range) {
      const document = documents.get(keyOf(object))
      if (document === undefined || range !== undefined) return vault.store.get(object, range)
      return Buffer.from(document)
    },
    delete: async () => {},
    sweep: async () => 0,
  }
  // What is not stored must not be found by the index: other work on the same repository goes by it.
  const index: LoadedIndex = {
    ...vault.index,
    get blobs() {
      return vault.index.blobs
    },
    get files() {
      return vault.index.files
    },
    adopt: () => {},
  }
  return { ...vault, store, direct: () => store, index }
}
