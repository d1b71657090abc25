/**
 * Which repository `stillpoint repo …` works on, and how it ends: restic's options, environment names and exit codes.
 *
 * Owns: finding the location, opening. Does not own: the password (repository-password.ts), what is done with the repository.
 *
 * Invariant: an option wins over the environment.
 */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { describeFailure, Failure } from '@stillpoint/core/kernel'
import type { BlobStore, Repository } from '@stillpoint/repository'
import { Command, Option } from 'commander'
import { type ExitCode, exitCodeOf, exitCodes } from '../exit-codes.ts'
import { type CommonOptions, type Example, withExamples, withJson } from '../help.ts'
import type { CommandHost, CommandSession, RunCommand } from '../session.ts'
import { duration, rate } from './arguments.ts'
import { type CacheOptions, cacheOptions, cacheSettings } from './cache-settings.ts'
import { type LocationOptions, locationOptions, openLocation } from './open-location.ts'
import { type Names, type PasswordOptions, passwordSource, withPassword } from './repository-password.ts'
import { type WriteOptions, writeOptions, writeSettingsOf } from './write-options.ts'

export interface RepositoryOptions extends CommonOptions, CacheOptions, LocationOptions, PasswordOptions, WriteOptions {
  readonly repo?: string
  readonly repositoryFile?: string
  readonly keyHint?: string
  /** KiB per second. */
  readonly limitUpload?: number
  readonly limitDownload?: number
  readonly retryLock?: number
  readonly quiet?: true
  readonly verbose?: number
  /** False with `--no-lock`; undefined where the group has parsed it. */
  readonly lock?: boolean
}

/** A subcommand with the options that all of them have. */
export function repoCommand(name: string, summary: string, description: string): Command {
  return withRepositoryOptions(withJson(new Command(name).summary(summary).description(description)))
}

/** Also for the group of them, since restic takes these options before the subcommand, too. */
export function withRepositoryOptions(command: Command): Command {
  const countUp = (_: string, earlier = 0) => earlier + 1
  const options = [
    new Option('-r, --repo <repository>', 'a directory, rest:URL or s3:URL; default: $RESTIC_REPOSITORY'),
    new Option('--repository-file <file>', 'file with the location; default: $RESTIC_REPOSITORY_FILE'),
    new Option('-p, --password-file <file>', 'file with the password; default: $RESTIC_PASSWORD_FILE'),
    new Option('--password-command <command>', 'command that prints it; default: $RESTIC_PASSWORD_COMMAND'),
    new Option('--key-hint <id>', 'try this key first; default: $RESTIC_KEY_HINT'),
    new Option('--insecure-no-password', 'the password is empty'),
    ...locationOptions(),
    new Option('--limit-upload <KiB>', 'upload no more than this per second').argParser(rate),
    new Option('--limit-download <KiB>', 'download no more than this per second').argParser(rate),
    ...cacheOptions(),
    ...writeOptions(),
    new Option('--no-lock', 'take no lock: for media that cannot be written'),
    new Option('--retry-lock <time>', 'wait for a locked repository, such as 5m').argParser(duration),
    new Option('-q, --quiet', 'say nothing but results that were asked for, and failures'),
    new Option('-v, --verbose', 'say more; twice: each file').preset('').argParser(countUp),
  ]
  for (const option of options) command.addOption(option)
  return withVerboseLevel(command)
}

/** restic's `--verbose=2`, which is `-vv`. */
function withVerboseLevel(command: Command): Command {
  const parse = command.parseOptions.bind(command)
  command.parseOptions = (args) => {
    const end = args.includes('--') ? args.indexOf('--') : args.length
    const given = args.slice(0, end).flatMap((word) => {
      const [, level] = /^--verbose=([0-3])$/.exec(word) ?? []
      return level === undefined ? [word] : Array.from({ length: Number(level) }, () => '--verbose')
    })
    return parse([...given, ...args.slice(end)])
  }
  return command
}

/** Options that stand before the subcommand count where it does not have them itself. Once, when the group is made. */
export function inheritOptions(group: Command): void {
  group.enablePositionalOptions().hook('preAction', (_, action) => {
    for (const [key, value] of Object.entries(group.opts())) {
      if (group.getOptionValueSource(key) !== 'cli' || action.getOptionValueSource(key) === 'cli') continue
      action.setOptionValueWithSource(key, value, 'cli')
    }
  })
}

export function examples(command: Command, lines: readonly Example[]): Command {
  return withExamples(command, lines)
}

/** restic's codes: what of ours is none of them ends with 1. */
const resticCodes: readonly number[] = [0, 1, 2, 3, 10, 11, 12, 130, 143]

export interface RunRepoOptions {
  /** What it prints is what it is for: then it is printed with `--quiet`, too. */
  readonly isListing?: boolean
}

export function runRepo(run: RunCommand, { isListing = false }: RunRepoOptions = {}): RunCommand {
  return (options: CommonOptions & { readonly quiet?: true }, body) =>
    run(options, async (given) => {
      const session = options.quiet === true ? quietSession(given, isListing) : given
      const { host, output } = session
      try {
        return await body(session)
      } catch (error) {
        const own = exitCodeOf(error)
        const code = resticCodes.includes(own) ? own : exitCodes.failed
        if (host.signal.aborted) throw error
        if (output.json) output.log(JSON.stringify(exitError(error, code)))
        else output.failure(error, code)
        return code
      }
    })
}

/** restic's last message on stderr, and what we know beyond it. */
function exitError(error: unknown, code: ExitCode): object {
  const report = describeFailure(error)
  return { message_type: 'exit_error', code, message: report.message, error: report }
}

/** Without messages and moving lines; results of JSON and failures stay. */
function quietSession({ host, output }: CommandSession, isListing: boolean): CommandSession {
  const stderr = { ...output.terminal.stderr, isTTY: false }
  const lines = isListing ? output.lines : () => {}
  return { host, output: { ...output, terminal: { ...output.terminal, stderr }, message: () => {}, lines } }
}

export interface AccessOptions {
  /** Default: one per processor. */
  readonly threads?: number
  /** There is much to do: threads start while the password is tried. */
  readonly muchWork?: boolean
  /** Also where index files are damaged. */
  readonly forRepair?: boolean
  /** For commands that read neither trees nor data: the index is not read. */
  readonly withoutIndex?: boolean
}

/** Opens the repository that options or the environment name. */
export async function openNamed(
  { host, output }: CommandSession,
  options: RepositoryOptions,
  access: AccessOptions = {},
): Promise<Repository> {
  return openAs({ host, output }, options, { prefix: 'RESTIC', ...access })
}

async function openAs(
  { host, output }: CommandSession,
  options: RepositoryOptions,
  { prefix, threads, muchWork = false, forRepair = false, withoutIndex = false }: Names & AccessOptions,
): Promise<Repository> {
  const { openRepository } = await import('@stillpoint/repository')
  const names: Names = { prefix }
  const store = await storeNamed({ host, output }, options, names)
  const warn = (text: string) => output.warning(text)
  const password = await passwordSource(host, options, { names, warn })
  const cache = cacheSettings(host, { options, location: await locationOf(host, options, names), warn })
  const { clock, random, entropy, signal } = host
  const keyHint = options.keyHint ?? process.env[`${prefix}_KEY_HINT`]
  const settings = {
    store,
    clock,
    random,
    entropy,
    signal,
    readOnly: options.lock === false,
    lockWaitMs: options.retryLock ?? 0,
    ...(keyHint === undefined ? {} : { keyHint }),
    ...(cache === undefined ? {} : { cache }),
    ...(threads === undefined ? {} : { threads }),
    ...writeSettingsOf(options),
    threadsStart: muchWork ? 'now' : 'whenNeeded',
    index: withoutIndex ? 'whenNeeded' : 'now',
    forRepair,
  } as const
  return withPassword(host, password, (text) => openRepository({ ...settings, password: text }))
}

/** The store behind a location, as fast as the limits allow. */
export async function storeNamed(
  { host, output }: CommandSession,
  options: RepositoryOptions,
  names: Names,
): Promise<BlobStore> {
  const store = await openLocation({ host, output }, await locationOf(host, options, names), options)
  const { limitUpload, limitDownload } = options
  if (limitUpload === undefined && limitDownload === undefined) return store
  const { createRateLimit, limitedStore } = await import('@stillpoint/repository')
  const { clock, signal } = host
  const limit = (kib: number) => createRateLimit({ clock, bytesPerSecond: kib * 1024 })
  return limitedStore(store, {
    signal,
    ...(limitUpload === undefined ? {} : { up: limit(limitUpload) }),
    ...(limitDownload === undefined ? {} : { down: limit(limitDownload) }),
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

export interface FromOptions {
  readonly fromRepo?: string
  readonly fromRepositoryFile?: string
  readonly fromPasswordFile?: string
  readonly fromPasswordCommand?: string
  readonly fromKeyHint?: string
  readonly fromInsecureNoPassword?: true
}

/** The other repository of a copy. */
export async function openFrom(session: CommandSession, options: RepositoryOptions & FromOptions): Promise<Repository> {
  const { fromRepo, fromRepositoryFile, fromPasswordFile, fromPasswordCommand, fromKeyHint } = options
  const { repo: _, repositoryFile: _file, passwordFile: _password, passwordCommand: _command, ...others } = options
  const { insecureNoPassword: _none, keyHint: _hint, ...same } = others
  const named: RepositoryOptions = {
    ...same,
    ...(fromRepo === undefined ? {} : { repo: fromRepo }),
    ...(fromRepositoryFile === undefined ? {} : { repositoryFile: fromRepositoryFile }),
    ...(fromPasswordFile === undefined ? {} : { passwordFile: fromPasswordFile }),
    ...(fromPasswordCommand === undefined ? {} : { passwordCommand: fromPasswordCommand }),
    ...(fromKeyHint === undefined ? {} : { keyHint: fromKeyHint }),
    ...(options.fromInsecureNoPassword === undefined ? {} : { insecureNoPassword: true }),
  }
  return openAs(session, named, { prefix: 'RESTIC_FROM' })
}

export function withFromOptions(command: Command): Command {
  return command
    .addOption(new Option('--from-repo <repository>', 'where from; default: $RESTIC_FROM_REPOSITORY'))
    .addOption(new Option('--from-repository-file <file>', 'file with that; default: $RESTIC_FROM_REPOSITORY_FILE'))
    .addOption(new Option('--from-password-file <file>', 'its password; default: $RESTIC_FROM_PASSWORD_FILE'))
    .addOption(new Option('--from-password-command <command>', 'prints it; default: $RESTIC_FROM_PASSWORD_COMMAND'))
    .addOption(new Option('--from-key-hint <id>', 'try this key first; default: $RESTIC_FROM_KEY_HINT'))
    .addOption(new Option('--from-insecure-no-password', 'its password is empty'))
}

export const succeeded: ExitCode = exitCodes.succeeded
