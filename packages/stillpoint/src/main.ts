/**
 * The process: its arguments, streams, signals and exit code. Nothing else touches them.
 *
 * Ctrl-C and SIGTERM: the first one aborts, and the command ends when every hold is released; the second one ends at
 * once, and the holds end by their leases.
 */
import type { WriteStream } from 'node:tty'
import { Failure } from '@stillpoint/core/kernel'
import { type Command, CommanderError } from 'commander'
import { type ExitCode, exitCodes } from './cli/exit-codes.ts'
import type { ProgramStreams } from './cli/manners.ts'
import { createOutput, type Terminal, type TextStream } from './cli/output.ts'
import { readStdinSecret } from './cli/read-secret.ts'
import { buildRepoProgram } from './cli/repo/repo-program.ts'
import { createRunner, type RunCommand } from './cli/session.ts'
import { programVersion } from './program-version.ts'
import { systemClock, systemEntropy, systemRandom } from './system-env.ts'

/** How long something that a finished command has left open may keep the process alive. */
const lingerMsMax = 3_000
/** Narrower than this nothing can be laid out. */
const columnsMin = 20

/** Runs one command line and answers its exit code. Installs signal handlers: once per process. */
export async function main(args: readonly string[]): Promise<number> {
  const interrupts = new AbortController()
  const failedWrites: Error[] = []
  const terminal = openTerminal(failedWrites)
  // With --json stderr is for programs too: they learn it from the failure that follows.
  const isJson = args.includes('--json')
  const say = isJson ? () => {} : terminal.stderr.write
  const releasing = args[0] === 'repo' ? 'giving back every lock' : 'releasing every hold'
  handleSignals(interrupts, { releasing, say })
  let code: ExitCode = exitCodes.succeeded
  const host = {
    terminal,
    clock: systemClock,
    random: systemRandom,
    entropy: systemEntropy,
    signal: interrupts.signal,
    cwd: process.cwd(),
  }
  const run = createRunner(host, (ended) => {
    code = ended
  })
  const program = await loadProgram(args, run, {
    out: terminal.stdout.write,
    err: say,
    outWidth: terminal.stdout.columns() ?? 100,
    errWidth: terminal.stderr.columns() ?? 100,
  })
  try {
    await program.parseAsync(args, { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    // What was wrong with the arguments has been said, except with --json. Help that was asked for is no error.
    if (isJson && error.exitCode !== 0)
      createOutput(terminal, { json: true }).failure(usageFailure(error), exitCodes.usage)
    code = error.exitCode === 0 ? exitCodes.succeeded : exitCodes.usage
  }
  // A failed write is told by an event: after the turn in which it was written.
  await new Promise((resolve) => setImmediate(resolve))
  const [lost] = failedWrites
  if (lost !== undefined && code === exitCodes.succeeded) {
    code = exitCodes.failed
    createOutput(terminal, { json: isJson }).failure(outputFailed(lost), code)
  }
  setTimeout(() => process.exit(code), lingerMsMax).unref()
  return code
}

/** What the command line needs, and no more. */
async function loadProgram(args: readonly string[], run: RunCommand, streams: ProgramStreams): Promise<Command> {
  const [word, next] = args
  if (word === 'repo') {
    return buildRepoProgram(run, streams, next)
  }
  const { buildProgram } = await import('./cli/program.ts')
  return buildProgram(run, streams, { version: programVersion(), word })
}

function usageFailure(error: CommanderError): Failure {
  const message = error.message.replace(/^error: /, '')
  return new Failure({ code: 'usage', message, hint: 'See: stillpoint --help' })
}

function outputFailed(cause: Error): Failure {
  const message = `The result could not be written to stdout: ${cause.message}`
  return new Failure({ code: 'output_failed', message, hint: 'What the command did is done.', cause })
}

interface SignalWords {
  readonly releasing: string
  readonly say: (text: string) => void
}

function handleSignals(interrupts: AbortController, { releasing, say }: SignalWords): void {
  const codes = { SIGINT: exitCodes.interrupted, SIGHUP: exitCodes.terminated, SIGTERM: exitCodes.terminated } as const
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      if (interrupts.signal.aborted) process.exit(codes[name])
      say(`\nStopping: ${releasing}. Once more to exit at once.\n`)
      const isInterrupt = name === 'SIGINT'
      interrupts.abort(
        new Failure({
          code: isInterrupt ? 'interrupted' : 'terminated',
          message: isInterrupt ? 'Interrupted' : `Ended by ${name}`,
          retry: 'later',
        }),
      )
    })
  }
}

function openTerminal(failedWrites: Error[]): Terminal {
  const stdout = textStream(process.stdout, failedWrites)
  const stderr = textStream(process.stderr, [])
  const { NO_COLOR, TERM } = process.env
  return {
    stdout,
    stderr,
    color: (NO_COLOR === undefined || NO_COLOR === '') && TERM !== 'dumb',
    async ask(question, signal) {
      if (!process.stdin.isTTY || !process.stderr.isTTY) return null
      const { createInterface } = await import('node:readline/promises')
      signal.throwIfAborted()
      const reader = createInterface({ input: process.stdin, output: process.stderr })
      // On a terminal in raw mode Ctrl-C is a key, not a signal.
      reader.on('SIGINT', () => process.kill(process.pid, 'SIGINT'))
      try {
        return await reader.question(question, { signal })
      } finally {
        reader.close()
      }
    },
    readSecret: (question, signal) => readStdinSecret(process.stdin, { question, signal, say: stderr.write }),
  }
}

function textStream(stream: WriteStream, failedWrites: Error[]): TextStream {
  let closed = false
  stream.on('error', (error) => {
    closed = true
    // EPIPE: the reader has seen enough (`| head`). Anything else is a result that was lost: a full disk.
    if (!('code' in error) || error.code !== 'EPIPE') failedWrites.push(error)
  })
  return {
    write(text) {
      if (!closed) stream.write(text)
    },
    isTTY: stream.isTTY === true,
    // A terminal that does not know its size says 0.
    columns: () => (stream.isTTY ? Math.max(stream.columns || 80, columnsMin) : undefined),
    get closed() {
      return closed
    },
  }
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2))
