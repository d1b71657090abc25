/**
 * The server's hold on its state directory: one server at a time, found by the commands through `server.json`.
 *
 * Invariants:
 * - The right to serve is a lock of the operating system (the exclusive transaction of an SQLite database in which
 *   nothing is ever written). It ends with its process, however that ends, and is never judged by a pid or a clock.
 * - `server.json` appears whole or not at all, is written only by the holder of the lock, and is only an announcement.
 */
import { mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type Clock, type Entropy, Failure } from '@stillpoint/core/kernel'
import { isErrno } from './errno.ts'
import { isOurServer, readServerFile, type ServerFile, serverFileName, tokenFileName } from './find-server.ts'
import { obtainToken } from './token.ts'

/** No system can be called so: the locks of systems are beside it, by their names. */
const lockFileName = '.server.lock'
const sqliteBusy = 5
/** How long a server that has the lock may take to announce itself, before it is reported without its address. */
const announcementMs = 2_000
const announcementPollMs = 50

export interface ClaimedDirectory {
  readonly token: string
  readonly tokenFile: string
  /** Announces the server. Atomic. */
  announce(file: ServerFile): Promise<void>
  /** Takes the announcement back and lets the next server in. Idempotent. */
  release(): Promise<void>
}

/**
 * @throws Failure `server_running` naming pid and url, `state_directory_unusable`, `token_file_*`
 */
export async function claimStateDirectory(
  stateDir: string,
  { clock, entropy }: { readonly clock: Clock; readonly entropy: Entropy },
): Promise<ClaimedDirectory> {
  await prepareDirectory(stateDir)
  const lock = await takeLock(stateDir)
  if (lock === undefined) throw await alreadyRunning(stateDir, clock)
  try {
    const tokenFile = join(stateDir, tokenFileName)
    const token = await obtainToken(tokenFile, entropy)
    // The lock is ours, so this file is stale; unless somebody has deleted the lock file under a running server.
    const announced = await readServerFile(stateDir)
    if (announced !== null && (await isOurServer(announced.url, token))) throw serverRunning(stateDir, announced)
    const path = join(stateDir, serverFileName)
    let held = true
    return {
      token,
      tokenFile,
      announce: (file) => writeAtomically(path, `${JSON.stringify(file, null, 2)}\n`, entropy),
      async release() {
        if (!held) return
        held = false
        // In this order: the file of the next server must not be the one that is removed.
        await rm(path, { force: true })
        lock.close()
      },
    }
  } catch (error) {
    lock.close()
    throw error
  }
}

async function prepareDirectory(stateDir: string): Promise<void> {
  try {
    await mkdir(stateDir, { recursive: true, mode: 0o700 })
    // Whoever can write here can put a token of theirs here. Its mode is not ours to change: it may be /tmp.
    if (((await stat(stateDir)).mode & 0o002) !== 0) throw new Error('every user of this machine can write it')
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new Failure({
      code: 'state_directory_unusable',
      message: `The state directory ${stateDir} cannot be used: ${why}`,
      hint: 'Set "stateDir" to a directory of its own that only the user who runs stillpoint can write.',
      cause,
    })
  }
}

async function takeLock(stateDir: string): Promise<DatabaseSync | undefined> {
  const path = join(stateDir, lockFileName)
  try {
    await makeFile(path)
    const database = new DatabaseSync(path)
    try {
      database.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
      return database
    } catch (error) {
      database.close()
      if (error instanceof Error && 'errcode' in error && error.errcode === sqliteBusy) return undefined
      throw error
    }
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new Failure({
      code: 'state_directory_unusable',
      message: `The lock ${path} cannot be taken: ${why}`,
      hint: 'Check that the disk is not full and that the user who runs stillpoint may write there.',
      cause,
    })
  }
}

/**
 * Makes the file with its mode, where there is none. One that exists is not even opened: closing any descriptor of a
 * file ends all locks that this process has on it (POSIX), and one of them may be another server's in this process.
 */
async function makeFile(path: string): Promise<void> {
  try {
    await (await open(path, 'wx', 0o600)).close()
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error
  }
}

/** Whoever holds the lock may be about to announce itself: waits a moment, to be able to say where it is. */
async function alreadyRunning(stateDir: string, clock: Clock): Promise<Failure> {
  const untilMs = clock.monotonicMs() + announcementMs
  while (clock.monotonicMs() < untilMs) {
    const announced = await readServerFile(stateDir)
    // The file of a killed server may still be there while the next one starts: only a living pid is named.
    if (announced !== null && isAlive(announced.pid)) return serverRunning(stateDir, announced)
    await new Promise<void>((wake) => clock.after(announcementPollMs, wake))
  }
  return serverRunning(stateDir, null)
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return isErrno(error, 'EPERM')
  }
}

function serverRunning(stateDir: string, file: ServerFile | null): Failure {
  const who = file === null ? 'by a server that is starting or stopping' : `by process ${file.pid} at ${file.url}`
  return new Failure({
    code: 'server_running',
    message: `The state directory ${stateDir} is already served ${who}`,
    hint: 'Use that server, or stop it first. Two systems need two state directories.',
    retry: file === null ? 'later' : 'never',
  })
}

async function writeAtomically(path: string, text: string, entropy: Entropy): Promise<void> {
  const suffix = new Uint8Array(8)
  entropy.fill(suffix)
  const draft = `${path}.${Buffer.from(suffix).toString('hex')}`
  try {
    const file = await open(draft, 'wx', 0o600)
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(draft, path)
  } catch (error) {
    await rm(draft, { force: true })
    throw error
  }
}
