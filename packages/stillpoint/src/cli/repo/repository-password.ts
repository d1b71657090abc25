/**
 * The password of a repository: restic's options and environment names, or somebody at a terminal.
 *
 * Owns: where it is found, and how often it is asked for. Does not own: opening; typing (read-secret.ts).
 *
 * Invariants: 1. a password never stands in an argument; one in the environment is taken with a warning. 2. An option wins
 * over the environment. 3. Only who types is asked again: what a file or a command says stays wrong.
 */
import { Failure, isFailure } from '@stillpoint/core/kernel'
import { readSecret } from '../../config/secret.ts'
import type { CommandHost } from '../session.ts'

export interface PasswordOptions {
  readonly passwordFile?: string
  readonly passwordCommand?: string
  readonly insecureNoPassword?: true
}

/** What environment names a repository and its password come from; `RESTIC_FROM_…` is the other one of a copy. */
export interface Names {
  readonly prefix: 'RESTIC' | 'RESTIC_FROM'
}

/** As with restic. */
const triesMax = 3

export interface PasswordSettings {
  readonly names: Names
  readonly warn: (text: string) => void
}

export type PasswordSource =
  | { readonly kind: 'given'; readonly password: string }
  | { readonly kind: 'typed'; readonly ask: (options: { readonly once: boolean }) => Promise<string> }

/** Asks for nothing yet. As restic, without white space around it, unless it is typed. @throws Failure `repository_password_missing`, … */
export async function passwordSource(
  host: CommandHost,
  options: PasswordOptions,
  { names: { prefix }, warn }: PasswordSettings,
): Promise<PasswordSource> {
  const { [`${prefix}_PASSWORD`]: inEnvironment, ...env } = process.env
  if (options.insecureNoPassword === true) {
    if (options.passwordFile === undefined && options.passwordCommand === undefined) return given('')
    throw new Failure({ code: 'options_invalid', message: '--insecure-no-password and a password exclude each other' })
  }
  const isGiven = options.passwordFile !== undefined || options.passwordCommand !== undefined
  const passwordFile = isGiven ? options.passwordFile : env[`${prefix}_PASSWORD_FILE`]
  const passwordCommand = isGiven ? options.passwordCommand : env[`${prefix}_PASSWORD_COMMAND`]
  const secret = await readSecret({ passwordFile, passwordCommand }, host.cwd, host.signal, warn)
  if (secret !== undefined) return given(secret.trim())
  if (inEnvironment !== undefined && inEnvironment !== '') {
    warn(`the password stands in ${prefix}_PASSWORD, where other programs of this user can read it; use a file`)
    return given(inEnvironment)
  }
  const { stderr } = host.terminal
  if (process.stdin.isTTY && stderr.isTTY) {
    const question = prefix === 'RESTIC' ? 'password of the repository: ' : 'password of the repository to copy from: '
    const say = (text: string) => stderr.write(text)
    const ask = async ({ once }: { readonly once: boolean }) => {
      const { readStdinSecret } = await import('../read-secret.ts')
      return readStdinSecret(process.stdin, { question, once, signal: host.signal, say })
    }
    return { kind: 'typed', ask }
  }
  throw new Failure({
    code: 'repository_password_missing',
    message: 'no password of the repository is named',
    hint: `Give --password-file FILE, or set ${prefix}_PASSWORD_FILE or ${prefix}_PASSWORD_COMMAND.`,
  })
}

function given(password: string): PasswordSource {
  return { kind: 'given', password }
}

/** One that is chosen now: who types it does so twice. */
export async function newPassword(
  host: CommandHost,
  options: PasswordOptions,
  settings: PasswordSettings,
): Promise<string> {
  const source = await passwordSource(host, options, settings)
  return source.kind === 'given' ? source.password : source.ask({ once: false })
}

/** @throws Failure `password_wrong`, where it is typed after the third time; what `open` and asking throw */
export async function withPassword<T>(
  { terminal }: CommandHost,
  source: PasswordSource,
  open: (password: string) => Promise<T>,
): Promise<T> {
  if (source.kind === 'given') return open(source.password)
  for (let triesLeft = triesMax - 1; ; triesLeft -= 1) {
    const password = await source.ask({ once: true })
    try {
      return await open(password)
    } catch (error) {
      if (triesLeft === 0 || !isFailure(error, 'password_wrong')) throw error
      // Beside the question, which is there with --json and --quiet, too.
      terminal.stderr.write('No key of the repository opens with this password. Try again.\n')
    }
  }
}
