/** Waiting, and when a schedule is due. */
import type { Clock } from '@stillpoint/core/kernel'

/** Resolves after the delay. @throws the signal's reason when aborted */
export function sleep(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason)
      return
    }
    const onAbort = () => {
      cancel()
      reject(signal.reason)
    }
    const cancel = clock.after(delayMs, () => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    })
    signal.addEventListener('abort', onAbort, { once: true })
  })
}

export interface ScheduleMoment {
  readonly startMs: number
  readonly everyMs: number
  readonly nowMs: number
}

/**
 * The first moment `start + n · every` after now. Runs neither drift (each is counted from the start, not from the end
 * of the last) nor pile up (those that were missed while one was running are left out).
 */
export function nextRun({ startMs, everyMs, nowMs }: ScheduleMoment): { readonly atMs: number; readonly runs: number } {
  const runs = Math.max(0, Math.floor((nowMs - startMs) / everyMs) + 1)
  return { atMs: startMs + runs * everyMs, runs }
}
