/**
 * The load as a process of its own, as the shop would be: it shares nothing with whoever takes the snapshots.
 *
 * Owns: the process and what it prints. Does not own: the load itself (load.ts).
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { LoadEvent } from './load.ts'

export interface LoadProcess {
  readonly child: ChildProcess
  /** Once the shop is full and moving. */
  ready(): Promise<LoadEvent>
  /** Lets every worker finish its order, and answers what was done. @throws Error with its last words when it failed */
  stop(): Promise<LoadEvent>
  /** Resolves when the process has ended, to what it did; rejects when it failed. */
  readonly ended: Promise<LoadEvent>
}

function eventIn(line: string): LoadEvent | undefined {
  // One line of a program of ours, of the same version: its shape is the type's.
  const event: LoadEvent = JSON.parse(line)
  return event
}

/** Starts `load.ts --config …` with further arguments as given. */
export function startLoad(shopFile: string, ...args: readonly string[]): LoadProcess {
  const program = fileURLToPath(new URL('./load.ts', import.meta.url))
  const child = spawn(process.execPath, [program, '--config', shopFile, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  let lastWords = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    lastWords = (lastWords + text).slice(-4000)
  })
  let becomeReady: (event: LoadEvent) => void = () => {}
  const ready = new Promise<LoadEvent>((resolve) => {
    becomeReady = resolve
  })
  let last: LoadEvent | undefined
  createInterface({ input: child.stdout }).on('line', (line) => {
    last = eventIn(line)
    if (last?.event === 'ready') becomeReady(last)
  })
  const ended = new Promise<LoadEvent>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => {
      if (code === 0 && last?.event === 'ended') resolve(last)
      else reject(new Error(`the load ended with ${signal ?? `code ${code}`}: ${lastWords.trim() || 'no words'}`))
    })
  })
  // Whoever waits for `ready` or `ended` sees the failure; a load that fails while nobody waits must not end us.
  ended.catch(() => {})
  return {
    child,
    ended,
    ready: () => Promise.race([ready, ended]),
    stop() {
      child.kill('SIGTERM')
      return ended
    },
  }
}
