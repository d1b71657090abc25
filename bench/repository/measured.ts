/** Owns running one command and saying what it cost. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface Cost {
  /** By the clock on the wall. */
  readonly seconds: number
  /** User and system time of all its threads. */
  readonly cpuSeconds: number
  /** Peak of resident memory. */
  readonly memoryBytes: number
}

export interface Command {
  readonly program: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
}

export interface CommandOptions {
  /** A directory for notes, not of the data. */
  readonly scratch: string
  readonly signal: AbortSignal
}

/** From Debian's package of that name: what `wait4` says about the one child, threads included. */
const timer = '/usr/bin/time'

/** @throws Error with the end of the command's stderr where it does not end with 0 */
export async function measured(command: Command, { scratch, signal }: CommandOptions): Promise<Cost> {
  const notes = join(scratch, 'time')
  const child = spawn(timer, ['-q', '-f', '%e %U %S %M', '-o', notes, command.program, ...command.args], {
    cwd: command.cwd,
    env: { PATH: process.env['PATH'] ?? '', LANG: 'C.UTF-8', HOME: scratch, ...command.env },
    stdio: ['ignore', 'ignore', 'pipe'],
    signal,
    // In a group of its own, so that an end of the timer is an end of what it times.
    detached: true,
  })
  const killGroup = () => {
    if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, 'SIGTERM')
  }
  signal.addEventListener('abort', killGroup, { once: true })
  let complaints = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints = (complaints + text).slice(-2000)
  })
  try {
    const [code] = await once(child, 'close')
    if (code !== 0) throw new Error(`${command.program} ${command.args.join(' ')} ended with ${code}:\n${complaints}`)
  } finally {
    signal.removeEventListener('abort', killGroup)
  }
  const [seconds = 0, user = 0, system = 0, kibibytes = 0] = (await readFile(notes, 'utf8'))
    .trim()
    .split(' ')
    .map(Number)
  return { seconds, cpuSeconds: user + system, memoryBytes: kibibytes * 1024 }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const [low, high] = [sorted[sorted.length % 2 === 0 ? middle - 1 : middle], sorted[middle]]
  return ((low ?? Number.NaN) + (high ?? Number.NaN)) / 2
}
