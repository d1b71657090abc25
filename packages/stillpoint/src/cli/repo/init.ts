/** `stillpoint repo init` */
import type { Command } from 'commander'
import type { RunCommand } from '../session.ts'
import {
  examples,
  openNamed,
  passwordNamed,
  type RepositoryOptions,
  repoCommand,
  runRepo,
  storeNamed,
  succeeded,
} from './repository-access.ts'

export function repoInitCommand(run: RunCommand): Command {
  const command = repoCommand('init', 'make a repository', 'Makes a repository in restic’s format, version 2.').action(
    (options: RepositoryOptions) =>
      runRepo(run)(options, async (session) => {
        const { host, output } = session
        const { initRepository } = await import('@stillpoint/repository')
        const names = { prefix: 'RESTIC' } as const
        const store = await storeNamed(host, options, names)
        const password = await passwordNamed(host, options, { names, warn: output.warning })
        await initRepository({ store, password, clock: host.clock, entropy: host.entropy })
        const { id } = await openNamed(session, options)
        const repository = store.locate({ kind: 'config', name: 'config' }).replace(/\/config$/, '')
        output.result({ message_type: 'initialized', id, repository })
        output.lines([`created repository ${id.slice(0, 10)} at ${repository}`])
        output.message('Whoever loses the password loses the data: keep a copy of it somewhere else.')
        return succeeded
      }),
  )
  return examples(command, [{ line: 'stillpoint repo init -r /srv/backup -p password', what: 'in a directory' }])
}
