/**
 * One run of one command: what it is given, and how it ends.
 *
 * Owns: the world that commands see (`CommandHost`), and the one place where failures become messages and exit codes.
 * Does not own: the process: its arguments, signals and exit are main.ts's.
 */
import { type Clock, describeFailure, type Entropy, isFailure, type Random } from '@stillpoint/core/kernel'
import { type ExitCode, exitCodeOf } from './exit-codes.ts'
import type { CommonOptions } from './help.ts'
import { createOutput, type Output, type Terminal } from './output.ts'

export interface CommandHost {
  readonly terminal: Terminal
  readonly clock: Clock
  readonly random: Random
  readonly entropy: Entropy
  /** Aborted by Ctrl-C and SIGTERM, with a Failure `interrupted` or `terminated`. */
  readonly signal: AbortSignal
  /** Absolute path of the working directory. */
  readonly cwd: string
}

export interface CommandSession {
  readonly host: CommandHost
  readonly output: Output
}

/** Runs the body of a command; its answer is the exit code. Never rejects. */
export type RunCommand = (options: CommonOptions, body: (session: CommandSession) => Promise<ExitCode>) => Promise<void>

export function createRunner(host: CommandHost, ended: (code: ExitCode) => void): RunCommand {
  return async (options, body) => {
    const output = createOutput(host.terminal, { json: options.json === true })
    try {
      ended(await body({ host, output }))
    } catch (error) {
      // After Ctrl-C whatever fails, fails because of it; what else went wrong meanwhile is said too.
      const cause: unknown = host.signal.aborted ? host.signal.reason : error
      const code = exitCodeOf(cause)
      output.failure(cause, code)
      if (cause !== error && !isCancellation(error)) output.warning(`while stopping: ${describeFailure(error).message}`)
      ended(code)
    }
  }
}

function isCancellation(error: unknown): boolean {
  if (isFailure(error)) return ['interrupted', 'terminated', 'cancelled', 'aborted'].includes(error.code)
  return error instanceof Error && error.name === 'AbortError'
}
