/**
 * The mark of a server: a save in the background. Its fork is the instant; the file that it writes is the state at it.
 *
 * Owns: the save, and an open handle on exactly its file. Does not own: the hold (hold.ts).
 *
 * Invariants:
 * - M1 The handle is on the file of that save and of no other: it is opened when the save has ended, and trusted only if
 *   the server, asked again after the opening, has not begun another one (`rdb_saves`), for a save replaces the file
 *   under its name. From then on neither a later save nor a deletion changes what the handle reads.
 * - M2 It is opened by this side as soon as the save ends, and not when `capture` comes.
 */
import { type FileHandle, open, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { type Clock, Failure } from '@stillpoint/core/kernel'
import type { Connection } from './client.ts'
import { sleep } from './hold.ts'
import { type Info, readInfo, readSetting, readTime } from './info.ts'
import { readRdbHeader } from './rdb.ts'

export interface SaveOptions {
  readonly clock: Clock
  /** Where this machine sees the server's directory; the server's own path where undefined. */
  readonly dataDir: string | undefined
}

export interface SaveBegun {
  /** Under the mark: what the server said right before the fork, with no write in between where it is held. */
  readonly info: Info
  /** Waits for the end of the save, and opens its file. @throws Failure `mark_lost` | `store_not_local` | `disk_full` */
  pin(signal: AbortSignal): Promise<FileHandle>
}

export interface RdbPlace {
  readonly path: string
  /** Of the file that is there before the save. */
  readonly inode: bigint | undefined
}

/** @throws Failure `store_not_local` when the server's directory is not to be seen here */
export async function rdbPlace(connection: Connection, options: SaveOptions, signal: AbortSignal): Promise<RdbPlace> {
  const serverDir = await readSetting(connection, 'dir', signal)
  const name = await readSetting(connection, 'dbfilename', signal)
  const dir = options.dataDir ?? serverDir
  try {
    if (!(await stat(dir)).isDirectory()) throw new Error(`${dir} is not a directory`)
  } catch (cause) {
    throw notLocal(dir, cause)
  }
  const path = join(dir, basename(name))
  try {
    return { path, inode: (await stat(path, { bigint: true })).ino }
  } catch {
    return { path, inode: undefined } // not saved yet
  }
}

function notLocal(path: string, cause: unknown): Failure {
  const why = cause instanceof Error ? cause.message : String(cause)
  return new Failure({
    code: 'store_not_local',
    message: `the server’s RDB file cannot be read here: ${why}`,
    // A FLUSHALL in the very second of the first save looks the same: it ends the save, and leaves no file.
    retry: 'later',
    hint: `Run the agent on the server’s machine, as a user that may read ${path}; where the server is in a container, name its volume in dataDir.`,
    cause,
  })
}

/** Begins the save. @throws Failure `save_unavailable` (retry `later`) when another child process runs */
export async function beginSave(connection: Connection, options: SaveOptions, signal: AbortSignal): Promise<SaveBegun> {
  const beganAt = await readTime(connection, signal)
  const before = await readInfo(connection, signal)
  if (before.forked !== undefined) throw unavailable(before.forked)
  // After that: a save that was still running would have freed the inode that ours may get.
  const place = await rdbPlace(connection, options, signal)
  try {
    await connection.call(signal, 'BGSAVE')
  } catch (error) {
    const now = await readInfo(connection, signal)
    if (now.forked !== undefined) throw unavailable(now.forked)
    throw error
  }
  const after = await readInfo(connection, signal)
  if (after.saves !== before.saves + 1) throw unavailable('a save')
  return {
    info: before,
    pin: (pinSignal) => pinFile(connection, { ...options, place, beganAt, save: after }, pinSignal),
  }
}

function unavailable(what: string): Failure {
  return new Failure({
    code: 'save_unavailable',
    message: `no save can begin: ${what} is under way`,
    hint: 'Take the snapshot when it has ended.',
    retry: 'later',
  })
}

interface PinOptions extends SaveOptions {
  readonly place: RdbPlace
  readonly beganAt: number
  readonly save: Info
}

async function pinFile(connection: Connection, options: PinOptions, signal: AbortSignal): Promise<FileHandle> {
  const { place, save } = options
  for (let pauseMs = 5; ; pauseMs = Math.min(pauseMs * 2, 100)) {
    const now = await readInfo(connection, signal)
    checkSame(save, now)
    if (!now.saving) {
      if (!now.lastSaveOk) throw saveFailed()
      // FLUSHALL ends a running save, and the server does not call that a failure.
      if (now.lastSaveAt < options.beganAt - 1) throw ended()
      break
    }
    await sleep(options.clock, pauseMs, signal)
  }
  let file: FileHandle
  try {
    file = await open(place.path, 'r')
  } catch (cause) {
    throw notLocal(place.path, cause)
  }
  try {
    const after = await readInfo(connection, signal)
    checkSame(save, after) // M1
    if (after.saving) throw lost('another save began before its file could be opened')
    await checkFile(file, options)
    return file
  } catch (error) {
    await file.close()
    throw error
  }
}

function checkSame(save: Info, now: Info): void {
  if (now.runId !== save.runId) throw lost('the server was started anew')
  if (now.saves !== save.saves) throw lost('another save began before its file could be opened')
}

/** Another machine's path may name another server's file: this one must be new, and begun when ours was. */
async function checkFile(file: FileHandle, { place, beganAt }: PinOptions): Promise<void> {
  const { ino } = await file.stat({ bigint: true })
  const header = await readRdbHeader(file, place.path)
  const late = header.beganAt === undefined ? 0 : header.beganAt - beganAt
  // A second less is well: the server reads a coarser clock for its files than for TIME.
  if (ino === place.inode) throw ended()
  if (late >= -1 && late <= 60) return
  throw notLocal(place.path, new Error(`${place.path} is not the file that the server has just saved`))
}

function ended(): Failure {
  return lost('it was ended before it was complete, as FLUSHALL does')
}

function lost(why: string): Failure {
  const hint = 'Take the snapshot again.'
  return new Failure({ code: 'mark_lost', message: `the save of this cut is gone: ${why}`, hint, retry: 'later' })
}

function saveFailed(): Failure {
  return new Failure({
    code: 'disk_full',
    message: 'the server’s save failed',
    hint: 'Its log says why; most often its disk is full. With stop-writes-on-bgsave-error and save points, it refuses writes until a save succeeds.',
  })
}
