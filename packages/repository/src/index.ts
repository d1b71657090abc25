/**
 * @stillpoint/repository: repositories in restic's format, version 2, for any Node program.
 * docs/format/repository.md says what is written, and what is restic's.
 */
export {
  type BlobStore,
  type BlobStoreTraits,
  type ByteRange,
  listAll,
  type ObjectKind,
  type ObjectName,
  type StoredObject,
} from './blob/blob-store.ts'
export type { CacheSettings } from './blob/caching.ts'
export { type ConformanceApi, describeBlobStore } from './blob/conformance.ts'
export {
  type FaultKind,
  type FaultOptions,
  faultKinds,
  faultyStore,
  type InjectedFault,
  type StoreOperation,
} from './blob/faulty.ts'
export { cacheBytes, type KeptCache, listCaches, removeCache } from './blob/kept-caches.ts'
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
export { parseS3Location, type S3Location } from './blob/s3-location.ts'
export { openS3Store, type S3StoreOptions } from './blob/s3-store.ts'
export { type S3Retention, type S3StorageClass, s3StorageClasses } from './blob/s3-upload.ts'
export { errnoOf, storageFailure } from './blob/storage-failure.ts'
export type { Chunking } from './chunk/cutter.ts'
export {
  type AttributeProblem,
  type AttributesRead,
  extendedAttributesKnown,
  readAttributes,
  writeAttributes,
} from './extended-attributes.ts'
export type { BlobId, SnapshotId, TreeId } from './format/ids.ts'
export type { ScryptCost } from './format/key-file.ts'
export { bytesFromName, nameFromBytes } from './format/node-name.ts'
export type { SnapshotSummary } from './format/snapshot-summary.ts'
export { msFromTimestamp, type Timestamp, timestampFromMs } from './format/timestamp.ts'
export { type DirNode, type ExtendedAttribute, type FileNode, type TreeNode, unsafeName } from './format/tree.ts'
export type { EntryOutcome, LoadedEntry, Overwrite } from './load/load.ts'
export type { LoadDirectoryOptions, LoadedDirectory, LoadProgress } from './load/load-directory.ts'
export type { ListSnapshotsOptions, Snapshot, SnapshotFilter } from './load/snapshots.ts'
export { type NativeLibrary, nativeLibraries } from './native-libraries.ts'
export {
  type InitOptions,
  initRepository,
  type OpenOptions,
  openRepository,
  type Repository,
} from './repository.ts'
export type { EntryChange } from './save/entry-change.ts'
export { type DirectoryManifest, type ManifestOptions, takeManifest } from './save/manifest.ts'
export type { Save, SavedContent, SaveStreamOptions } from './save/save.ts'
export type { SealOptions } from './save/seal.ts'
export type { TreeEntry } from './save/tree-entry.ts'
export type {
  DirectoryProgress,
  PathProblem,
  SaveDirectoryOptions,
  SavedDirectory,
  SavedEntry,
} from './save/walk.ts'
export type { ExcludeRules, FileSystemRoot, FolderMarker, PatternText } from './selection/exclude-rules.ts'
export {
  type BackedUpEntry,
  type BackupOptions,
  type BackupProgress,
  type BackupReport,
  pathInSnapshot,
} from './upkeep/backup.ts'
export { parseBytes } from './upkeep/byte-quantity.ts'
export type { CheckOptions, CheckProgress, CheckReport } from './upkeep/check.ts'
export type { SnapshotChoice } from './upkeep/check-choice.ts'
export type { CopiedSnapshot, CopyOptions, CopyProgress } from './upkeep/copy.ts'
export { type CoverageFileOptions, type CoverageStore, openCoverageFile } from './upkeep/coverage-file.ts'
export { type DataSubset, parseDataSubset } from './upkeep/data-subset.ts'
export type { DiffAmount, DiffOptions, DiffStats, TreeChange } from './upkeep/diff-trees.ts'
export type { ChangeCounts, EntryCounts } from './upkeep/entry-counts.ts'
export type { ForgetOptions, ForgottenGroup } from './upkeep/forget.ts'
export type { AddKeyOptions, RepositoryKey } from './upkeep/keys.ts'
export type { LockMode } from './upkeep/lock.ts'
export type { ListedBlob, ListedKind } from './upkeep/objects.ts'
export type { PruneOptions, PruneProgress, PruneReport } from './upkeep/prune.ts'
export type { PruneAmount, PrunePolicy, PruneStats, UnusedLimit } from './upkeep/prune-plan.ts'
export { parseReadBudget, type ReadBudget, type ReadCoverage } from './upkeep/read-coverage.ts'
export type { Recovered, RecoverOptions } from './upkeep/recover.ts'
export type { RepairIndexOptions, RepairIndexReport } from './upkeep/repair-index.ts'
export type { RepairedPack, RepairPacksOptions } from './upkeep/repair-packs.ts'
export type { RepairedSnapshot, RepairSnapshotsOptions, SnapshotRepair } from './upkeep/repair-snapshots.ts'
export {
  applyRetention,
  isEmptyPolicy,
  type KeepCount,
  type KeptSnapshot,
  type RetentionDecision,
  type RetentionPeriod,
  type RetentionPolicy,
  type RetentionSubject,
  retentionPeriods,
} from './upkeep/retention.ts'
export { parseSpan, type RetentionSpan, spanText } from './upkeep/retention-span.ts'
export type { RewriteOptions, RewrittenSnapshot } from './upkeep/rewriting.ts'
export { isSelected, type SnapshotSelection } from './upkeep/select-snapshots.ts'
export { type GroupField, groupSnapshots, parseGroupBy, type SnapshotGroup } from './upkeep/snapshot-groups.ts'
export { type RepositoryStats, type StatsMode, type StatsOptions, statsModes } from './upkeep/stats.ts'
export type { TagChange, TaggedSnapshot } from './upkeep/tag.ts'
export type { Upkeep } from './upkeep/upkeep.ts'
export type { WalkedNode, WalkNodesOptions } from './upkeep/walk-nodes.ts'
export { type CompressionMode, packBytesBounds, packBytesDefault } from './write-settings.ts'
