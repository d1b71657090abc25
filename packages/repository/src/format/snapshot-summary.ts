/**
 * Owns the summary in the document of a snapshot: what its backup found, and what it added. As restic has it since 0.17,
 * with its names and in its order.
 *
 * Invariant: numbers are exact up to 2^64 - 1, times to the nanosecond; a field that is absent is 0, as for restic.
 */
import { assert } from '@stillpoint/core/kernel'
import { type JsonObject, jsonObject, jsonString, optionalStringField, uint64Field } from './json.ts'
import { formatTimestamp, parseTimestamp, type Timestamp } from './timestamp.ts'

export interface SnapshotSummary {
  /** When the work began and ended; `noTime` where nobody knows. */
  readonly backupStart: Timestamp
  readonly backupEnd: Timestamp
  /** Since the parent snapshot. */
  readonly filesNew: bigint
  readonly filesChanged: bigint
  readonly filesUnmodified: bigint
  readonly dirsNew: bigint
  readonly dirsChanged: bigint
  readonly dirsUnmodified: bigint
  /** Blobs that were not stored before. */
  readonly dataBlobs: bigint
  readonly treeBlobs: bigint
  /** Their bytes, as they are and as they were stored. */
  readonly dataAdded: bigint
  readonly dataAddedPacked: bigint
  readonly totalFilesProcessed: bigint
  /** The lengths of all files: the size of the snapshot. */
  readonly totalBytesProcessed: bigint
}

/** The beginning of the year 1: restic's word for no time. */
export const noTime: Timestamp = parseTimestamp('0001-01-01T00:00:00Z')

/** Of a backup of which nothing is known. */
export const unknownSummary: SnapshotSummary = summaryOf({})

/** As a value of `parseJson`. */
export function summaryFields(summary: SnapshotSummary): Readonly<Record<string, string | bigint>> {
  return {
    backup_start: formatTimestamp(summary.backupStart),
    backup_end: formatTimestamp(summary.backupEnd),
    files_new: summary.filesNew,
    files_changed: summary.filesChanged,
    files_unmodified: summary.filesUnmodified,
    dirs_new: summary.dirsNew,
    dirs_changed: summary.dirsChanged,
    dirs_unmodified: summary.dirsUnmodified,
    data_blobs: summary.dataBlobs,
    tree_blobs: summary.treeBlobs,
    data_added: summary.dataAdded,
    data_added_packed: summary.dataAddedPacked,
    total_files_processed: summary.totalFilesProcessed,
    total_bytes_processed: summary.totalBytesProcessed,
  }
}

export function encodeSummary(summary: SnapshotSummary): string {
  const fields = Object.entries(summaryFields(summary)).map(([name, value]) => {
    if (typeof value === 'string') return `"${name}":${jsonString(value)}`
    // What could not be read again would hide the snapshot.
    assert(value >= 0n && value < 1n << 64n, `${name} of a summary is out of range`)
    return `"${name}":${value}`
  })
  return `{${fields.join(',')}}`
}

/** The field `summary` of a snapshot; undefined where it has none. @throws DamageError */
export function decodeSummary(value: unknown): SnapshotSummary | undefined {
  return value === undefined || value === null ? undefined : summaryOf(jsonObject(value, 'the summary'))
}

function summaryOf(object: JsonObject): SnapshotSummary {
  return {
    backupStart: timeField(object, 'backup_start'),
    backupEnd: timeField(object, 'backup_end'),
    filesNew: uint64Field(object, 'files_new'),
    filesChanged: uint64Field(object, 'files_changed'),
    filesUnmodified: uint64Field(object, 'files_unmodified'),
    dirsNew: uint64Field(object, 'dirs_new'),
    dirsChanged: uint64Field(object, 'dirs_changed'),
    dirsUnmodified: uint64Field(object, 'dirs_unmodified'),
    dataBlobs: uint64Field(object, 'data_blobs'),
    treeBlobs: uint64Field(object, 'tree_blobs'),
    dataAdded: uint64Field(object, 'data_added'),
    dataAddedPacked: uint64Field(object, 'data_added_packed'),
    totalFilesProcessed: uint64Field(object, 'total_files_processed'),
    totalBytesProcessed: uint64Field(object, 'total_bytes_processed'),
  }
}

function timeField(object: JsonObject, name: string): Timestamp {
  const text = optionalStringField(object, name)
  return text === undefined ? noTime : parseTimestamp(text)
}
