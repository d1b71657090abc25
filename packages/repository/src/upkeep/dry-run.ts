/**
 * Owns a vault for trying: it reads as the real one, and what is written into it goes nowhere.
 *
 * Invariant: nothing that is done with it changes the repository.
 */
import type { BlobStore } from '../blob/blob-store.ts'
import type { LoadedIndex } from '../loaded-index.ts'
import type { Vault } from '../vault.ts'

export function dryVault(vault: Vault): Vault {
  const store: BlobStore = {
    ...vault.store,
    prepare: async () => {},
    put: async () => 'created',
    delete: async () => {},
    sweep: async () => 0,
  }
  // What is not stored must not be found by the index: other work on the same repository goes by it.
  const index: LoadedIndex = {
    ...vault.index,
    get blobs() {
      return vault.index.blobs
    },
    adopt: () => {},
  }
  return { ...vault, store, index }
}
