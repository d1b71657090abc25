/**
 * What a backup shows of itself while it runs: a line on a terminal, `status` objects with `--json`, each file with -vv.
 *
 * Owns: how often and in which form, as restic has it. Does not own: the summary at the end (backup.ts).
 */
import type { BackedUpEntry, BackupProgress } from '@stillpoint/repository'
import { bytesText, countdownText, countText } from '../quantities.ts'
import type { CommandSession } from '../session.ts'
import type { Estimate } from './backup-estimate.ts'
import { type LiveLine, progressFps } from './live-line.ts'

export interface BackupStatus {
  onProgress(progress: BackupProgress): void
  onEntry(entry: BackedUpEntry): void
  /** One more that could not be read. */
  errors: number
}

export interface BackupStatusOptions {
  readonly line: LiveLine
  /** Undefined where nothing counts beforehand. */
  readonly total: Estimate | undefined
  readonly verbosity: number
  readonly quiet: boolean
}

const actions = { new: 'new', changed: 'modified', unmodified: 'unchanged' } as const

export function showStatus({ host, output }: CommandSession, options: BackupStatusOptions): BackupStatus {
  const { line, total, verbosity, quiet } = options
  const startMs = host.clock.monotonicMs()
  const pauseMs = 1000 / progressFps()
  let toldMs = Number.NEGATIVE_INFINITY
  const status: BackupStatus = {
    errors: 0,
    onProgress(progress) {
      const nowMs = host.clock.monotonicMs()
      if (quiet || nowMs - toldMs < pauseMs) return
      toldMs = nowMs
      const seen = { progress, total, elapsedMs: nowMs - startMs, errors: status.errors }
      if (output.json) output.result(statusJson(seen))
      else line.update(statusLine(seen))
    },
    onEntry({ path, type, bytes: length, change }) {
      if (verbosity < 2) return
      const action = actions[change]
      const bytes = change === 'unmodified' ? 0 : length
      const item = type === 'dir' ? `${path}/` : path
      output.result({ message_type: 'verbose_status', action, item, data_size: bytes })
      output.lines([`${action.padEnd(9)} ${item}${bytes === 0 ? '' : `  (${bytesText(bytes)})`}`])
    },
  }
  return status
}

interface Seen {
  readonly progress: BackupProgress
  readonly total: Estimate | undefined
  readonly elapsedMs: number
  readonly errors: number
}

/** Between 0 and 1; undefined as long as the total is not known. */
function shareOf({ progress, total }: Seen): number | undefined {
  if (total === undefined || !total.isComplete || total.bytes === 0) return undefined
  return Math.min(1, progress.bytes / total.bytes)
}

function remainingMs(seen: Seen): number | undefined {
  const share = shareOf(seen)
  if (share === undefined || share === 0) return undefined
  return (seen.elapsedMs / share) * (1 - share)
}

/** The fields of restic's, which leaves out those that are 0. */
function statusJson(seen: Seen): object {
  const { progress, total, elapsedMs, errors } = seen
  const seconds = Math.floor(elapsedMs / 1000)
  const left = remainingMs(seen)
  const unlessZero = (name: string, value: number) => (value === 0 ? {} : { [name]: value })
  return {
    message_type: 'status',
    ...unlessZero('seconds_elapsed', seconds),
    ...unlessZero('seconds_remaining', left === undefined ? 0 : Math.round(left / 1000)),
    percent_done: shareOf(seen) ?? 0,
    ...unlessZero('total_files', total?.files ?? 0),
    ...unlessZero('files_done', progress.files),
    ...unlessZero('total_bytes', total?.bytes ?? 0),
    ...unlessZero('bytes_done', progress.bytes),
    ...unlessZero('error_count', errors),
    current_files: [progress.path],
  }
}

function statusLine(seen: Seen): string {
  const { progress, total, elapsedMs, errors } = seen
  const share = shareOf(seen)
  const left = remainingMs(seen)
  const parts = [
    `[${countdownText(elapsedMs)}]`,
    ...(share === undefined ? [] : [`${(share * 100).toFixed(1)}%`]),
    `${countText(progress.files, 'file')}, ${bytesText(progress.bytes)}`,
    ...(total?.isComplete ? [`of ${total.files}, ${bytesText(total.bytes)}`] : []),
    ...(errors === 0 ? [] : [countText(errors, 'error')]),
    ...(left === undefined ? [] : [`left ${countdownText(left)}`]),
  ]
  return `${parts.join(' ')}  ${progress.path}`
}
