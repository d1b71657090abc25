/** `stillpoint repo init` */
import { Failure } from '@stillpoint/core/kernel'
import { type Command, Option } from 'commander'
import type { CommandSession, RunCommand } from '../session.ts'
import {
  examples,
  type FromOptions,
  openFrom,
  type RepositoryOptions,
  repoCommand,
  runRepo,
  storeNamed,
  succeeded,
  withFromOptions,
} from './repository-access.ts'
import { newPassword } from './repository-password.ts'

interface InitFlags extends RepositoryOptions, FromOptions {
  readonly copyChunkerParams?: true
  readonly repositoryVersion: string
}

export function repoInitCommand(run: RunCommand): Command {
  const command = repoCommand('init', 'make a repository', 'Makes a repository in restic’s format, version 2.')
    .addOption(
      new Option('--copy-chunker-params', 'cut files as the repository of --from-repo does, in restic’s backups'),
    )
    .addOption(
      new Option('--repository-version <version>', 'of the format')
        .choices(['stable', 'latest', '2'])
        .default('stable'),
    )
    .action((options: InitFlags) => runRepo(run)(options, (session) => init(session, options)))
  return examples(withFromOptions(command), [
    { line: 'stillpoint repo init -r /srv/backup -p password', what: 'in a directory' },
    { line: 'stillpoint repo init -r /srv/second --from-repo /srv/backup --copy-chunker-params', what: 'for copies' },
  ])
}

async function init(session: CommandSession, options: InitFlags) {
  const { host, output } = session
  const { initRepository, openRepository } = await import('@stillpoint/repository')
  const names = { prefix: 'RESTIC' } as const
  requireFromTogether(options)
  const store = await storeNamed(session, options, names)
  const password = await newPassword(host, options, { names, warn: output.warning })
  if (password === '' && options.insecureNoPassword !== true) throw emptyPassword()
  const { clock, entropy, random, signal } = host
  const from = options.copyChunkerParams === true ? { copyChunkerFrom: await openFrom(session, options) } : {}
  await initRepository({ store, password, clock, entropy, ...from })
  const { id } = await openRepository({ store, password, clock, entropy, random, signal, index: 'whenNeeded' })
  const repository = store.locate({ kind: 'config', name: 'config' }).replace(/\/config$/, '')
  output.result({ message_type: 'initialized', id, repository })
  output.lines([`created repository ${id.slice(0, 10)} at ${repository}`])
  output.message('Whoever loses the password loses the data: keep a copy of it somewhere else.')
  return succeeded
}

function emptyPassword(): Failure {
  return new Failure({
    code: 'secret_empty',
    message: 'no password was typed',
    hint: 'A repository without one is open to everybody who can read it. If that is meant: --insecure-no-password.',
  })
}

/** As restic: a source without a use for it is a mistake. */
function requireFromTogether({ copyChunkerParams, fromRepo, fromRepositoryFile }: InitFlags): void {
  if (copyChunkerParams === true || (fromRepo === undefined && fromRepositoryFile === undefined)) return
  const message = 'a repository to copy from is named: give --copy-chunker-params, too'
  throw new Failure({ code: 'usage', message })
}
