/** The HTTP status that goes with a failure. The failure itself is the answer; the status is for tools that see no more. */
import type { FailureReport } from '@stillpoint/core/kernel'

const statusByCode: Readonly<Record<string, number>> = {
  request_invalid: 400,
  name_invalid: 400,
  unauthenticated: 401,
  host_refused: 403,
  origin_refused: 403,
  restore_remote: 403,
  route_absent: 404,
  snapshot_absent: 404,
  restore_unknown: 404,
  part_absent: 404,
  channel_absent: 404,
  snapshot_ambiguous: 409,
  session_foreign: 409,
  cut_not_running: 409,
  cut_unknown: 409,
  capture_finished: 409,
  channel_invalid: 400,
  recorded_message_invalid: 400,
  restore_not_offered: 409,
  system_busy: 409,
  repository_locked: 409,
  request_too_large: 413,
  media_type_unsupported: 415,
  unexpected: 500,
  server_stopping: 503,
}

/** 422: the request was understood, and cannot be carried out. 503: not now. */
export function failureStatus(report: FailureReport): number {
  return statusByCode[report.code] ?? (report.retry === 'later' ? 503 : 422)
}
