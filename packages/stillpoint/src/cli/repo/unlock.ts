/** `stillpoint repo unlock` */
import { type Command, Option } from 'commander'
import { countText } from '../quantities.ts'
import type { RunCommand } from '../session.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'

interface UnlockFlags extends RepositoryOptions {
  readonly removeAll?: true
}

export function repoUnlockCommand(run: RunCommand): Command {
  const text = 'Removes locks whose programs no longer run.'
  const command = repoCommand('unlock', 'remove stale locks', text)
    .addOption(new Option('--remove-all', 'all locks: make sure that nobody works with the repository'))
    .action((options: UnlockFlags) =>
      runRepo(run)(options, async (session) => {
        const repository = await openNamed(session, options, { withoutIndex: true })
        const removed = await repository.unlock({ all: options.removeAll === true })
        session.output.result({ message_type: 'unlocked', removed })
        session.output.lines([
          removed === 0 ? 'there were no locks to remove' : `removed ${countText(removed, 'lock')}`,
        ])
        return succeeded
      }),
    )
  return examples(command, [{ line: 'stillpoint repo unlock', what: 'after a crash' }])
}
