/**
 * One server process: started, waited for, ended, killed, frozen and started again on the same port and data.
 *
 * Owns: the process and its guardian. Does not own: its directory and what is in it.
 *
 * Invariants: at most one process at a time; every process that was started has a guardian until it has exited.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { Failure } from '@stillpoint/core/kernel'
import { type Guardian, guard, guardProcess } from './guardian.ts'

export interface DaemonOptions {
  readonly name: string
  readonly program: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** User to run as, where that is not this process's. */
  readonly user?: { readonly uid: number; readonly gid: number }
  readonly logFile: string
  /** Answers true as soon as the server serves. Called again and again; `log` is what this life of it has written. */
  readonly isReady: (log: string) => Promise<boolean>
  /** Asks for an orderly end. */
  readonly stopSignal: NodeJS.Signals
  readonly lastSignal: 'TERM' | 'QUIT' | 'KILL'
}

/** What a test does to a server that runs. Its data stays. */
export interface DaemonControl {
  /** Default SIGKILL, which its children get as well, as when a machine loses power. Waits for its end. */
  kill(signal?: NodeJS.Signals): Promise<void>
  /** Freezes it with its children, as a machine that hangs. */
  pause(): Promise<void>
  unpause(): Promise<void>
  /** Starts it again after `kill`, or stops and starts it; same ports, same data. */
  restart(): Promise<void>
}

export interface Daemon extends DaemonControl {
  /** @throws Failure `server_did_not_start` with the end of its log */
  start(): Promise<void>
  /** Orderly; killed after 10 s. Idempotent. */
  stop(): Promise<void>
  pid(): number | undefined
}

const startTimeoutMs = 30_000
const stopTimeoutMs = 10_000

interface Life {
  readonly child: ChildProcess
  readonly pid: number
  readonly exited: Promise<void>
  readonly guardian: Guardian
  hasExited: boolean
}

export function daemon(options: DaemonOptions): Daemon {
  let life: Life | undefined
  let frozen: { readonly pids: readonly number[]; readonly guardian: Guardian } | undefined

  const unpause = async () => {
    if (frozen === undefined) return
    for (const pid of frozen.pids) signalIfThere(pid, 'SIGCONT')
    frozen.guardian.dismiss()
    frozen = undefined
  }
  const end = async (signal: NodeJS.Signals, children: readonly number[]) => {
    if (life === undefined) return
    const { pid, exited } = life
    if (!life.hasExited) signalIfThere(pid, signal)
    for (const child of children) signalIfThere(child, signal)
    await unpause()
    if (!(await within(exited, stopTimeoutMs))) {
      for (const child of [pid, ...(await descendants(pid))]) signalIfThere(child, 'SIGKILL')
      await exited
    }
    life = undefined
  }
  const start = async () => {
    if (life !== undefined && !life.hasExited) return
    life = launch(options)
    try {
      await waitUntilReady(life, options)
    } catch (error) {
      await end('SIGKILL', [])
      throw error
    }
  }
  const stop = () => end(options.stopSignal, [])
  return {
    start,
    stop,
    async restart() {
      await stop()
      await start()
    },
    async kill(signal = 'SIGKILL') {
      if (life === undefined) return
      await end(signal, signal === 'SIGKILL' ? await descendants(life.pid) : [])
    },
    async pause() {
      if (life === undefined || frozen !== undefined) return
      signalIfThere(life.pid, 'SIGSTOP') // first: a stopped parent starts no more children
      const pids = [life.pid, ...(await descendants(life.pid))]
      frozen = { pids, guardian: guard('kill -CONT "$@"', ...pids.map(String)) }
      for (const pid of pids) signalIfThere(pid, 'SIGSTOP')
    },
    unpause,
    pid: () => life?.pid,
  }
}

function launch(options: DaemonOptions): Life {
  const log = openSync(options.logFile, 'w', 0o644)
  try {
    const child = spawn(options.program, options.args, {
      stdio: ['ignore', log, log],
      detached: true, // its own process group: a Ctrl-C is for us, and we end it in order
      cwd: '/',
      env: { PATH: process.env['PATH'] ?? '', LC_ALL: 'C', ...options.env },
      ...options.user,
    })
    child.unref()
    const pid = child.pid
    let life: Life | undefined
    const exited = new Promise<void>((resolve) => {
      const ended = () => {
        if (life !== undefined) {
          life.hasExited = true
          life.guardian.dismiss()
        }
        resolve()
      }
      child.once('exit', ended)
      child.once('error', ended)
    })
    if (pid === undefined) throw new Failure({ code: 'tool_missing', message: `cannot run ${options.program}` })
    life = { child, pid, exited, guardian: guardProcess(pid, options.lastSignal), hasExited: false }
    return life
  } finally {
    closeSync(log)
  }
}

async function waitUntilReady(life: Life, options: DaemonOptions): Promise<void> {
  const deadline = performance.now() + startTimeoutMs
  for (;;) {
    // Asked before the log is read: what it said last is in there then.
    const { hasExited } = life
    const log = await readFile(options.logFile, 'utf8')
    if (hasExited || performance.now() > deadline) {
      const what = hasExited ? 'ended while starting' : `did not answer within ${startTimeoutMs} ms`
      throw new Failure({
        code: 'server_did_not_start',
        message: `${options.name} ${what}:\n${log.slice(-2000)}`,
        retry: 'later',
      })
    }
    if (await options.isReady(log)) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

function signalIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    // It has just ended: what the signal was for.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

/** All living processes below `pid`, by /proc; empty where there is none (macOS): then only the parent is signalled. */
async function descendants(pid: number): Promise<readonly number[]> {
  let names: string[]
  try {
    names = await readdir('/proc')
  } catch {
    return []
  }
  const parents = new Map<number, number>()
  await Promise.all(
    names
      .filter((name) => /^\d+$/.test(name))
      .map(async (name) => {
        try {
          const stat = await readFile(`/proc/${name}/stat`, 'utf8')
          // `pid (command) state parent …`, where the command may hold spaces and brackets.
          const parent = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]
          parents.set(Number(name), Number(parent))
        } catch {
          // ended since the listing
        }
      }),
  )
  const found: number[] = []
  const queue = [pid]
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    for (const [child, parent] of parents) {
      if (parent !== next) continue
      found.push(child)
      queue.push(child)
    }
  }
  return found
}

async function within(promise: Promise<void>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), ms)
  })
  try {
    return await Promise.race([promise.then(() => true), late])
  } finally {
    clearTimeout(timer)
  }
}
