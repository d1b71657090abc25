/**
 * Owns locks on the repository, as restic's: a file per holder, shared or exclusive. Does not own what is done under them.
 *
 * Invariants: 1. a lock is written before others are looked at for the last time, so of two rivals at least one sees the
 * other (the store is read-after-write). 2. A lock file is removed by who made it, on success, error and abort.
 * 3. A lock that could not be renewed in time, or that somebody removed, aborts what runs under it.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { hostname, userInfo } from 'node:os'
import { Failure, isFailure } from '@stillpoint/core/kernel'
import { listAll } from '../blob/blob-store.ts'
import { pause } from '../blob/retrying.ts'
import { decodeLock, encodeLock, type LockRecord } from '../format/lock-file.ts'
import { formatTimestamp, msFromTimestamp, timestampFromMs } from '../format/timestamp.ts'
import { isProcessAlive } from '../process-alive.ts'
import { readDocument, type Vault, writeDocument } from '../vault.ts'

export type LockMode = 'shared' | 'exclusive'

/** As restic: older locks are taken for left over. */
export const lockStaleMs = 30 * 60_000
const refreshMs = 4 * 60_000
/** Between two attempts to get a lock that somebody else has. As restic's. */
const retryLockMs = 1_000
const retryLockMsMax = 60_000
const refreshRetryMs = 10_000
/** Well before others may take the lock for stale. */
const refreshFailedMs = 20 * 60_000
/** A clock that was set by less does not make a living process look dead. */
const startSlackMs = 60_000

export interface HeldLock {
  /** Aborted with Failure `lock_lost` when the lock no longer protects. */
  readonly signal: AbortSignal
  release(): Promise<void>
}

export interface LockKeeper {
  /** @throws Failure `repository_locked` */
  acquire(mode: LockMode): Promise<HeldLock>
  /** Runs `action` under a lock; calls inside it share the lock. */
  withLock<T>(mode: LockMode, action: (signal: AbortSignal) => Promise<T>): Promise<T>
  /** Removes stale locks, or all. Returns how many. */
  unlock(options?: { readonly all?: boolean }): Promise<number>
  /** Resolves when what is held at this time has been given back. */
  idle(): Promise<void>
}

export interface LockKeeperOptions {
  /** How long rivals are waited for. Default: not at all. */
  readonly waitMs?: number
  /** Ends the waiting; its reason is thrown. */
  readonly signal?: AbortSignal
  /** Once aborted, no lock is given out any more, and what runs under one is aborted; its reason is thrown. */
  readonly closed?: AbortSignal
}

interface LockFile {
  readonly mode: LockMode
  readonly lost: AbortController
  name: string
  holders: number
  stopTimer: () => void
  /** A renewal that is under way; release waits for it, lest it leaves a file behind. */
  renewing: Promise<void>
  /** Settled when nobody holds it any more. */
  readonly released: PromiseWithResolvers<void>
}

/** Locks for one opened repository. Holders of shared locks in it share one file. */
export function createLockKeeper(vault: Vault, options: LockKeeperOptions = {}): LockKeeper {
  const around = new AsyncLocalStorage<LockFile>()
  const { closed } = options
  const held = new Set<LockFile>()
  closed?.addEventListener('abort', () => {
    for (const file of held) file.lost.abort(closed.reason)
  })
  let shared: LockFile | undefined
  let last: Promise<unknown> = Promise.resolve()

  /** One after the other: acquiring and releasing must not overtake each other. */
  function inTurn<T>(action: () => Promise<T>): Promise<T> {
    const turn = last.then(action, action)
    last = turn.catch(() => undefined) // told to the caller of this turn
    return turn
  }

  function hold(file: LockFile): HeldLock {
    file.holders += 1
    let released = false
    return {
      signal: file.lost.signal,
      release: () =>
        inTurn(async () => {
          if (released) return
          released = true
          file.holders -= 1
          if (file.holders > 0) return
          if (shared === file) shared = undefined
          try {
            await removeLock(vault, file)
          } finally {
            held.delete(file)
            file.released.resolve()
          }
        }),
    }
  }

  function acquire(mode: LockMode): Promise<HeldLock> {
    const outer = around.getStore()
    return inTurn(async () => {
      closed?.throwIfAborted()
      if (outer !== undefined && outer.holders > 0 && (outer.mode === 'exclusive' || mode === 'shared')) {
        return hold(outer)
      }
      if (mode === 'shared' && shared !== undefined && !shared.lost.signal.aborted) return hold(shared)
      const file = await createLock(vault, mode)
      held.add(file)
      // It was closed meanwhile: whoever is given this lock finds out by its signal.
      if (closed?.aborted === true) file.lost.abort(closed.reason)
      if (mode === 'shared') shared = file
      return hold(file)
    })
  }

  const acquireWaiting = (mode: LockMode) => waiting(vault, options, () => acquire(mode))
  return {
    acquire: acquireWaiting,
    async withLock(mode, action) {
      const held = await acquireWaiting(mode)
      try {
        held.signal.throwIfAborted()
        const file = lockFiles.get(held.signal)
        return await (file === undefined ? action(held.signal) : around.run(file, () => action(held.signal)))
      } finally {
        await held.release()
      }
    },
    unlock: (options) => unlock(vault, options?.all ?? false),
    async idle() {
      await last
      await Promise.all([...held].map(({ released }) => released.promise))
    },
  }
}

export function readOnlyFailure(): Failure {
  const message = 'the repository was opened for reading only'
  return new Failure({ code: 'repository_read_only', message, hint: 'Open it for writing.' })
}

/** Takes no locks, for places that cannot be written, where nobody else can write either. */
export function createReadOnlyKeeper(closed: AbortSignal = new AbortController().signal): LockKeeper {
  const running = new Set<Promise<unknown>>()
  const acquire = async (mode: LockMode): Promise<HeldLock> => {
    closed.throwIfAborted()
    if (mode === 'exclusive') throw readOnlyFailure()
    return { signal: closed, release: async () => {} }
  }
  return {
    acquire,
    async withLock(mode, action) {
      const { signal } = await acquire(mode)
      const work = action(signal)
      running.add(work)
      return work.finally(() => running.delete(work))
    },
    unlock: () => Promise.reject(readOnlyFailure()),
    idle: async () => void (await Promise.allSettled(running)),
  }
}

/** From a held lock back to its file, for nesting. */
const lockFiles = new WeakMap<AbortSignal, LockFile>()

/** Tries again while others have it locked. Not in a turn: what this process holds must be released meanwhile. */
async function waiting<T>(
  vault: Vault,
  { waitMs = 0, signal: given, closed }: LockKeeperOptions,
  attempt: () => Promise<T>,
): Promise<T> {
  const { clock } = vault
  const ends = [given, closed].filter((signal) => signal !== undefined)
  const signal = ends.length > 1 ? AbortSignal.any(ends) : ends[0]
  const untilMs = clock.monotonicMs() + waitMs
  for (let pauseMs = retryLockMs; ; pauseMs = Math.min(pauseMs * 2, retryLockMsMax)) {
    try {
      return await attempt()
    } catch (error) {
      const leftMs = untilMs - clock.monotonicMs()
      if (!isFailure(error, 'repository_locked') || leftMs <= 0) throw error
      // Some chance in it, lest two that wait for each other's locks meet for ever.
      const chance = 0.75 + vault.random.uint32() / 2 ** 33
      await pause(Math.min(pauseMs * chance, leftMs), signal === undefined ? { clock } : { clock, signal })
    }
  }
}

async function createLock(vault: Vault, mode: LockMode): Promise<LockFile> {
  await throwIfRivals(vault, mode, undefined)
  const writtenMs = vault.clock.monotonicMs()
  const name = await writeLock(vault, mode)
  try {
    await throwIfRivals(vault, mode, name)
  } catch (error) {
    await vault.store.delete({ kind: 'lock', name }).catch(unlessMissing)
    throw error
  }
  const lost = new AbortController()
  const file: LockFile = {
    mode,
    name,
    lost,
    holders: 0,
    stopTimer: () => {},
    renewing: Promise.resolve(),
    released: Promise.withResolvers<void>(),
  }
  lockFiles.set(lost.signal, file)
  keepFresh(vault, file, writtenMs, refreshMs)
  return file
}

async function removeLock(vault: Vault, file: LockFile): Promise<void> {
  file.stopTimer()
  await file.renewing
  file.stopTimer()
  await vault.store.delete({ kind: 'lock', name: file.name }).catch(unlessMissing)
}

function unlessMissing(error: unknown): void {
  if (!isFailure(error, 'object_missing')) throw error
}

function writeLock(vault: Vault, mode: LockMode): Promise<string> {
  const user = userInfo()
  const record: LockRecord = {
    time: timestampFromMs(vault.clock.wallMs()),
    exclusive: mode === 'exclusive',
    hostname: hostname(),
    username: user.username,
    pid: process.pid,
    uid: Math.max(0, user.uid),
    gid: Math.max(0, user.gid),
  }
  return writeDocument(vault, 'lock', encodeLock(record))
}

function keepFresh(vault: Vault, file: LockFile, freshMs: number, delayMs: number): void {
  // A little earlier by chance, so that many holders do not renew in the same moment.
  const jitterMs = (vault.random.uint32() / 2 ** 32) * delayMs * 0.1
  file.stopTimer = vault.clock.after(delayMs - jitterMs, () => {
    const begunMs = vault.clock.monotonicMs()
    // Also where the storage does not answer at all, and the renewal neither ends nor fails.
    const stopWatch = vault.clock.after(Math.max(0, freshMs + refreshFailedMs - begunMs), () => {
      file.lost.abort(lockLost(vault, file, new Error('the storage does not answer')))
    })
    file.renewing = renew(vault, file).then(
      () => {
        stopWatch()
        // What it says is the time at which its writing began.
        keepFresh(vault, file, begunMs, refreshMs)
      },
      (error: unknown) => {
        stopWatch()
        const late = vault.clock.monotonicMs() - freshMs > refreshFailedMs
        if (late || isFailure(error, 'lock_lost')) file.lost.abort(lockLost(vault, file, error))
        else keepFresh(vault, file, freshMs, refreshRetryMs)
      },
    )
  })
}

async function renew(vault: Vault, file: LockFile): Promise<void> {
  if ((await vault.store.size({ kind: 'lock', name: file.name })) === undefined) {
    throw lockLost(vault, file, undefined)
  }
  const old = file.name
  file.name = await writeLock(vault, file.mode)
  await vault.store.delete({ kind: 'lock', name: old }).catch(unlessMissing)
}

function lockLost(vault: Vault, file: LockFile, cause: unknown): Failure {
  const where = vault.store.locate({ kind: 'lock', name: file.name })
  const why = cause === undefined ? 'somebody removed it' : 'it could not be renewed in time'
  return new Failure({ code: 'lock_lost', message: `the lock ${where} is lost: ${why}`, retry: 'later', cause })
}

function lockUnseen(vault: Vault, name: string): Failure {
  return new Failure({
    code: 'lock_lost',
    message: `the lock ${vault.store.locate({ kind: 'lock', name })} was written, but the storage does not list it`,
    hint: 'Somebody removed it at once, or the storage lists late: then locks protect nothing there. Use a storage that shows at once what was written.',
    retry: 'later',
  })
}

/** @throws Failure `repository_locked`, `lock_lost` (our own is not seen: nor would others see it, nor we theirs) */
async function throwIfRivals(vault: Vault, mode: LockMode, own: string | undefined): Promise<void> {
  const locks = await listAll(vault.store, 'lock')
  if (own !== undefined && !locks.some(({ name }) => name === own)) throw lockUnseen(vault, own)
  for (const { name } of locks) {
    if (name === own) continue
    const lock = await readLock(vault, name)
    if (lock === undefined || (mode === 'shared' && !lock.exclusive)) continue
    if (isStale(vault, lock)) {
      await vault.store.delete({ kind: 'lock', name }).catch(unlessMissing)
      continue
    }
    throw lockedBy(vault, name, lock)
  }
}

function lockedBy(vault: Vault, name: string, lock: LockRecord): Failure {
  const how = lock.exclusive ? 'exclusively' : 'for reading or writing'
  const who = `process ${lock.pid} of ${lock.username || 'unknown'} on ${lock.hostname || 'an unknown host'}`
  return new Failure({
    code: 'repository_locked',
    message: `the repository is locked ${how} by ${who} since ${formatTimestamp(lock.time)} (${vault.store.locate({ kind: 'lock', name })})`,
    hint: `Wait until it has finished. If that process no longer runs, remove its lock with "stillpoint repo unlock" or "restic unlock"; a lock that is not renewed for ${lockStaleMs / 60_000} minutes is ignored by itself.`,
    retry: 'later',
  })
}

/** Undefined where it was removed meanwhile. */
async function readLock(vault: Vault, name: string): Promise<LockRecord | undefined> {
  try {
    return await readDocument(vault, { kind: 'lock', name }, decodeLock)
  } catch (error) {
    if (isFailure(error, 'object_missing')) return undefined
    if (!isFailure(error, 'object_damaged')) throw error
    const hint =
      'Make sure that nobody works with the repository, then remove all locks: "stillpoint repo unlock --remove-all".'
    throw new Failure({ code: error.code, message: error.message, hint, cause: error })
  }
}

export function isStale(vault: Pick<Vault, 'clock'>, lock: LockRecord): boolean {
  const lockedMs = msFromTimestamp(lock.time)
  if (vault.clock.wallMs() - lockedMs > lockStaleMs) return true
  if (lock.hostname !== hostname() || lock.pid === 0) return false
  // A container's processes get the same few pids at each start: a lock from before ours began is not ours.
  const startedMs = vault.clock.wallMs() - process.uptime() * 1000
  if (lock.pid === process.pid) return lockedMs < startedMs - startSlackMs
  return !isProcessAlive(lock.pid)
}

async function unlock(vault: Vault, all: boolean): Promise<number> {
  let removed = 0
  for (const { name } of await listAll(vault.store, 'lock')) {
    const lock = all ? undefined : await readLock(vault, name)
    if (!all && (lock === undefined || !isStale(vault, lock))) continue
    await vault.store.delete({ kind: 'lock', name }).catch(unlessMissing)
    removed += 1
  }
  return removed
}
