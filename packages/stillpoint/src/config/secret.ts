/**
 * Reading a secret that the configuration names: from a file, or from the output of a command.
 *
 * Owns: the checks on what the two options yield that every source and repository with a password takes.
 * Does not own: their schema, see secret-options.ts; what the secret is for. A secret is never an option's own value, an argument, or part of a message.
 *
 * Invariants:
 * - No message, note or cause that leaves this file contains the secret: not even a command's output on failure, only
 *   what the command wrote to stderr.
 * - A file that other users can write is refused: whoever writes it decides with which password we log in.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { resolve } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'

export const secretBytesMax = 64 * 1024
export const secretCommandTimeoutMs = 30_000
const stderrShownMax = 2_000

export interface SecretOptions {
  readonly passwordFile?: string | undefined
  readonly passwordCommand?: string | readonly string[] | undefined
}

/**
 * The secret, or undefined where neither option is given.
 *
 * @param note is told what a user should know: a file that other users can read. Never the secret.
 * @throws Failure `options_invalid` (both given) | `secret_file_unreadable` | `secret_file_too_open` | `secret_empty`
 *   | `secret_too_large` | `secret_not_text` | `secret_command_failed`; the signal's reason when aborted
 */
export async function readSecret(
  options: SecretOptions,
  baseDir: string,
  signal: AbortSignal,
  note?: (text: string) => void,
): Promise<string | undefined> {
  const { passwordFile, passwordCommand } = options
  signal.throwIfAborted()
  if (passwordFile !== undefined && passwordCommand !== undefined) {
    throw new Failure({
      code: 'options_invalid',
      message: 'passwordFile and passwordCommand are both given',
      hint: 'Give only one of them.',
    })
  }
  if (passwordFile !== undefined) return readSecretFile(resolve(baseDir, passwordFile), note)
  if (passwordCommand !== undefined) return runSecretCommand(passwordCommand, baseDir, signal)
  return undefined
}

async function readSecretFile(path: string, note: ((text: string) => void) | undefined): Promise<string> {
  let file: FileHandle
  try {
    // O_NONBLOCK: a FIFO without a writer would block the open for ever.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (cause) {
    throw unreadable(path, cause)
  }
  try {
    // The open file is checked, not the path: the path could name another file by then.
    const stat = await file.stat()
    if (!stat.isFile()) throw unreadable(path, new Error('it is not a regular file'))
    checkMode(path, stat.mode, note)
    const buffer = Buffer.alloc(secretBytesMax + 1)
    let length = 0
    while (length < buffer.length) {
      const { bytesRead } = await file.read(buffer, length, buffer.length - length).catch((cause: unknown) => {
        throw unreadable(path, cause)
      })
      if (bytesRead === 0) break
      length += bytesRead
    }
    return secretFrom(buffer.subarray(0, length), `the password file ${path}`)
  } finally {
    await file.close()
  }
}

function checkMode(path: string, mode: number, note: ((text: string) => void) | undefined): void {
  if ((mode & 0o002) !== 0) {
    throw new Failure({
      code: 'secret_file_too_open',
      message: `every user of this machine can write the password file ${path}`,
      hint: `Run: chmod 600 ${JSON.stringify(path)}`,
    })
  }
  if ((mode & 0o004) !== 0) note?.(`every user of this machine can read the password file ${path}; chmod 600 closes it`)
}

function unreadable(path: string, cause: unknown): Failure {
  const why = cause instanceof Error ? cause.message : String(cause)
  return new Failure({
    code: 'secret_file_unreadable',
    message: `the password file ${path} cannot be read: ${why}`,
    hint: 'Check that it exists, is a regular file, and that the user who runs stillpoint may read it.',
    cause,
  })
}

function secretFrom(bytes: Uint8Array, origin: string): string {
  if (bytes.length > secretBytesMax) {
    throw new Failure({
      code: 'secret_too_large',
      message: `${origin} yields more than ${secretBytesMax} bytes`,
      hint: 'A password is expected, and nothing else.',
    })
  }
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    // The decoder's own error may quote its input: it is no cause to show.
    throw new Failure({ code: 'secret_not_text', message: `${origin} does not yield UTF-8 text` })
  }
  const secret = text.replace(/\r?\n$/, '')
  if (secret === '') {
    throw new Failure({
      code: 'secret_empty',
      message: `${origin} yields an empty password`,
      hint: 'Put the password there, or leave the option out where no password is needed.',
    })
  }
  if (secret.includes('\0')) throw new Failure({ code: 'secret_not_text', message: `${origin} yields a NUL character` })
  return secret
}

type CommandEnd =
  | { readonly state: 'exited'; readonly code: number | null; readonly killedBy: NodeJS.Signals | null }
  | { readonly state: 'notStarted'; readonly cause: Error }
  | { readonly state: 'timedOut' }
  | { readonly state: 'tooMuch' }
  | { readonly state: 'aborted' }

async function runSecretCommand(
  command: string | readonly string[],
  baseDir: string,
  signal: AbortSignal,
): Promise<string> {
  const [program = '', ...parameters] = typeof command === 'string' ? ['/bin/sh', '-c', command] : command
  const origin = `the password command ${JSON.stringify(typeof command === 'string' ? command : program)}`
  // A process group of its own, so that what the shell started ends with it.
  const child = spawn(program, parameters, { cwd: baseDir, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  const out: Buffer[] = []
  let stderr = ''
  child.stderr.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString('utf8')).slice(-stderrShownMax)
  })
  const end = await commandEnd(child, out, signal)
  if (end.state === 'aborted') throw signal.reason
  if (end.state === 'exited' && end.code === 0) return secretFrom(Buffer.concat(out), origin)
  const shown = stderr.trim()
  throw new Failure({
    code: end.state === 'tooMuch' ? 'secret_too_large' : 'secret_command_failed',
    message: `${origin} ${commandEndText(end)}${shown === '' ? '' : `: ${shown}`}`,
    hint: 'Run it by hand, as the same user and in the directory of the configuration file, to see what it says.',
    ...(end.state === 'notStarted' ? { cause: end.cause } : {}),
  })
}

function commandEnd(child: ChildProcess, out: Buffer[], signal: AbortSignal): Promise<CommandEnd> {
  return new Promise((done) => {
    const finish = (end: CommandEnd) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      if (end.state !== 'exited') killGroup(child)
      done(end)
    }
    const timer = setTimeout(() => finish({ state: 'timedOut' }), secretCommandTimeoutMs)
    const onAbort = () => finish({ state: 'aborted' })
    signal.addEventListener('abort', onAbort, { once: true })
    let bytes = 0
    child.stdout?.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes > secretBytesMax) finish({ state: 'tooMuch' })
      else out.push(chunk)
    })
    child.once('error', (cause) => finish({ state: 'notStarted', cause }))
    child.once('close', (code, killedBy) => finish({ state: 'exited', code, killedBy }))
  })
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch {
    // ESRCH: the group has ended by itself, which is what was wanted.
  }
  child.stdout?.destroy()
  child.stderr?.destroy()
}

function commandEndText(end: Exclude<CommandEnd, { state: 'aborted' }>): string {
  switch (end.state) {
    case 'exited':
      return end.killedBy === null ? `ended with exit code ${end.code}` : `was ended by ${end.killedBy}`
    case 'notStarted':
      return `could not be started (${end.cause.message})`
    case 'timedOut':
      return `did not end within ${secretCommandTimeoutMs / 1000} seconds`
    case 'tooMuch':
      return `prints more than ${secretBytesMax} bytes`
  }
}
