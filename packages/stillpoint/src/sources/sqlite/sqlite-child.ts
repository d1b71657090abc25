/**
 * A child process that holds SQLite connections for us.
 *
 * Owns: starting, asking and ending it. Does not own: what it does (child-main.ts).
 * Why a process: (1) a lock held there ends at its own timer and with our death, even when this process hangs or is
 * stopped; (2) `node:sqlite` blocks its thread; (3) POSIX drops all of a process's locks on a file when it closes any
 * descriptor of it, so locks and plain reads of one file must not share a process; (4) killing it is the one way to
 * cancel any SQLite call, and leaves no lock behind.
 *
 * It is a session of its own (`detached`): Ctrl-Z at the terminal stops us, and must not stop the timer of the lease.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { assert, Failure, failureFrom } from '@stillpoint/core/kernel'
import { type Answer, type Ask, answers, childReply, type Operation } from './messages.ts'

// The build turns .ts into .js, beside this file.
const childMain = fileURLToPath(new URL(`./child-main${extname(import.meta.url)}`, import.meta.url))
const stderrShownMax = 1000

export class SqliteChild {
  readonly #process: ChildProcess
  readonly #ended: Promise<void>
  #stderr = ''
  #alive = true
  #answer: ((reply: unknown) => void) | undefined

  constructor() {
    this.#process = fork(childMain, [], {
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      execArgv: ['--disable-warning=ExperimentalWarning'],
      // Nothing of our environment concerns it, and secrets may be there.
      env: { TMPDIR: process.env['TMPDIR'] },
    })
    this.#process.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString('utf8')).slice(-stderrShownMax)
    })
    this.#process.on('message', (reply) => this.#settle(reply))
    this.#ended = new Promise((done) => {
      const end = () => {
        this.#alive = false
        this.#settle(undefined)
        done()
      }
      this.#process.once('exit', end)
      // `error` without `exit`: it could not be started, or a message could not be sent.
      this.#process.once('error', (error) => {
        this.#stderr += error.message
        if (this.#process.pid === undefined) end()
        else this.#process.kill('SIGKILL')
      })
    })
  }

  get alive(): boolean {
    return this.#alive
  }

  /**
   * One call at a time. A call that is aborted ends the child, and answers only once its locks are gone.
   * @throws Failure as the child says, or `store_process_ended`; the signal's reason when aborted
   */
  async ask<A extends Ask>(ask: A, signal?: AbortSignal): Promise<Answer<A['op']>> {
    signal?.throwIfAborted()
    assert(this.#answer === undefined, 'one call of a child at a time')
    if (!this.#alive) throw this.#endedFailure()
    const onAbort = () => this.#process.kill('SIGKILL')
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      const reply = await new Promise<unknown>((resolve) => {
        this.#answer = resolve
        this.#process.send(ask, (error) => {
          if (error !== null) this.#settle(undefined)
        })
      })
      if (signal?.aborted === true) {
        await this.end()
        throw signal.reason
      }
      if (reply === undefined) throw this.#endedFailure()
      return readReply<A['op']>(ask.op, reply)
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  /** Ends it and all its locks. Idempotent; answers once the system has let them go. */
  async end(): Promise<void> {
    if (this.#alive) this.#process.kill('SIGKILL')
    await this.#ended
  }

  #settle(reply: unknown): void {
    const answer = this.#answer
    this.#answer = undefined
    answer?.(reply)
  }

  #endedFailure(): Failure {
    return new Failure({
      code: 'store_process_ended',
      message: `the process that has the SQLite database open ended${this.#stderr === '' ? '' : `: ${this.#stderr.trim()}`}`,
      hint: 'Something killed it, or the machine is out of memory. Nothing of it is left; try again.',
      retry: 'later',
    })
  }
}

function readReply<O extends Operation>(op: O, reply: unknown): Answer<O> {
  const read = childReply.parse(reply)
  if ('failure' in read) {
    const { hint, ...rest } = read.failure
    throw failureFrom(hint === undefined ? rest : { ...rest, hint })
  }
  return answers[op].parse(read.answer) as Answer<O>
}

/** Does the work with a child of its own, which ends with it. */
export async function inChild<T>(work: (child: SqliteChild) => Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  const child = new SqliteChild()
  try {
    return await work(child)
  } finally {
    await child.end()
  }
}
