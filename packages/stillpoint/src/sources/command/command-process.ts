/**
 * Running a user's command: its output as a stream, its input from one, its end as a failure that shows its own words.
 *
 * Owns: starting, feeding, bounding and ending one process group. Does not own: what the command means.
 *
 * Invariants:
 * - A command that is aborted or late is ended with all that it started (its process group), and waited for.
 * - An exit code other than 0 is a failure, also when all output has been read: a stream of a failed command throws at
 *   its end, so nobody takes half an output for a whole one.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { Failure, type FailureOptions } from '@stillpoint/core/kernel'

export type Command = string | readonly string[]

export interface CommandRun {
  /** What it is for, in a message: `capture`. */
  readonly role: string
  readonly command: Command
  readonly cwd: string
  /** Beside the environment of this process. */
  readonly env?: Readonly<Record<string, string>>
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

const stderrBytesMax = 4000
const textBytesMax = 1024 * 1024
/** Between the request to end and the order to. */
const graceMs = 2000

type End =
  | { readonly state: 'exited'; readonly code: number | null; readonly killedBy: string | null }
  | { readonly state: 'notStarted'; readonly cause: Error }

interface Running {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>
  /** @throws Failure `command_failed` | `command_timeout` | `tool_missing`; the signal's reason when aborted */
  succeeded(): Promise<void>
  stop(): void
}

function start(run: CommandRun): Running {
  run.signal.throwIfAborted()
  const [program = '', ...parameters] = typeof run.command === 'string' ? ['/bin/sh', '-c', run.command] : run.command
  const env = { ...process.env, ...run.env }
  const child = spawn(program, parameters, { cwd: run.cwd, env, stdio: ['pipe', 'pipe', 'pipe'], detached: true })
  // It may end before it has read all its input (EPIPE): its exit code says whether that was right.
  child.stdin.on('error', () => undefined)
  let stderr = ''
  child.stderr.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString('utf8')).slice(-stderrBytesMax)
  })
  let late = false
  let kill: NodeJS.Timeout | undefined
  const stop = () => {
    if (kill !== undefined) return
    killGroup(child.pid, 'SIGTERM')
    kill = setTimeout(() => {
      killGroup(child.pid, 'SIGKILL')
      // What escaped the group must not keep us waiting with an inherited pipe.
      child.stdout.destroy()
      child.stderr.destroy()
    }, graceMs)
  }
  const timer = setTimeout(() => {
    late = true
    stop()
  }, run.timeoutMs)
  run.signal.addEventListener('abort', stop, { once: true })
  const ended = new Promise<End>((done) => {
    child.once('error', (cause) => {
      if (child.pid === undefined) done({ state: 'notStarted', cause })
    })
    child.once('close', (code, killedBy) => done({ state: 'exited', code, killedBy }))
  }).finally(() => {
    clearTimeout(timer)
    clearTimeout(kill)
    run.signal.removeEventListener('abort', stop)
    killGroup(child.pid, 'SIGKILL')
  })
  return {
    child,
    stop,
    async succeeded() {
      const end = await ended
      run.signal.throwIfAborted()
      if (late || end.state === 'notStarted' || end.code !== 0) throw failed(run, end, { late, stderr })
    },
  }
}

function killGroup(pid: number | undefined, signal: 'SIGTERM' | 'SIGKILL'): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch {
    // ESRCH: the whole group has ended, which is what was wanted.
  }
}

function failed(run: CommandRun, end: End, what: { readonly late: boolean; readonly stderr: string }): Failure {
  // Arguments may hold what nobody should log: of a list, only the program is shown.
  const shown = typeof run.command === 'string' ? run.command : (run.command[0] ?? '')
  const name = `the ${run.role} command (${shown.length > 200 ? `${shown.slice(0, 200)}…` : shown})`
  const stderr = what.stderr.trim()
  const said = stderr === '' ? '' : `: ${stderr}`
  if (what.late) {
    return new Failure({
      code: 'command_timeout',
      message: `${name} did not end within ${run.timeoutMs} ms${said}`,
      hint: 'Find out what it waits for, or give it more time with timeoutMs.',
      retry: 'later',
    })
  }
  if (end.state === 'notStarted') {
    return new Failure({
      code: 'tool_missing',
      message: `${name} cannot be started: ${end.cause.message}`,
      hint: 'Check that the program is installed, and on the PATH of the user who runs stillpoint.',
      cause: end.cause,
    })
  }
  const how = end.killedBy === null ? `ended with exit code ${end.code}` : `was ended by ${end.killedBy}`
  return new CommandExit(end.code, {
    code: 'command_failed',
    message: `${name} ${how}${said}`,
    hint: `Run it by hand in ${run.cwd}, as the same user, to see what it says.`,
  })
}

/** It ran, and said no. `exitCode` is null where a signal ended it. */
class CommandExit extends Failure {
  readonly exitCode: number | null

  constructor(exitCode: number | null, options: FailureOptions) {
    super(options)
    this.exitCode = exitCode
  }
}

/** Runs it to its end; answers what it printed, which must be short. */
export async function commandText(run: CommandRun): Promise<string> {
  const running = start(run)
  running.child.stdin.end()
  const chunks: Buffer[] = []
  let bytes = 0
  running.child.stdout.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes <= textBytesMax) chunks.push(chunk)
  })
  await running.succeeded()
  if (bytes > textBytesMax) {
    throw new Failure({
      code: 'command_failed',
      message: `the ${run.role} command prints ${bytes} bytes; ${textBytesMax} are allowed`,
      hint: 'Let it print only what is asked of it.',
    })
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** The answer of a command that is a question: exit code 0 is yes, 1 is no, anything else a failure. */
export async function commandSays(run: CommandRun, content?: AsyncIterable<Uint8Array>): Promise<boolean> {
  try {
    if (content === undefined) await commandText(run)
    else await feedCommand(run, content)
    return true
  } catch (error) {
    if (error instanceof CommandExit && error.exitCode === 1) return false
    throw error
  }
}

/** What it prints, as it prints it. Throws at the end when the command failed; ends the command when left early. */
export async function* commandOutput(run: CommandRun): AsyncIterable<Uint8Array> {
  const running = start(run)
  running.child.stdin.end()
  try {
    for await (const chunk of running.child.stdout) {
      if (chunk instanceof Uint8Array) yield chunk
    }
    await running.succeeded()
  } finally {
    running.stop()
  }
}

/** Runs it with the content on its stdin. Answers how many bytes it was given. */
export async function feedCommand(run: CommandRun, content: AsyncIterable<Uint8Array>): Promise<number> {
  const running = start(run)
  const { stdin, stdout } = running.child
  stdout.resume()
  let bytes = 0
  try {
    for await (const chunk of content) {
      run.signal.throwIfAborted()
      if (stdin.destroyed || stdin.errored !== null) break
      bytes += chunk.length
      if (!stdin.write(chunk)) await drained(stdin)
    }
    stdin.end()
  } catch (error) {
    // The input could not be read to its end: the command must not take what it has for all there is.
    running.stop()
    await running.succeeded().catch(() => undefined) // The first error is the one to tell.
    throw error
  }
  await running.succeeded()
  return bytes
}

function drained(stream: Writable): Promise<void> {
  return new Promise((done) => {
    const end = () => {
      stream.off('drain', end)
      stream.off('close', end)
      stream.off('error', end)
      done()
    }
    stream.on('drain', end)
    stream.on('close', end)
    stream.on('error', end)
  })
}
