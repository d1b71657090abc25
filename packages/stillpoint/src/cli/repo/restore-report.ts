/**
 * What a restore tells: progress, each entry, and the sum, as restic 0.18 has it in JSON.
 *
 * Owns: restic's way to count. Directories, links and devices are "files", too; further names of a file have no bytes;
 * what is left alone is in no total, but counted as skipped. Does not own: what is restored.
 */
import { join } from 'node:path'
import type { LoadDirectoryOptions, LoadedDirectory, LoadedEntry, LoadProgress } from '@stillpoint/repository'
import { bytesText, countText } from '../quantities.ts'
import type { CommandSession } from '../session.ts'
import { type LiveLine, progressFps } from './live-line.ts'

export interface RestoreReport {
  /** What the restore has to call. */
  readonly callbacks: (line: LiveLine) => Pick<LoadDirectoryOptions, 'onProgress' | 'onEntry' | 'onDeleted'>
  summary(restored: LoadedDirectory): void
}

export interface RestoreReportOptions {
  /** Absolute. */
  readonly target: string
  readonly isDryRun: boolean
  readonly isQuiet: boolean
  /** 2: each entry is told. */
  readonly verbose: number
}

interface Counts {
  restored: number
  skipped: number
  skippedBytes: number
  deleted: number
  /** Of files that were there as they should be: the restore counts them as done. */
  unchangedBytes: number
  /** Of further names, likewise. */
  linkedBytes: number
}

export function createRestoreReport(session: CommandSession, options: RestoreReportOptions): RestoreReport {
  const { host, output } = session
  const { verbose, isQuiet, target } = options
  const counts: Counts = { restored: 0, skipped: 0, skippedBytes: 0, deleted: 0, unchangedBytes: 0, linkedBytes: 0 }
  const startMs = host.clock.monotonicMs()
  const secondsElapsed = () => Math.floor((host.clock.monotonicMs() - startMs) / 1000)
  const pauseMs = 1000 / progressFps()
  let toldMs = Number.NEGATIVE_INFINITY

  function onProgress(line: LiveLine, progress: LoadProgress): void {
    if (!output.json) return line.update(`${progress.files} files, ${bytesText(progress.bytes)}  ${progress.path}`)
    const nowMs = host.clock.monotonicMs()
    if (isQuiet || nowMs - toldMs < pauseMs) return
    toldMs = nowMs
    output.result({ message_type: 'status', seconds_elapsed: secondsElapsed(), ...statusJson(progress, counts) })
  }

  return {
    callbacks: (line) => ({
      onProgress: (progress) => onProgress(line, progress),
      onEntry(entry) {
        countEntry(counts, entry)
        if (verbose >= 2) showEntry(session, entry)
      },
      onDeleted(path) {
        counts.deleted += 1
        if (verbose >= 2) showDeleted(session, path, target)
      },
    }),
    summary(restored) {
      output.result({ message_type: 'summary', seconds_elapsed: secondsElapsed(), ...summaryJson(restored, counts) })
      output.lines(summaryLines(restored, options))
    },
  }
}

/** restic makes links and devices anew whatever is there, and counts them so; directories always get their metadata. */
function isSkipped({ kind, outcome }: LoadedEntry): boolean {
  return outcome === 'kept' || (outcome === 'unchanged' && kind === 'file')
}

function countEntry(counts: Counts, entry: LoadedEntry): void {
  const { kind, outcome, bytes } = entry
  if (kind === 'link') counts.linkedBytes += outcome === 'kept' ? 0 : bytes
  else if (outcome === 'unchanged') counts.unchangedBytes += bytes
  if (!isSkipped(entry)) {
    counts.restored += 1
    return
  }
  counts.skipped += 1
  if (kind === 'file') counts.skippedBytes += bytes
}

function statusJson({ entriesTotal, bytes, bytesTotal }: LoadProgress, counts: Counts): object {
  const { restored, skipped, skippedBytes, unchangedBytes, linkedBytes, deleted } = counts
  const total = Math.max(0, bytesTotal - skippedBytes - linkedBytes)
  const done = Math.max(0, bytes - unchangedBytes - linkedBytes)
  return {
    percent_done: total === 0 ? 0 : Math.min(1, done / total),
    total_files: entriesTotal - skipped,
    files_restored: restored,
    files_skipped: skipped,
    files_deleted: deleted,
    total_bytes: total,
    bytes_restored: done,
    bytes_skipped: skippedBytes,
  }
}

function summaryJson({ planned, bytes, problems }: LoadedDirectory, counts: Counts): object {
  const { restored, skipped, skippedBytes, unchangedBytes, linkedBytes, deleted } = counts
  return {
    total_files: planned.entries - skipped,
    files_restored: restored,
    files_skipped: skipped,
    files_deleted: deleted,
    total_bytes: planned.bytes - skippedBytes,
    bytes_restored: bytes - unchangedBytes - linkedBytes,
    bytes_skipped: skippedBytes,
    errors: problems.length,
  }
}

function showEntry({ output }: CommandSession, entry: LoadedEntry): void {
  const { kind, outcome, bytes } = entry
  const path = `/${entry.path()}`
  const action = isSkipped(entry) ? 'unchanged' : kind === 'file' ? outcome : 'restored'
  output.result({ message_type: 'verbose_status', action, item: path, size: kind === 'file' ? bytes : 0 })
  output.lines([`${outcome.padEnd(9)}  ${path}${kind === 'file' ? ` with size ${bytesText(bytes)}` : ''}`])
}

/** As restic: where it was in the target. */
function showDeleted({ output }: CommandSession, path: string, target: string): void {
  output.result({ message_type: 'verbose_status', action: 'deleted', item: join(target, path), size: 0 })
  output.lines([`deleted    ${join(target, path)}`])
}

function summaryLines(
  restored: LoadedDirectory,
  { isDryRun, target }: Pick<RestoreReportOptions, 'isDryRun' | 'target'>,
): readonly string[] {
  const { files, bytes, unchanged, kept, deleted, verified } = restored
  const text = `${countText(files - unchanged.files, 'file')}, ${bytesText(bytes - unchanged.bytes)}, to ${target}`
  const lines = [isDryRun ? `would restore ${text}` : `restored ${text}`]
  if (unchanged.files > 0) lines.push(`${countText(unchanged.files, 'file')} were as in the snapshot already`)
  if (kept.files > 0) lines.push(`${countText(kept.files, 'file')} were left as they are`)
  if (deleted > 0)
    lines.push(`${isDryRun ? 'would delete' : 'deleted'} ${deleted} ${deleted === 1 ? 'entry' : 'entries'}`)
  if (verified > 0) lines.push(`read back ${countText(verified, 'file')}`)
  return lines
}
