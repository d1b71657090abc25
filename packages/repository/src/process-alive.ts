/** Owns the question whether a process of this machine still runs. */
import { errnoOf } from './blob/storage-failure.ts'

/** Of other users, too. Whoever asks knows that the pid is of this machine, and may by now be another process's. */
export function isProcessAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return errnoOf(error) !== 'ESRCH' // EPERM: it runs, as somebody else
  }
}
