/**
 * Which repository `stillpoint repo …` works on, and how it ends: restic's options, environment names and exit codes.
 *
 * Owns: finding location and password, opening. Does not own: what is done with the repository.
 *
 * Invariants: 1. a password never stands in an argument; one in the environment is taken with a warning. 2. An option wins
 * over the environment.
 */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import type { BlobStore, Repository } from '@stillpoint/repository'
import { Command, Option } from 'commander'
import { readSecret } from '../../config/secret.ts'
import { type ExitCode, exitCodeOf, exitCodes } from '../exit-codes.ts'
import { type CommonOptions, type Example, withExamples, withJson } from '../help.ts'
import type { CommandHost, CommandSession, RunCommand } from '../session.ts'

export interface RepositoryOptions extends CommonOptions {
  readonly repo?: string
  readonly repositoryFile?: string
  readonly passwordFile?: string
  readonly passwordCommand?: string
  readonly restCredentialsFile?: string
  /** False with `--no-lock`. */
  readonly lock: boolean
}

/** What environment names a repository and its password come from; `RESTIC_FROM_…` is the other one of a copy. */
interface Names {
  readonly prefix: 'RESTIC' | 'RESTIC_FROM'
}

/** A subcommand with the options that all of them have. */
export function repoCommand(name: string, summary: string, description: string): Command {
  return withJson(
    new Command(name)
      .summary(summary)
      .description(description)
      .addOption(new Option('-r, --repo <repository>', 'a directory, or rest:URL; default: $RESTIC_REPOSITORY'))
      .addOption(new Option('--repository-file <file>', 'file with the location; default: $RESTIC_REPOSITORY_FILE'))
      .addOption(new Option('-p, --password-file <file>', 'file with the password; default: $RESTIC_PASSWORD_FILE'))
      .addOption(
        new Option('--password-command <command>', 'command that prints it; default: $RESTIC_PASSWORD_COMMAND'),
      )
      .addOption(new Option('--rest-credentials-file <file>', 'file with "name:password" or a token for a REST server'))
      .addOption(new Option('--no-lock', 'take no lock: for media that cannot be written')),
  )
}

export function examples(command: Command, lines: readonly Example[]): Command {
  return withExamples(command, lines)
}

/** restic's codes: what of ours is none of them ends with 1. */
const resticCodes: readonly number[] = [0, 1, 2, 3, 10, 11, 12, 130, 143]

export function runRepo(run: RunCommand): RunCommand {
  return (options, body) =>
    run(options, async (session) => {
      try {
        return await body(session)
      } catch (error) {
        if (session.host.signal.aborted || resticCodes.includes(exitCodeOf(error))) throw error
        session.output.failure(error, exitCodes.failed)
        return exitCodes.failed
      }
    })
}

export interface AccessOptions {
  /** Also where index files are damaged. */
  readonly forRepair?: boolean
}

/** Opens the repository that options or the environment name. */
export async function openNamed(
  { host, output }: CommandSession,
  options: RepositoryOptions,
  { forRepair = false }: AccessOptions = {},
): Promise<Repository> {
  const { openRepository } = await import('@stillpoint/repository')
  const names: Names = { prefix: 'RESTIC' }
  const store = await storeNamed(host, options, names)
  const password = await passwordNamed(host, options, { names, warn: (text) => output.warning(text) })
  const { clock, random, entropy } = host
  return openRepository({ store, password, clock, random, entropy, readOnly: !options.lock, forRepair })
}

export async function storeNamed(host: CommandHost, options: RepositoryOptions, names: Names): Promise<BlobStore> {
  const location = await locationOf(host, options, names)
  const { openLocalStore, openRestStore, retryingStore } = await import('@stillpoint/repository')
  const { clock, random, signal } = host
  if (/^rest:/.test(location)) {
    const { restCredentialsFile: file } = options
    const credentials = file === undefined ? {} : { credentialsFile: resolve(host.cwd, file) }
    return retryingStore(await openRestStore({ url: location, signal, ...credentials }), { clock, random, signal })
  }
  const [, scheme] = /^(s3|sftp|b2|azure|gs|swift|rclone):/.exec(location) ?? []
  if (scheme === undefined) return openLocalStore(resolve(host.cwd, location.replace(/^local:/, '')))
  throw new Failure({
    code: 'options_invalid',
    message: `repositories behind "${scheme}:" cannot be reached by this command`,
    hint: 'Name a directory, or rest:URL.',
  })
}

async function locationOf(host: CommandHost, options: RepositoryOptions, { prefix }: Names): Promise<string> {
  if (options.repo !== undefined && options.repositoryFile !== undefined) throw both('--repo', '--repository-file')
  if (options.repo !== undefined) return options.repo
  const variable = `${prefix}_REPOSITORY`
  const { [variable]: fromEnvironment, [`${variable}_FILE`]: fileFromEnvironment } = process.env
  const file = options.repositoryFile ?? (fromEnvironment === undefined ? fileFromEnvironment : undefined)
  if (file === undefined) {
    if (fromEnvironment !== undefined && fromEnvironment !== '') return fromEnvironment
    throw new Failure({
      code: 'options_invalid',
      message: 'no repository is named',
      hint: `Give -r DIRECTORY, or set ${variable} or ${variable}_FILE.`,
    })
  }
  try {
    return (await readFile(resolve(host.cwd, file), 'utf8')).trim()
  } catch (cause) {
    const message = `the file with the location cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`
    throw new Failure({ code: 'options_invalid', message, cause })
  }
}

function both(one: string, other: string): Failure {
  return new Failure({ code: 'options_invalid', message: `${one} and ${other} exclude each other` })
}

interface PasswordSettings {
  readonly names: Names
  readonly warn: (text: string) => void
}

/** As restic, without white space around it. */
export async function passwordNamed(
  host: CommandHost,
  options: Pick<RepositoryOptions, 'passwordFile' | 'passwordCommand'>,
  { names: { prefix }, warn }: PasswordSettings,
): Promise<string> {
  const { [`${prefix}_PASSWORD`]: inEnvironment, ...env } = process.env
  const isGiven = options.passwordFile !== undefined || options.passwordCommand !== undefined
  const passwordFile = isGiven ? options.passwordFile : env[`${prefix}_PASSWORD_FILE`]
  const passwordCommand = isGiven ? options.passwordCommand : env[`${prefix}_PASSWORD_COMMAND`]
  const secret = await readSecret({ passwordFile, passwordCommand }, host.cwd, host.signal, warn)
  if (secret !== undefined) return secret.trim()
  if (inEnvironment !== undefined && inEnvironment !== '') {
    warn(`the password stands in ${prefix}_PASSWORD, where other programs of this user can read it; use a file`)
    return inEnvironment
  }
  throw new Failure({
    code: 'repository_password_missing',
    message: 'no password of the repository is named',
    hint: `Give --password-file FILE, or set ${prefix}_PASSWORD_FILE or ${prefix}_PASSWORD_COMMAND.`,
  })
}

export interface FromOptions {
  readonly fromRepo?: string
  readonly fromRepositoryFile?: string
  readonly fromPasswordFile?: string
  readonly fromPasswordCommand?: string
}

/** The other repository of a copy. */
export async function openFrom(
  { host, output }: CommandSession,
  options: RepositoryOptions & FromOptions,
): Promise<Repository> {
  const { openRepository } = await import('@stillpoint/repository')
  const { fromRepo, fromRepositoryFile, fromPasswordFile, fromPasswordCommand, lock } = options
  const named: RepositoryOptions = {
    lock,
    ...(fromRepo === undefined ? {} : { repo: fromRepo }),
    ...(fromRepositoryFile === undefined ? {} : { repositoryFile: fromRepositoryFile }),
    ...(fromPasswordFile === undefined ? {} : { passwordFile: fromPasswordFile }),
    ...(fromPasswordCommand === undefined ? {} : { passwordCommand: fromPasswordCommand }),
    ...(options.restCredentialsFile === undefined ? {} : { restCredentialsFile: options.restCredentialsFile }),
  }
  const names: Names = { prefix: 'RESTIC_FROM' }
  const store = await storeNamed(host, named, names)
  const password = await passwordNamed(host, named, { names, warn: (text) => output.warning(text) })
  const { clock, random, entropy } = host
  return openRepository({ store, password, clock, random, entropy, readOnly: !lock })
}

export const succeeded: ExitCode = exitCodes.succeeded
