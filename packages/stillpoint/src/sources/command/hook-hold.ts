/**
 * A hold that the user's commands make: the parent's side of watchdog.ts.
 *
 * Owns: one hold, from its quiesce to its report. Does not own: the commands' meaning. They get `STILLPOINT_CUT` and
 * `STILLPOINT_LEASE_MS` in their environment.
 *
 * Invariant: the watchdog is never killed by us. It is asked, or it sees that we are gone; in both cases the resume
 * command has been run before it ends.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type CutId, describeFailure, Failure, failureFrom } from '@stillpoint/core/kernel'
import { z } from 'zod'
import type { HoldReport } from '../source.ts'
import { type Command, commandText } from './command-process.ts'
import type { WatchdogOrder } from './watchdog.ts'

// The build turns .ts into .js, beside this file.
const watchdog = fileURLToPath(new URL(`./watchdog${extname(import.meta.url)}`, import.meta.url))

const failureReport = z.object({
  code: z.string(),
  message: z.string(),
  hint: z.string().optional(),
  retry: z.enum(['never', 'later']),
})
const heldMessage = z.object({ held: z.literal(true) })
const failedMessage = z.object({ failure: failureReport, resumeProblem: z.string().optional() })
const endedMessage = z.object({
  unbroken: z.boolean(),
  detail: z.string().optional(),
  resumeProblem: z.string().optional(),
})
const message = z.union([heldMessage, failedMessage, endedMessage])
type Message = z.infer<typeof message>

export interface HookCommands {
  readonly quiesce: Command
  readonly resume: Command
  readonly cwd: string
  readonly env?: Readonly<Record<string, string>>
  readonly timeoutMs: number
}

export class HookHold {
  readonly #commands: HookCommands
  readonly #process: ChildProcess
  readonly #env: Readonly<Record<string, string>>
  #waiting: ((message: Message | undefined) => void) | undefined
  #alive = true
  #report: Promise<HoldReport> | undefined

  private constructor(cut: CutId, leaseMs: number, commands: HookCommands) {
    this.#commands = commands
    this.#env = { ...commands.env, STILLPOINT_CUT: cut, STILLPOINT_LEASE_MS: String(leaseMs) }
    this.#process = fork(watchdog, [], {
      detached: true,
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      execArgv: ['--disable-warning=ExperimentalWarning'],
    })
    this.#process.on('message', (received) => this.#settle(message.parse(received)))
    const end = () => {
      this.#alive = false
      this.#settle(undefined)
    }
    this.#process.once('exit', end)
    this.#process.once('error', end)
  }

  /**
   * Answers once the quiesce command has ended well; the lease runs from then.
   * @throws Failure of the quiesce command (the resume command has been run by then); the signal's reason when aborted
   */
  static async begin(cut: CutId, leaseMs: number, commands: HookCommands, signal: AbortSignal): Promise<HookHold> {
    signal.throwIfAborted()
    const hold = new HookHold(cut, leaseMs, commands)
    const order: WatchdogOrder = {
      order: 'hold',
      quiesce: commands.quiesce,
      resume: commands.resume,
      cwd: commands.cwd,
      env: hold.#env,
      leaseMs,
      timeoutMs: commands.timeoutMs,
    }
    const onAbort = () => hold.#send('cancel')
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      const answer = await hold.#exchange(order)
      if (answer !== undefined && 'failure' in answer) {
        hold.#process.disconnect()
        throw signal.aborted ? signal.reason : quiesceFailure(answer)
      }
      if (answer !== undefined && 'held' in answer && !signal.aborted) return hold
      await hold.resume()
      signal.throwIfAborted()
      throw watchdogEnded()
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** Ends the hold. Never throws: a resume command that failed is a hold that nobody can vouch for. */
  resume(): Promise<HoldReport> {
    this.#report ??= this.#end()
    return this.#report
  }

  async #end(): Promise<HoldReport> {
    const answer = this.#alive ? await this.#exchange('resume') : undefined
    if (this.#process.connected) this.#process.disconnect()
    if (answer === undefined || !('unbroken' in answer)) return this.#resumeOurselves()
    const { unbroken, detail, resumeProblem } = answer
    if (resumeProblem !== undefined) return { unbroken: false, detail: stuck(resumeProblem) }
    return detail === undefined ? { unbroken } : { unbroken, detail }
  }

  /** The watchdog was killed: its work is ours. */
  async #resumeOurselves(): Promise<HoldReport> {
    const { resume: command, cwd, timeoutMs } = this.#commands
    const signal = new AbortController().signal
    try {
      await commandText({ role: 'resume', command, cwd, env: this.#env, timeoutMs, signal })
      return { unbroken: false, detail: 'the process that watched over the lease ended' }
    } catch (error) {
      return { unbroken: false, detail: stuck(describeFailure(error).message) }
    }
  }

  #exchange(order: WatchdogOrder | 'resume'): Promise<Message | undefined> {
    return new Promise((resolve) => {
      this.#waiting = resolve
      this.#send(order)
    })
  }

  #send(order: WatchdogOrder | 'resume' | 'cancel'): void {
    if (!this.#process.connected) {
      this.#settle(undefined)
      return
    }
    this.#process.send(order, (error) => {
      if (error !== null) this.#settle(undefined)
    })
  }

  #settle(received: Message | undefined): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.(received)
  }
}

function stuck(problem: string): string {
  return `what was quiesced may still be held, run the resume command by hand: ${problem}`
}

function quiesceFailure({ failure, resumeProblem }: z.infer<typeof failedMessage>): Failure {
  const { hint, code, message: text, retry } = failure
  const full = resumeProblem === undefined ? text : `${text}; and ${stuck(resumeProblem)}`
  return failureFrom({ code, message: full, retry, ...(hint === undefined ? {} : { hint }) })
}

function watchdogEnded(): Failure {
  return new Failure({
    code: 'hold_unavailable',
    message: 'the process that was to watch over the lease ended',
    hint: 'Something killed it, or the machine is out of memory. Try again.',
    retry: 'later',
  })
}
