/**
 * The source for SQLite databases.
 *
 * Owns: options and session. The work is done in child processes (sqlite-child.ts): one per cut for the hold, one per
 * cut for the mark, so that each ends without the other.
 *
 * Invariants, beside those of source.ts:
 * - The hold ends by the holding child's own timer, and with this process's death (S2).
 * - This process never opens the database: closing a descriptor of it would drop locks of this process's own.
 */
import { createHash } from 'node:crypto'
import { open, rm, statfs } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { type CutId, Failure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import type {
  CaptureReport,
  CaptureSink,
  Hold,
  HoldReport,
  Mark,
  Parts,
  Readiness,
  RestoreOptions,
  RestoreReport,
  Source,
  SourceEnvironment,
  SourceSession,
  SourceTraits,
  VerifyReport,
} from '../source.ts'
import { checkFileSystem } from './file-system.ts'
import type { Answer, TargetFile } from './messages.ts'
import {
  checkTarget,
  type DatabaseManifest,
  databasePart,
  manifestPart,
  resolveTarget,
  restoreDatabase,
  verifyDatabase,
} from './restore.ts'
import { SqliteChild } from './sqlite-child.ts'

const readBytes = 1024 * 1024
const resumeTimeoutMs = 10_000

export const sqliteOptions = z.strictObject({
  path: z
    .string()
    .min(1)
    .describe('The database file. Relative paths start at the directory of the configuration file.'),
  busyTimeoutMs: z
    .int()
    .min(0)
    .max(600_000)
    .default(5000)
    .describe(
      'How long a lock that another process holds is waited for, in milliseconds. A hold never waits longer than its lease.',
    ),
  copyBytesMax: z
    .int()
    .min(0)
    .default(64 * 1024 * 1024)
    .describe(
      'Only for a database that is not in WAL mode: the largest size, in bytes, that may be copied while its writers wait.',
    ),
})
export type SqliteOptions = z.infer<typeof sqliteOptions>

export const sqliteSource: Source<SqliteOptions> = {
  kind: 'sqlite',
  async open(options, env, signal) {
    signal.throwIfAborted()
    const path = resolve(env.baseDir, options.path)
    await checkFileSystem(dirname(path), env.note)
    return new SqliteSession({ path: await resolveTarget(path), busyTimeoutMs: options.busyTimeoutMs }, options, env)
  },
}

interface OpenChild {
  readonly child: SqliteChild
  readonly opened: Promise<Answer<'open'>>
}

/** All that belongs to one cut. Each member is made by its call and undone by `release`; `resume` ends the hold only. */
interface CutState {
  holder?: OpenChild
  marker?: OpenChild
  hold?: Hold
  report?: HoldReport
  mark?: Mark
  copy?: Promise<DatabaseCopy>
}

interface DatabaseCopy {
  readonly path: string
  readonly facts: DatabaseManifest['facts']
}

class SqliteSession implements SourceSession {
  readonly traits: SourceTraits = { hold: 'writes', mark: 'exact' }
  readonly #target: TargetFile
  readonly #options: SqliteOptions
  readonly #env: SourceEnvironment
  readonly #cuts = new Map<CutId, CutState>()

  constructor(target: TargetFile, options: SqliteOptions, env: SourceEnvironment) {
    this.#target = target
    this.#options = options
    this.#env = env
  }

  async prepare(cut: CutId, signal: AbortSignal): Promise<Readiness> {
    signal.throwIfAborted()
    const state = this.#cut(cut)
    state.holder ??= this.#start()
    state.marker ??= this.#start()
    try {
      await abortable(state.holder.opened, signal)
      const { sqlite, journal, pages, pageBytes } = await abortable(state.marker.opened, signal)
      const estimateBytes = pages * pageBytes
      await this.#checkScratch(estimateBytes)
      const notes =
        journal === 'wal' ? [] : [`${this.#target.path} is not in WAL mode: its writers wait while all of it is copied`]
      return { estimateBytes, version: `SQLite ${sqlite}`, notes }
    } catch (error) {
      await this.#drop(cut)
      throw error
    }
  }

  async quiesce(cut: CutId, leaseMs: number, signal: AbortSignal): Promise<Hold> {
    signal.throwIfAborted()
    const state = this.#cut(cut)
    if (state.hold !== undefined) return state.hold
    state.holder ??= this.#start()
    const { child, opened } = state.holder
    try {
      await abortable(opened, signal)
      const waitMs = Math.min(leaseMs, this.#options.busyTimeoutMs)
      await child.ask({ op: 'hold', leaseMs, waitMs }, signal)
    } catch (error) {
      await child.end()
      delete state.holder
      throw error
    }
    // The child began to count before its answer reached us.
    state.hold = { cut, endsAtMs: this.#env.clock.monotonicMs() + leaseMs }
    return state.hold
  }

  async mark(cut: CutId, signal: AbortSignal): Promise<Mark> {
    signal.throwIfAborted()
    const state = this.#cut(cut)
    if (state.mark !== undefined) return state.mark
    state.marker ??= this.#start()
    const { child, opened } = state.marker
    const copyTo = this.#copyPath(cut)
    try {
      await abortable(opened, signal)
      const { copyBytesMax } = this.#options
      const { position } = await child.ask({ op: 'mark', copyTo, copyBytesMax }, signal)
      state.mark = { cut, position, caveats: [] }
      return state.mark
    } catch (error) {
      await child.end()
      await rm(copyTo, { force: true })
      delete state.marker
      throw error
    }
  }

  async resume(cut: CutId): Promise<HoldReport> {
    const state = this.#cuts.get(cut)
    if (state?.report !== undefined) return state.report
    if (state?.hold === undefined || state.holder === undefined) return { unbroken: false, detail: 'there was no hold' }
    const { child } = state.holder
    state.report = await resumeReport(child)
    await child.end()
    return state.report
  }

  async capture(cut: CutId, sink: CaptureSink, signal: AbortSignal): Promise<CaptureReport> {
    signal.throwIfAborted()
    const state = this.#cuts.get(cut)
    if (state?.mark === undefined || state.marker === undefined) throw noMark(cut)
    // One copy for all captures of this mark. A cancelled capture stops waiting; the copy goes on until `release`.
    state.copy ??= this.#copy(state.marker.child, this.#copyPath(cut))
    const { path, facts } = await abortable(state.copy, signal)
    const hash = createHash('sha256')
    const chunking = { kind: 'pages', pageBytes: facts.pageBytes } as const
    const { bytes } = await sink.file(databasePart, readCopy(path, facts.pageBytes, hash, signal), { chunking })
    const manifest: DatabaseManifest = { format: 1, bytes, sha256: hash.digest('hex'), facts }
    const text = Buffer.from(`${JSON.stringify(manifest, undefined, 2)}\n`)
    await sink.file(manifestPart, oneChunk(text))
    return { bytes: bytes + text.length, files: 2, torn: [], notes: [] }
  }

  async release(cut: CutId): Promise<void> {
    await this.#drop(cut)
  }

  async checkTarget(parts: Parts, options: RestoreOptions, signal: AbortSignal): Promise<void> {
    await checkTarget(this.#target, parts, options, signal)
  }

  async restore(parts: Parts, options: RestoreOptions, signal: AbortSignal): Promise<RestoreReport> {
    return restoreDatabase(this.#target, parts, options, signal)
  }

  async verify(parts: Parts, signal: AbortSignal): Promise<VerifyReport> {
    return verifyDatabase(this.#target, parts, signal)
  }

  async close(): Promise<void> {
    for (const cut of [...this.#cuts.keys()]) await this.#drop(cut)
  }

  #cut(cut: CutId): CutState {
    let state = this.#cuts.get(cut)
    if (state === undefined) {
      state = {}
      this.#cuts.set(cut, state)
    }
    return state
  }

  #start(): OpenChild {
    const child = new SqliteChild()
    const opened = child.ask({ op: 'open', ...this.#target })
    // Awaited by each call that needs it; a cut that is dropped before must not make it an unhandled rejection.
    opened.catch(() => undefined)
    return { child, opened }
  }

  async #copy(child: SqliteChild, path: string): Promise<DatabaseCopy> {
    const { facts } = await child.ask({ op: 'copy', copyTo: path })
    return { path, facts }
  }

  async #drop(cut: CutId): Promise<void> {
    const state = this.#cuts.get(cut)
    this.#cuts.delete(cut)
    state?.copy?.catch(() => undefined) // Told to whoever waited for it; the kill below ends it.
    await state?.holder?.child.end()
    await state?.marker?.child.end()
    await rm(this.#copyPath(cut), { force: true })
  }

  #copyPath(cut: CutId): string {
    // A cut's id is no file name of ours to trust.
    return join(this.#env.scratchDir, `sqlite-${createHash('sha256').update(cut).digest('hex').slice(0, 32)}`)
  }

  async #checkScratch(needBytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.#env.scratchDir)
    if (bavail * bsize >= needBytes) return
    throw new Failure({
      code: 'disk_full',
      message: `${this.#env.scratchDir} has ${bavail * bsize} bytes free; the copy of ${this.#target.path} needs ${needBytes}`,
      hint: 'Free space there, or set TMPDIR to a directory that has it.',
      retry: 'later',
    })
  }
}

async function resumeReport(child: SqliteChild): Promise<HoldReport> {
  try {
    const { unbroken, detail } = await child.ask({ op: 'resume' }, AbortSignal.timeout(resumeTimeoutMs))
    return detail === undefined ? { unbroken } : { unbroken, detail }
  } catch (error) {
    // Nothing stays unclear: a child that does not answer is ended by the caller, and its hold counts as broken.
    const why = error instanceof Error ? error.message : String(error)
    return { unbroken: false, detail: `the process that held the lock did not answer: ${why}` }
  }
}

function noMark(cut: CutId): Failure {
  return new Failure({
    code: 'mark_unknown',
    message: `there is no mark of cut ${cut}`,
    hint: 'It was released, or the agent was started again since. Take a new snapshot.',
  })
}

/** Waits until the signal says otherwise. What is waited for goes on. */
async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  const aborted = Promise.withResolvers<never>()
  const onAbort = () => aborted.reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([promise, aborted.promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

async function* readCopy(
  path: string,
  pageBytes: number,
  hash: { update(bytes: Uint8Array): unknown },
  signal: AbortSignal,
): AsyncIterable<Uint8Array> {
  const file = await open(path, 'r')
  try {
    const size = Math.max(pageBytes, readBytes - (readBytes % pageBytes))
    for (;;) {
      signal.throwIfAborted()
      const { bytesRead, buffer } = await file.read(Buffer.alloc(size), 0, size)
      if (bytesRead === 0) return
      const chunk = buffer.subarray(0, bytesRead)
      hash.update(chunk)
      yield chunk
    }
  } finally {
    await file.close()
  }
}

async function* oneChunk(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes
}
