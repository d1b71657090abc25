/**
 * The lock that lets one operation at a time change a system, over all processes of this machine.
 *
 * Owns: one file per system. The lock is the exclusive transaction of an SQLite database, so the operating system ends
 * it when its process dies, however that happens: nothing is judged stale by a clock, a pid or a host name. Those are
 * written in the file for the message to whoever must wait.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Failure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import type { Holder } from './catalog.ts'

const holderSchema = z.object({ what: z.string(), pid: z.int(), host: z.string(), since: z.string() })
const sqliteBusy = 5

export interface OperationLock {
  release(): void
}

/**
 * @param system has passed `participantName`: it becomes a file name
 * @throws Failure `system_busy` (retry `later`)
 */
export function takeOperationLock(directory: string, system: string, holder: Holder): OperationLock {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const holderPath = join(directory, `${system}.holder.json`)
  const database = new DatabaseSync(join(directory, `${system}.lock`))
  try {
    // Nothing is ever written in it: no journal, no data, only the lock.
    database.exec('PRAGMA locking_mode = NORMAL; PRAGMA busy_timeout = 0; BEGIN EXCLUSIVE')
  } catch (error) {
    database.close()
    if (isBusy(error)) throw busy(system, readHolder(holderPath))
    throw error
  }
  writeFileSync(holderPath, JSON.stringify(holder), { mode: 0o600 })
  let held = true
  return {
    release() {
      if (!held) return
      held = false
      rmSync(holderPath, { force: true })
      database.exec('ROLLBACK')
      database.close()
    },
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && error.errcode === sqliteBusy
}

/** Undefined when the holder has taken the lock and not yet written who it is, or has just gone. */
function readHolder(path: string): Holder | undefined {
  try {
    return holderSchema.parse(JSON.parse(readFileSync(path, 'utf8')))
  } catch {
    // Only the text of a message depends on it.
    return undefined
  }
}

function busy(system: string, holder: Holder | undefined): Failure {
  const who = holder === undefined ? 'another process' : `process ${holder.pid} on ${holder.host}`
  const what = holder === undefined ? 'at work on it' : `at "${holder.what}" since ${holder.since}`
  return new Failure({
    code: 'system_busy',
    message: `The system "${system}" cannot be changed now: ${who} is ${what}`,
    hint: 'Wait until that has ended. When the process is killed, the system is free at once.',
    retry: 'later',
  })
}
