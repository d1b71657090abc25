/**
 * The source for directories.
 *
 * Owns: options and session. Does not own: scanning (scan.ts), cloning (clone.ts), restoring (restore.ts), the user's
 * hooks (command/hook-hold.ts).
 *
 * How exact it is, honestly: with hooks and a file system that clones, the mark is exact. Without hooks nobody is held:
 * two equal scans show that nobody wrote between them, and otherwise the mark has a caveat. Without clones the mark is
 * pinned by hard links where it can be: files that are replaced or removed later are captured as they were, and a file
 * that is written in place before it has been captured is named as torn. Without links every later change is.
 */
import { createHash } from 'node:crypto'
import { realpath, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { type CutId, Failure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import { HookHold } from '../command/hook-hold.ts'
import type {
  CaptureReport,
  CaptureSink,
  DirectoryManifest,
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
import { type PinKind, pinKind, pinTree } from './clone.ts'
import { checkTarget, restoreDirectory, treePart, verifyDirectory } from './restore.ts'
import { changedIn, type Excluded, excluding, positionOf, scanDirectory, scanUntilStill, unreachable } from './scan.ts'
import { sameContentStamp } from './stamp.ts'

const command = z.union([z.string().min(1), z.array(z.string()).min(1)])

export const filesOptions = z
  .strictObject({
    path: z.string().min(1).describe('The directory. Relative paths start at the directory of the configuration file.'),
    exclude: z
      .array(z.string().min(1))
      .default([])
      .describe(
        'Patterns of entries to leave out: `*.tmp` is compared with names at any depth, `cache/**` with paths below the directory.',
      ),
    quiesceCommand: command
      .optional()
      .describe(
        'Command that stops all writers of the directory, and exits with 0 once none writes: a string for `sh -c`, or a list of program and arguments. Needs resumeCommand. Without it nobody is held.',
      ),
    resumeCommand: command
      .optional()
      .describe(
        'Command that lets the writers go. It is run after the mark, at the lease, and when Stillpoint dies; also after a quiesceCommand that failed, and possibly twice. It exits with 0 where nothing is held.',
      ),
    hookTimeoutMs: z
      .int()
      .min(1)
      .default(30_000)
      .describe(
        'How long each of the two commands may take, in milliseconds. quiesceCommand never takes longer than the lease.',
      ),
    clone: z
      .enum(['auto', 'never'])
      .default('auto')
      .describe(
        '`auto`: keep the tree as it is at the mark, by clones where the file system makes them (btrfs, XFS), else by hard links where stateDir is on the same file system, and capture that. Links move the ctime of files. `never`: capture in place.',
      ),
    settleMs: z
      .int()
      .min(0)
      .max(10_000)
      .default(20)
      .describe(
        "How old, in milliseconds, the newest change must be before a scan is relied upon: more than one tick of the file system's clock (FAT needs 2000).",
      ),
    scansMax: z
      .int()
      .min(1)
      .max(1000)
      .default(5)
      .describe('How often the directory is scanned again while it changes, before the mark is taken with a caveat.'),
  })
  .refine((options) => (options.quiesceCommand === undefined) === (options.resumeCommand === undefined), {
    path: ['resumeCommand'],
    message: 'quiesceCommand and resumeCommand are given together, or not at all',
  })
export type FilesOptions = z.infer<typeof filesOptions>

export const filesSource: Source<FilesOptions> = {
  kind: 'files',
  async open(options, env, signal) {
    signal.throwIfAborted()
    const path = await resolveRoot(resolve(env.baseDir, options.path))
    const pin = options.clone === 'auto' ? await pinKind(path, env.scratchDir) : null
    return new FilesSession(path, pin, options, env)
  },
}

/** The directory itself, where the path is a symlink to it; the path, where there is nothing yet. */
async function resolveRoot(path: string): Promise<string> {
  try {
    return await realpath(path)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw unreachable(path, error)
  }
  try {
    return join(await realpath(dirname(path)), basename(path))
  } catch (cause) {
    throw unreachable(dirname(path), cause)
  }
}

interface CutState {
  holding?: HookHold
  hold?: Hold
  report?: HoldReport
  /** Of the directory when it was held: another one in its place was not held. */
  identity?: string
  mark?: Mark
  manifest?: DirectoryManifest
  /** The tree that keeps the mark. */
  pinned?: string
}

class FilesSession implements SourceSession {
  readonly traits: SourceTraits
  readonly #path: string
  readonly #pin: PinKind | null
  readonly #options: FilesOptions
  readonly #env: SourceEnvironment
  readonly #excluded: Excluded
  readonly #cuts = new Map<CutId, CutState>()

  constructor(path: string, pin: PinKind | null, options: FilesOptions, env: SourceEnvironment) {
    this.#path = path
    this.#pin = pin
    this.#options = options
    this.#env = env
    this.#excluded = excluding(options.exclude)
    const holds = options.quiesceCommand !== undefined
    this.traits = { hold: holds ? 'writes' : 'none', mark: holds && pin === 'clone' ? 'exact' : 'scan' }
  }

  async prepare(_cut: CutId, signal: AbortSignal): Promise<Readiness> {
    signal.throwIfAborted()
    const { manifest, unreadable } = await this.#scan(signal)
    const notes = unreadable.map((name) => `${JSON.stringify(name)}: a name that is not UTF-8 cannot be stored`)
    if (this.traits.hold === 'none') notes.push(`nothing holds the writers of ${this.#path}`)
    const version = this.#pin === null ? 'files, scanned' : this.#pin === 'clone' ? 'files, cloned' : 'files, linked'
    return { estimateBytes: positionOf(manifest).bytes, version, notes }
  }

  async quiesce(cut: CutId, leaseMs: number, signal: AbortSignal): Promise<Hold> {
    const { quiesceCommand: quiesce, resumeCommand: resume, hookTimeoutMs: timeoutMs } = this.#options
    signal.throwIfAborted()
    if (quiesce === undefined || resume === undefined) {
      throw new Failure({
        code: 'hold_unavailable',
        message: `nothing can hold the writers of ${this.#path}`,
        hint: 'Give quiesceCommand and resumeCommand, or let processes with gates write it.',
      })
    }
    const state = this.#cut(cut)
    if (state.hold !== undefined) return state.hold
    state.identity = await this.#identity()
    state.holding = await HookHold.begin(cut, leaseMs, { quiesce, resume, cwd: this.#env.baseDir, timeoutMs }, signal)
    state.hold = { cut, endsAtMs: this.#env.clock.monotonicMs() + leaseMs }
    return state.hold
  }

  async mark(cut: CutId, signal: AbortSignal): Promise<Mark> {
    signal.throwIfAborted()
    const state = this.#cut(cut)
    if (state.mark !== undefined) return state.mark
    const { settleMs, scansMax: triesMax } = this.#options
    const still = await scanUntilStill({
      scan: () => this.#scan(signal),
      clock: this.#env.clock,
      settleMs,
      triesMax,
      signal,
      between: () => this.#pinNow(cut, state, signal),
      // Links move the ctime of files.
      ...(this.#pin === 'link' ? { isSame: sameContentStamp } : {}),
    })
    const { manifest, unreadable } = still.scan
    const caveats = [...still.caveats]
    if (unreadable.length > 0) caveats.push(`${unreadable.length} names are not UTF-8: they are not stored`)
    state.manifest = manifest
    state.mark = { cut, position: positionOf(manifest), caveats }
    return state.mark
  }

  async resume(cut: CutId): Promise<HoldReport> {
    const state = this.#cuts.get(cut)
    if (state?.holding === undefined) return { unbroken: false, detail: 'there was no hold' }
    state.report ??= await this.#resumeReport(state.holding, state.identity)
    return state.report
  }

  async capture(cut: CutId, sink: CaptureSink, signal: AbortSignal): Promise<CaptureReport> {
    signal.throwIfAborted()
    const state = this.#cuts.get(cut)
    if (state?.mark === undefined || state.manifest === undefined) {
      throw new Failure({
        code: 'mark_unknown',
        message: `there is no mark of cut ${cut}`,
        hint: 'It was released, or the agent was started again since. Take a new snapshot.',
      })
    }
    if (state.pinned !== undefined) {
      const report = await sink.directory(treePart, state.pinned, {
        exclude: this.#excluded,
        linked: this.#pin === 'link',
      })
      // Nothing can reach a clone. A link leads to the file itself: whoever writes in place is seen by its stamp.
      const written = this.#pin === 'link' ? await this.#writtenSince(state.manifest, state.pinned, signal) : []
      return { ...report, torn: [...new Set([...report.torn, ...written])], notes: [] }
    }
    // Gone altogether is no torn directory, but a store that cannot be reached.
    await this.#identity()
    const report = await sink.directory(treePart, this.#path, { manifest: state.manifest })
    signal.throwIfAborted()
    return { ...report, notes: [] }
  }

  async release(cut: CutId): Promise<void> {
    const state = this.#cuts.get(cut)
    await state?.holding?.resume()
    if (state?.pinned !== undefined) await rm(state.pinned, { recursive: true, force: true })
    this.#cuts.delete(cut)
  }

  async checkTarget(parts: Parts, options: RestoreOptions, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    await checkTarget(this.#path, parts, options)
  }

  async restore(parts: Parts, options: RestoreOptions, signal: AbortSignal): Promise<RestoreReport> {
    return restoreDirectory(this.#path, parts, options, signal)
  }

  async verify(parts: Parts, signal: AbortSignal): Promise<VerifyReport> {
    return verifyDirectory(this.#path, parts, this.#excluded, signal)
  }

  async close(): Promise<void> {
    for (const cut of [...this.#cuts.keys()]) await this.release(cut)
  }

  #scan(signal: AbortSignal) {
    return scanDirectory(this.#path, this.#excluded, signal)
  }

  #cut(cut: CutId): CutState {
    let state = this.#cuts.get(cut)
    if (state === undefined) {
      state = {}
      this.#cuts.set(cut, state)
    }
    return state
  }

  async #writtenSince(manifest: DirectoryManifest, pinned: string, signal: AbortSignal): Promise<readonly string[]> {
    const files = new Map([...manifest].filter(([, { type }]) => type === 'file'))
    return changedIn(files, (await scanDirectory(pinned, this.#excluded, signal)).manifest, sameContentStamp)
  }

  /** Keeps the tree as it is now. Where that fails, it is captured in place: what changes until then is named. */
  async #pinNow(cut: CutId, state: CutState, signal: AbortSignal): Promise<void> {
    if (this.#pin === null) return
    const to = join(this.#env.scratchDir, `files-${createHash('sha256').update(cut).digest('hex').slice(0, 32)}`)
    // Known to `release` before it is there: a cancelled copy must be removed, too.
    state.pinned = to
    const limits = { timeoutMs: this.#options.hookTimeoutMs, signal }
    if (!(await pinTree(this.#pin, { from: this.#path, to }, limits))) delete state.pinned
  }

  async #resumeReport(holding: HookHold, identity: string | undefined): Promise<HoldReport> {
    // Looked at before the resume: afterwards it would show nothing.
    const found = await this.#identity().catch(() => undefined) // What is gone is another identity.
    const report = await holding.resume()
    if (!report.unbroken || found === identity) return report
    return { unbroken: false, detail: `another directory has taken the place of ${this.#path}, or none` }
  }

  async #identity(): Promise<string> {
    try {
      const { dev, ino } = await stat(this.#path, { bigint: true })
      return `${dev}:${ino}`
    } catch (cause) {
      throw unreachable(this.#path, cause)
    }
  }
}
