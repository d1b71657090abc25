/**
 * Cleaning up after this process however it ends, SIGKILL included. A guardian is a small shell that reads from a pipe
 * whose other end only this process holds: when the pipe closes, it runs its script. No signal handler is installed, so
 * what a signal does to the process under test is not changed.
 *
 * Owns: processes and directories that must not outlive their maker. Does not own: their ordinary end, which is their
 * maker's; after it, the guardian is dismissed.
 *
 * Invariant: a guardian is in place before what it guards can do harm, and is dismissed only after it is gone.
 */
import { spawn } from 'node:child_process'
import { Socket } from 'node:net'

export interface Guardian {
  /** Ends the watch without running the script. Idempotent. */
  dismiss(): void
}

/** Runs `script` (POSIX sh, arguments as `$1` …) when this process ends, unless dismissed before. */
export function guard(script: string, ...args: readonly string[]): Guardian {
  const wait = 'while read -r _; do :; done\n'
  const child = spawn('/bin/sh', ['-c', wait + script, 'guardian', ...args], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true, // out of the terminal's process group: Ctrl-C must not end it before its work is done
    cwd: '/',
  })
  child.unref()
  if (child.stdin instanceof Socket) child.stdin.unref()
  // A guardian that could not be started or was killed leaves the ordinary cleaning up as it was.
  child.on('error', (error) => process.emitWarning(`no guardian for ${args.join(' ')}: ${error.message}`))
  return {
    dismiss() {
      child.kill('SIGKILL')
    },
  }
}

/** Ends a process and its group: asked first (`signal`), then killed. */
export function guardProcess(pid: number, signal: 'TERM' | 'QUIT' | 'KILL'): Guardian {
  const script = 'kill -CONT "-$1" "$1"; kill "-$2" "$1"; sleep 1; kill -KILL "-$1" "$1"'
  return guard(script, String(pid), signal)
}

/** Removes a directory, again and again while a process that is just ending still writes into it. */
export function guardDirectory(path: string): Guardian {
  const script =
    'n=0; while [ -e "$1" ] && [ $n -lt 20 ]; do rm -rf -- "$1"; n=$((n+1)); [ -e "$1" ] && sleep 0.5; done'
  return guard(script, path)
}
