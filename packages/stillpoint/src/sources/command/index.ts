/**
 * The source for stores that there is no source for: the user's own commands.
 *
 * Owns: when each command runs, and what their ends mean. Does not own: what the commands do.
 *
 * How exact it is, honestly:
 * - `mark` given: as exact as that command. Capturing happens later, from what it pinned.
 * - `quiesce` and no `mark`: the capture is made inside the hold, into a file of ours. Exact, and the writers wait for
 *   all of it.
 * - neither: whatever the store holds while it is captured. The mark says so, and the part counts as torn.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
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
import {
  type Command,
  type CommandRun,
  commandOutput,
  commandSays,
  commandText,
  feedCommand,
} from './command-process.ts'
import { HookHold } from './hook-hold.ts'
import { type CommandOptions, commandOptions } from './options.ts'

export { type CommandOptions, commandOptions }

const outputPart = 'output'
const manifestPart = 'manifest.json'
const manifestBytesMax = 64 * 1024
const positionTextMax = 1000

const outputManifest = z.object({ format: z.literal(1), bytes: z.int().min(0), sha256: z.string() })
const positionObject = z.record(z.string(), z.union([z.string(), z.number()]))

export const commandSource: Source<CommandOptions> = {
  kind: 'command',
  async open(options, env, signal) {
    signal.throwIfAborted()
    return new CommandSession(options, env)
  },
}

interface CutState {
  holding?: HookHold
  hold?: Hold
  mark?: Mark
  /** The mark command has been started, so that the release command has something to do. */
  pinned?: true
  /** What was captured inside the hold. */
  spool?: string
}

class CommandSession implements SourceSession {
  readonly traits: SourceTraits
  readonly #options: CommandOptions
  readonly #env: SourceEnvironment
  readonly #cuts = new Map<CutId, CutState>()

  constructor(options: CommandOptions, env: SourceEnvironment) {
    this.#options = options
    this.#env = env
    const holds = options.quiesce !== undefined
    this.traits = { hold: holds ? 'writes' : 'none', mark: holds || options.mark !== undefined ? 'exact' : 'scan' }
  }

  async prepare(cut: CutId, signal: AbortSignal): Promise<Readiness> {
    const { estimate, mark, quiesce } = this.#options
    signal.throwIfAborted()
    const notes: string[] = []
    if (mark === undefined && quiesce !== undefined)
      notes.push('without a mark command, writers wait for the whole capture')
    if (mark === undefined && quiesce === undefined) notes.push('nothing holds writers, and nothing pins a state')
    let estimateBytes = 0
    if (estimate !== undefined) {
      const text = (await commandText(this.#hook('estimate', estimate, { cut, signal }))).trim()
      estimateBytes = Number(text)
      if (text === '' || !Number.isSafeInteger(estimateBytes) || estimateBytes < 0) {
        throw new Failure({
          code: 'command_failed',
          message: `the estimate command printed ${JSON.stringify(text.slice(0, 80))}, not a number of bytes`,
          hint: 'Let it print one whole number.',
        })
      }
    }
    return { estimateBytes, version: 'command', notes }
  }

  async quiesce(cut: CutId, leaseMs: number, signal: AbortSignal): Promise<Hold> {
    const { quiesce, resume, env, hookTimeoutMs } = this.#options
    signal.throwIfAborted()
    if (quiesce === undefined || resume === undefined) {
      throw new Failure({
        code: 'hold_unavailable',
        message: 'this store has no quiesce command',
        hint: 'Give quiesce and resume commands, or let processes with gates write it.',
      })
    }
    const state = this.#cut(cut)
    if (state.hold !== undefined) return state.hold
    const commands = { quiesce, resume, cwd: this.#env.baseDir, env, timeoutMs: hookTimeoutMs }
    state.holding = await HookHold.begin(cut, leaseMs, commands, signal)
    state.hold = { cut, endsAtMs: this.#env.clock.monotonicMs() + leaseMs }
    return state.hold
  }

  async mark(cut: CutId, signal: AbortSignal): Promise<Mark> {
    signal.throwIfAborted()
    const state = this.#cut(cut)
    if (state.mark !== undefined) return state.mark
    const { mark } = this.#options
    if (mark !== undefined) {
      state.pinned = true
      const position = readPosition(await commandText(this.#hook('mark', mark, { cut, signal })))
      state.mark = { cut, position, caveats: [] }
    } else if (state.holding !== undefined) {
      const spool = this.#spoolPath(cut)
      state.spool = spool
      state.mark = { cut, position: await this.#spool(spool, this.#captureRun(cut, signal)), caveats: [] }
    } else {
      const caveats = ['no command marks or holds this store: the snapshot has what it held while it was captured']
      state.mark = { cut, position: { cut }, caveats }
    }
    return state.mark
  }

  async resume(cut: CutId): Promise<HoldReport> {
    const holding = this.#cuts.get(cut)?.holding
    return holding === undefined ? { unbroken: false, detail: 'there was no hold' } : holding.resume()
  }

  async capture(cut: CutId, sink: CaptureSink, signal: AbortSignal): Promise<CaptureReport> {
    signal.throwIfAborted()
    const state = this.#cuts.get(cut)
    if (state?.mark === undefined) {
      throw new Failure({
        code: 'mark_unknown',
        message: `there is no mark of cut ${cut}`,
        hint: 'It was released, or the agent was started again since. Take a new snapshot.',
      })
    }
    const hash = createHash('sha256')
    const content =
      state.spool === undefined
        ? commandOutput(this.#captureRun(cut, signal))
        : createReadStream(state.spool, { signal })
    const { bytes } = await sink.file(outputPart, hashed(content, hash))
    const manifest = Buffer.from(`${JSON.stringify({ format: 1, bytes, sha256: hash.digest('hex') })}\n`)
    await sink.file(manifestPart, oneChunk(manifest))
    const exact = this.traits.mark === 'exact'
    return { bytes: bytes + manifest.length, files: 2, torn: exact ? [] : [outputPart], notes: [] }
  }

  async release(cut: CutId): Promise<void> {
    const state = this.#cuts.get(cut)
    if (state === undefined) return
    await state.holding?.resume()
    const { release } = this.#options
    if (state.pinned === true && release !== undefined) {
      await commandText(this.#hook('release', release, { cut, signal: new AbortController().signal }))
    }
    if (state.spool !== undefined) await rm(state.spool, { force: true })
    // Last: a release that failed is tried again by the next one, or by close.
    this.#cuts.delete(cut)
  }

  async checkTarget(parts: Parts, options: RestoreOptions, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    this.#restoreCommand()
    await readManifest(parts, signal)
    if (options.replace) return
    const { empty } = this.#options
    if (empty !== undefined && (await commandSays(this.#hook('empty', empty, { signal })))) return
    throw new Failure({
      code: 'target_not_empty',
      message: empty === undefined ? 'nothing can tell whether the target is empty' : 'the target is not empty',
      hint:
        empty === undefined
          ? 'Give an empty command, or say that the target is to be replaced (--replace).'
          : 'Empty it, or say that it is to be replaced (--replace).',
    })
  }

  async restore(parts: Parts, options: RestoreOptions, signal: AbortSignal): Promise<RestoreReport> {
    await this.checkTarget(parts, options, signal)
    const run = this.#run('restore', this.#restoreCommand(), { signal, replace: options.replace })
    return { bytes: await feedCommand(run, checkedOutput(parts, signal)), notes: [] }
  }

  /** Without a verify command nothing is checked, and no check is reported. */
  async verify(parts: Parts, signal: AbortSignal): Promise<VerifyReport> {
    signal.throwIfAborted()
    const { verify } = this.#options
    if (verify === undefined) return { checks: [] }
    const passed = await commandSays(this.#run('verify', verify, { signal }), checkedOutput(parts, signal))
    return { checks: [{ name: 'verify command', passed, detail: passed ? 'exit code 0' : 'exit code 1' }] }
  }

  async close(): Promise<void> {
    for (const cut of [...this.#cuts.keys()]) {
      try {
        await this.release(cut)
      } catch (error) {
        // Closing goes on; what stays pinned must not stay unknown.
        this.#env.note(error instanceof Error ? error.message : String(error))
        this.#cuts.delete(cut)
      }
    }
  }

  #restoreCommand(): Command {
    const { restore } = this.#options
    if (restore !== undefined) return restore
    throw new Failure({
      code: 'restore_unsupported',
      message: 'this store has no restore command',
      hint: 'Give a restore command: it reads from stdin what the capture command printed.',
    })
  }

  #cut(cut: CutId): CutState {
    let state = this.#cuts.get(cut)
    if (state === undefined) {
      state = {}
      this.#cuts.set(cut, state)
    }
    return state
  }

  #spoolPath(cut: CutId): string {
    return join(this.#env.scratchDir, `command-${createHash('sha256').update(cut).digest('hex').slice(0, 32)}`)
  }

  #captureRun(cut: CutId, signal: AbortSignal): CommandRun {
    return this.#run('capture', this.#options.capture, { cut, signal })
  }

  #hook(role: string, command: Command, call: { cut?: CutId; signal: AbortSignal }): CommandRun {
    return { ...this.#run(role, command, call), timeoutMs: this.#options.hookTimeoutMs }
  }

  #run(role: string, command: Command, call: { cut?: CutId; signal: AbortSignal; replace?: boolean }): CommandRun {
    const { env, timeoutMs } = this.#options
    const cut = call.cut === undefined ? {} : { STILLPOINT_CUT: call.cut }
    const replace = call.replace === undefined ? {} : { STILLPOINT_REPLACE: call.replace ? '1' : '0' }
    const { signal } = call
    return { role, command, cwd: this.#env.baseDir, env: { ...env, ...cut, ...replace }, timeoutMs, signal }
  }

  async #spool(path: string, run: CommandRun): Promise<Record<string, string | number>> {
    const hash = createHash('sha256')
    let bytes = 0
    const file = await open(path, 'w', 0o600)
    try {
      for await (const chunk of hashed(commandOutput(run), hash)) {
        await file.writeFile(chunk)
        bytes += chunk.length
      }
    } catch (error) {
      throw error instanceof Error && 'code' in error && error.code === 'ENOSPC' ? scratchFull(path, error) : error
    } finally {
      await file.close()
    }
    return { bytes, sha256: hash.digest('hex') }
  }
}

function scratchFull(path: string, cause: unknown): Failure {
  return new Failure({
    code: 'disk_full',
    message: `no space left for what the capture command prints: ${path}`,
    hint: 'Free space there, or give a mark command, so that nothing needs to be kept.',
    retry: 'later',
    cause,
  })
}

function readPosition(printed: string): Record<string, string | number> {
  const text = printed.trim()
  if (text.startsWith('{')) {
    try {
      return positionObject.parse(JSON.parse(text))
    } catch (cause) {
      throw new Failure({
        code: 'command_failed',
        message: 'the mark command printed something that is no JSON object of strings and numbers',
        hint: 'Let it print one line of text, or such an object.',
        cause,
      })
    }
  }
  return { position: text.slice(0, positionTextMax) }
}

async function readManifest(parts: Parts, signal: AbortSignal): Promise<z.infer<typeof outputManifest>> {
  for (const name of [outputPart, manifestPart]) {
    if (!parts.names().includes(name)) throw damaged('part_missing', `there is no part ${name}`)
  }
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of parts.file(manifestPart, signal)) {
    bytes += chunk.length
    if (bytes > manifestBytesMax) throw damaged('part_damaged', `the part ${manifestPart} is too large`)
    chunks.push(chunk)
  }
  try {
    return outputManifest.parse(JSON.parse(Buffer.concat(chunks).toString('utf8')))
  } catch (cause) {
    throw damaged('part_damaged', `the part ${manifestPart} is not what this version writes`, cause)
  }
}

/** The stored output. Throws at its end where it is not what was captured: before the command has seen its end. */
async function* checkedOutput(parts: Parts, signal: AbortSignal): AsyncIterable<Uint8Array> {
  const { sha256 } = await readManifest(parts, signal)
  const hash = createHash('sha256')
  yield* hashed(parts.file(outputPart, signal), hash)
  if (hash.digest('hex') !== sha256)
    throw damaged('part_damaged', `the part ${outputPart} differs from its recorded SHA-256`)
}

function damaged(code: string, message: string, cause?: unknown): Failure {
  return new Failure({
    code,
    message,
    hint: 'Run `stillpoint verify` on the snapshot; restore another one.',
    cause,
  })
}

async function* hashed(
  content: AsyncIterable<Uint8Array>,
  hash: { update(bytes: Uint8Array): unknown },
): AsyncIterable<Uint8Array> {
  for await (const chunk of content) {
    hash.update(chunk)
    yield chunk
  }
}

async function* oneChunk(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes
}
