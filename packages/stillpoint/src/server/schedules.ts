/**
 * Snapshots that the server takes by itself, at a fixed rate.
 *
 * Owns: when. Does not own: how a snapshot is taken, nor its retries.
 *
 * Invariants:
 * - The n-th run is due n periods after the first, by the monotonic clock: what a run takes, and what a timer is late,
 *   does not add up. A run that is due while one is under way is skipped, and that is noted.
 * - Over restarts the next run is the one that the catalog remembers; it is remembered when a run has ended, so one
 *   that died with its server is made up for. Wall clocks that jumped can delay a run by one period at most.
 * - A failure is reported, and the schedule goes on.
 */
import { type Clock, describeFailure, Failure, isFailure } from '@stillpoint/core/kernel'
import type { Catalog } from '../catalog/catalog.ts'
import type { SystemConfig } from '../config/system-config.ts'
import type { Operations } from '../coordinator/operations.ts'
import type { LiveEvents } from './live-events.ts'
import type { Log } from './ports.ts'
import type { RunningOperations } from './running-operations.ts'

export interface ScheduleOptions {
  readonly config: Pick<SystemConfig, 'system' | 'schedule'>
  readonly catalog: Catalog
  readonly operations: Operations
  readonly running: RunningOperations
  readonly clock: Clock
  readonly events: LiveEvents
  readonly log: Log
  /** After a start, processes join again before a run can succeed. */
  readonly settleMs: number
}

export interface RunningSchedule {
  /** No run begins any more. One that is under way is not waited for. */
  stop(): void
}

export const scheduleName = 'snapshots'
export const scheduleTag = 'scheduled'
/** A timer of node is at most 2^31 ms long, and later than asked for after a machine's sleep. */
const timerMsMax = 3_600_000

/** Takes up the schedule of the configuration where it was left, or removes one that is no more. */
export async function startSchedule(options: ScheduleOptions): Promise<RunningSchedule> {
  const { config, catalog, clock } = options
  if (config.schedule === null) {
    await catalog.removeSchedule(config.system, scheduleName)
    return { stop: () => {} }
  }
  const { everyMs } = config.schedule
  const stopped = new AbortController()
  const delayMs = Math.max(options.settleMs, await firstDelayMs(options, everyMs, stopped.signal))
  let dueMs = clock.monotonicMs() + delayMs
  let isRunning = false
  let cancel = clock.after(Math.min(delayMs, timerMsMax), wake)
  report(options, 'info', `The next scheduled snapshot is due in ${Math.round(delayMs / 1_000)} s`)

  function wake(): void {
    if (stopped.signal.aborted) return
    const nowMs = clock.monotonicMs()
    if (nowMs >= dueMs) {
      const missed = Math.floor((nowMs - dueMs) / everyMs)
      dueMs += (missed + 1) * everyMs
      if (missed > 0) report(options, 'warn', `${missed} scheduled snapshots were skipped: the machine stood still`)
      if (isRunning) report(options, 'warn', 'A scheduled snapshot was skipped: the one before is still being taken')
      else void run()
    }
    cancel = clock.after(Math.min(Math.max(0, dueMs - clock.monotonicMs()), timerMsMax), wake)
  }

  async function run(): Promise<void> {
    isRunning = true
    try {
      await takeOne(options)
      if (!stopped.signal.aborted) await remember()
    } finally {
      isRunning = false
    }
  }

  async function remember(): Promise<void> {
    const nextAtMs = clock.wallMs() + Math.max(0, dueMs - clock.monotonicMs())
    try {
      await catalog.putSchedule(config.system, { name: scheduleName, everyMs, nextAtMs: Math.round(nextAtMs) })
    } catch (error) {
      // Only the next start would miss it, and would then go by the last snapshot.
      report(options, 'error', 'The next scheduled run could not be written to the catalog', error)
    }
  }

  return {
    stop() {
      stopped.abort()
      cancel()
    },
  }
}

async function takeOne(options: ScheduleOptions): Promise<void> {
  const { running, operations } = options
  // A schedule asks until the server ends, and `running` sees to that.
  const { signal } = new AbortController()
  try {
    const taken = await running.run({ kind: 'take', startedBy: 'schedule', signal, onEvent: () => {} }, (context) =>
      operations.take({ allowInconsistent: false, tags: [scheduleTag] }, context),
    )
    report(options, 'info', `Scheduled snapshot ${taken.id.slice(0, 8)} was taken: ${taken.verdict}`)
  } catch (error) {
    if (isFailure(error, 'server_stopping')) return
    const isBusy = isFailure(error, 'system_busy')
    const what = isBusy ? 'A scheduled snapshot was skipped' : 'A scheduled snapshot failed'
    report(options, isBusy ? 'warn' : 'error', `${what}: ${describeFailure(error).message}`, error)
  }
}

/** From 0 to `everyMs`. */
async function firstDelayMs(options: ScheduleOptions, everyMs: number, signal: AbortSignal): Promise<number> {
  const { config, catalog, operations, clock } = options
  const remembered = (await catalog.schedules(config.system)).find(({ name }) => name === scheduleName)
  let nextAtMs = remembered?.everyMs === everyMs ? remembered.nextAtMs : undefined
  if (nextAtMs === undefined) {
    try {
      const snapshots = await operations.list({ signal, onEvent: () => {} })
      const times = snapshots.map(({ time }) => Date.parse(time)).filter(Number.isFinite)
      if (times.length > 0) nextAtMs = Math.max(...times) + everyMs
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      // The run that comes now will say the same, or it was for a moment.
      report(options, 'warn', `The last snapshot is not known: ${error.message}`, error)
    }
  }
  return nextAtMs === undefined ? 0 : Math.min(Math.max(0, nextAtMs - clock.wallMs()), everyMs)
}

function report({ events, log }: ScheduleOptions, level: 'info' | 'warn' | 'error', text: string, error?: unknown) {
  log({ level, message: text })
  events.publish({ type: 'scheduleNoted', text, failure: error === undefined ? null : describeFailure(error) })
}
