/**
 * Runs a line of shell on a real pseudo terminal, as a person at a keyboard does: `script` of util-linux makes it. For tests.
 *
 * Owns: the terminal, what is typed into it and what it shows. Does not own: what is run there.
 */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { findTool } from '@stillpoint/testbed'
import { compileCache } from './workbench.ts'

export const scriptTool = findTool('script')
const binary = fileURLToPath(new URL('../../bin/stillpoint.js', import.meta.url))

/** How long somebody waits for what should appear at once: only a hang takes as long. */
const patienceMs = 30_000

export interface OnTerminal {
  /** Of the process that holds the terminal. */
  readonly pid: number
  /** All that the terminal has shown. */
  shown(): string
  /** Resolves when what was shown since the last call contains the text. @throws when it does not come */
  shows(text: string): Promise<void>
  /** `\r` is the key Enter, `\x03` Ctrl-C. */
  type(keys: string): void
  /** The exit code of the shell, when it has ended. */
  readonly ended: Promise<number | null>
  /** Takes the terminal away, as when its window is closed. */
  hangUp(): void
}

/** `stillpoint` is a function of the shell. */
export function startOnTerminal(cwd: string, line: string, env: NodeJS.ProcessEnv = process.env): OnTerminal {
  const shell = `stillpoint() { "$STILLPOINT_NODE" "$STILLPOINT_BINARY" "$@"; }; ${line}`
  // `always`: a terminal shows what is typed, also where the one who types is a program.
  const child = spawn(scriptTool ?? 'script', ['--quiet', '--return', '--echo', 'always', '-c', shell, '/dev/null'], {
    cwd,
    env: {
      ...env,
      SHELL: '/bin/sh',
      TERM: 'xterm',
      STILLPOINT_NODE: process.execPath,
      STILLPOINT_BINARY: binary,
      NODE_COMPILE_CACHE: compileCache,
    },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let shown = ''
  let seen = 0
  let hasEnded = false
  const watchers = new Set<() => void>()
  const tell = () => {
    for (const watcher of watchers) watcher()
  }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    shown += text
    tell()
  })
  child.stdin.on('error', () => {}) // typed when nobody was there any more: what is shown tells
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => {
      hasEnded = true
      resolve(code)
      tell()
    })
  })
  return {
    pid: child.pid ?? 0,
    shown: () => shown,
    shows: (text) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => settle(new Error(`no ${JSON.stringify(text)} in: ${shown}`)), patienceMs)
        const settle = (error?: Error) => {
          clearTimeout(timer)
          watchers.delete(look)
          if (error === undefined) resolve()
          else reject(error)
        }
        const look = () => {
          const at = shown.indexOf(text, seen)
          if (at >= 0) {
            seen = at + text.length
            settle()
          } else if (hasEnded) settle(new Error(`ended without ${JSON.stringify(text)}: ${shown}`))
        }
        watchers.add(look)
        look()
      }),
    type(keys) {
      child.stdin.write(keys)
    },
    ended,
    hangUp() {
      child.kill('SIGKILL')
    },
  }
}
