/**
 * Owns opening the cache of a repository, and tidying it: the settings that users give. Does not own how objects are kept.
 * A cache that cannot be opened is told, and done without.
 */
import { type Clock, type Entropy, Failure } from '@stillpoint/core/kernel'
import type { BlobStore } from './blob-store.ts'
import { type DirectoryCache, openDirectoryCache, removeUnusedCaches } from './caching-directory.ts'
import { cachingStore } from './caching-store.ts'

export interface CacheSettings {
  /** Where the caches of all repositories are; each has a directory of its own in it, named by the repository's id. */
  readonly directory: string
  /** Of packs of trees, when it is opened; those used longest ago go first. Default: 4 GiB. */
  readonly packBytesMax?: number
  /** Removes the caches of repositories that were not opened for 30 days. Default: false. */
  readonly removeUnused?: boolean
  /** Told, once, when the cache cannot be used; then it is done without. */
  readonly onProblem?: (failure: Failure) => void
}

/** What of the index a cache goes by. */
export interface KnownPacks {
  treePackBytes(id: string): number | undefined
  /** Whether the index names the pack. */
  hasPack(id: string): boolean
}

export interface OpenCachingOptions {
  readonly store: BlobStore
  readonly repositoryId: string
  readonly clock: Clock
  readonly entropy: Entropy
  readonly settings?: CacheSettings
  /** The index as it is by then. */
  readonly packs: () => KnownPacks
}

export interface OpenedCaching {
  /** The store behind its cache. */
  readonly store: BlobStore
  /** The store with packs of trees kept in memory only, and none yet: what is read from it is in the repository. */
  readonly direct: () => BlobStore
  /** Drops packs that no index names, and more than may be kept. After the index was read. */
  tidy(): Promise<void>
}

const packBytesMaxDefault = 4 * 2 ** 30

export async function openCaching(options: OpenCachingOptions): Promise<OpenedCaching> {
  const { store, settings, packs } = options
  const directory = settings === undefined ? undefined : await openOrTell(options, settings)
  const treePackBytes = (name: string) => packs().treePackBytes(name)
  return {
    store: cachingStore(store, { treePackBytes, ...(directory === undefined ? {} : { directory }) }),
    direct: () => cachingStore(store, { treePackBytes }),
    async tidy() {
      await directory?.retain('pack', (name) => packs().hasPack(name))
      await directory?.trimPacks(settings?.packBytesMax ?? packBytesMaxDefault)
    },
  }
}

async function openOrTell(
  { repositoryId, clock, entropy }: OpenCachingOptions,
  { directory, removeUnused = false, onProblem }: CacheSettings,
): Promise<DirectoryCache | undefined> {
  try {
    const told = onProblem === undefined ? {} : { onProblem }
    const cache = await openDirectoryCache({ directory, repositoryId, clock, entropy, ...told })
    if (removeUnused) await removeUnusedCaches({ directory, clock, except: repositoryId })
    return cache
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    onProblem?.(error)
    return undefined
  }
}
