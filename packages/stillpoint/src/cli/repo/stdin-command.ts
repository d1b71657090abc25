/**
 * Saving what a command prints: its output is the stream, and if it fails, the stream fails, so that a dump that broke off
 * never becomes a snapshot.
 */
import { spawn } from 'node:child_process'
import { Failure } from '@stillpoint/core/kernel'

export interface CommandStreamOptions {
  /** The program and its arguments; no shell is between. */
  readonly command: readonly string[]
  readonly cwd: string
  readonly signal: AbortSignal
}

/** @throws Failure `stdin_command_failed` when the command cannot be started, is killed or does not end with 0 */
export async function* commandStream({ command, cwd, signal }: CommandStreamOptions): AsyncGenerator<Uint8Array> {
  const [program = '', ...args] = command
  signal.throwIfAborted()
  const child = spawn(program, args, { cwd, stdio: ['inherit', 'pipe', 'inherit'] })
  const ended = new Promise<string | undefined>((resolve) => {
    child.once('error', (error) => resolve(`it cannot be started: ${error.message}`))
    child.once('close', (code, killedBy) => {
      if (code === 0) resolve(undefined)
      else resolve(killedBy === null ? `it ended with ${code}` : `it was ended by ${killedBy}`)
    })
  })
  const stop = () => child.kill()
  signal.addEventListener('abort', stop, { once: true })
  try {
    for await (const piece of child.stdout) yield piece
    const problem = await ended
    signal.throwIfAborted()
    if (problem === undefined) return
    throw new Failure({
      code: 'stdin_command_failed',
      message: `the command that was to be saved failed: ${program}: ${problem}`,
      hint: 'Nothing was saved. Run the command by hand to see why.',
    })
  } finally {
    signal.removeEventListener('abort', stop)
    if (child.exitCode === null && child.signalCode === null) child.kill()
  }
}
