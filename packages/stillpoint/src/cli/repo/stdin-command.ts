/**
 * Saving what a command prints: its output is the stream, and if it fails, the stream fails, so that a dump that broke off
 * never becomes a snapshot.
 *
 * Invariants: 1. the command does not outlive us: it is asked to end by SIGTERM, and after some seconds ended by SIGKILL.
 * 2. It is started when its output is asked for, in the same turn: what a command that has ended has printed and nobody
 * has begun to read, Node drops.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { type Clock, Failure } from '@stillpoint/core/kernel'

const patienceMs = 5_000

export interface CommandStreamOptions {
  /** The program and its arguments; no shell is between. */
  readonly command: readonly string[]
  readonly cwd: string
  readonly signal: AbortSignal
  readonly clock: Clock
}

export interface CommandStream {
  /** @throws Failure `stdin_command_failed` when the command cannot be started, is killed or does not end with 0 */
  readonly stream: AsyncIterable<Uint8Array>
  /** Ends the command, if it still runs. Idempotent. */
  stop(): Promise<void>
}

/** The command is started when the stream is read. */
export function commandStream({ command, cwd, signal, clock }: CommandStreamOptions): CommandStream {
  const [program = '', ...args] = command
  let running: Running | undefined
  async function* output(): AsyncGenerator<Uint8Array> {
    signal.throwIfAborted()
    running = start(program, args, cwd)
    for await (const piece of running.child.stdout) yield piece
    const problem = await running.ended
    signal.throwIfAborted()
    if (problem === undefined) return
    throw new Failure({
      code: 'stdin_command_failed',
      message: `the command that was to be saved failed: ${program}: ${problem}`,
      hint: 'Nothing was saved. Run the command by hand to see why.',
    })
  }
  return {
    stream: output(),
    async stop() {
      if (running === undefined) return
      const { child, ended } = running
      if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
      child.kill()
      const cancel = clock.after(patienceMs, () => child.kill('SIGKILL'))
      await ended
      cancel()
      child.stdout.destroy()
    },
  }
}

interface Running {
  readonly child: ChildProcessByStdio<null, Readable, null>
  /** What was wrong with its end. */
  readonly ended: Promise<string | undefined>
}

function start(program: string, args: readonly string[], cwd: string): Running {
  const child = spawn(program, args, { cwd, stdio: ['inherit', 'pipe', 'inherit'] })
  // Where this process exits at once, too.
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  const ended = new Promise<string | undefined>((resolve) => {
    const end = (problem: string | undefined) => {
      process.removeListener('exit', kill)
      resolve(problem)
    }
    child.once('error', (error) => end(`it cannot be started: ${error.message}`))
    child.once('exit', (code, killedBy) => {
      if (code === 0) end(undefined)
      else end(killedBy === null ? `it ended with ${code}` : `it was ended by ${killedBy}`)
    })
  })
  return { child, ended }
}
