/**
 * @stillpoint/repository: repositories in restic's format, version 2, for any Node program.
 * docs/format/repository.md says what is written, and what is restic's.
 */
export type {
  BlobStore,
  BlobStoreTraits,
  ByteRange,
  ObjectKind,
  ObjectName,
  StoredObject,
} from './blob/blob-store.ts'
export { type ConformanceApi, describeBlobStore } from './blob/conformance.ts'
export {
  type FaultKind,
  type FaultOptions,
  faultKinds,
  faultyStore,
  type InjectedFault,
  type StoreOperation,
} from './blob/faulty.ts'
export {
  createRateLimit,
  limitedStore,
  type RateLimit,
  type RateLimitOptions,
  type StoreLimits,
} from './blob/limited.ts'
export { openLocalStore } from './blob/local-store.ts'
export { type MemoryObjects, openMemoryStore } from './blob/memory-store.ts'
export { parseRestUrl } from './blob/rest-http.ts'
export { openRestStore, type RestStoreOptions } from './blob/rest-store.ts'
export { type RetryNote, type RetryOptions, retryingStore } from './blob/retrying.ts'
export { errnoOf, storageFailure } from './blob/storage-failure.ts'
export type { Chunking } from './chunk/cutter.ts'
export type { BlobId, SnapshotId, TreeId } from './format/ids.ts'
export type { ScryptCost } from './format/key-file.ts'
export { bytesFromName, nameFromBytes } from './format/node-name.ts'
export { msFromTimestamp, type Timestamp, timestampFromMs } from './format/timestamp.ts'
export { type DirNode, type ExtendedAttribute, type FileNode, type TreeNode, unsafeName } from './format/tree.ts'
export type { LoadDirectoryOptions, LoadedDirectory, LoadProgress } from './load/load-directory.ts'
export type { ListSnapshotsOptions, Snapshot, SnapshotFilter } from './load/snapshots.ts'
export {
  type InitOptions,
  initRepository,
  type OpenOptions,
  openRepository,
  type Repository,
} from './repository.ts'
export { type DirectoryManifest, type ManifestOptions, takeManifest } from './save/manifest.ts'
export type { Save, SavedContent, SaveStreamOptions } from './save/save.ts'
export type { DirectoryProgress, PathProblem, SaveDirectoryOptions, SavedDirectory } from './save/save-directory.ts'
export type { SealOptions } from './save/seal.ts'
export type { TreeEntry } from './save/tree-entry.ts'
export type { CheckOptions, CheckProgress, CheckReport } from './upkeep/check.ts'
export type { LockMode } from './upkeep/lock.ts'
