/** `stillpoint repo list` */
import type { ListedKind } from '@stillpoint/repository'
import { Argument, type Command } from 'commander'
import type { RunCommand } from '../session.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'

const kinds: Readonly<Record<string, ListedKind>> = {
  snapshots: 'snapshot',
  packs: 'pack',
  index: 'index',
  keys: 'key',
  locks: 'lock',
}

export function repoListCommand(run: RunCommand): Command {
  const command = repoCommand('list', 'list the ids of objects', 'Lists the ids of all objects of a kind.')
    .addArgument(new Argument('<kind>', 'what to list').choices([...Object.keys(kinds), 'blobs']))
    .action((kind: string, options: RepositoryOptions) =>
      runRepo(run, { isListing: true })(options, async (session) => {
        const { output } = session
        const { upkeep } = await openNamed(session, options)
        const listed = kinds[kind]
        if (listed === undefined) {
          for await (const { id, type } of upkeep.listBlobs()) {
            output.result({ type, id })
            output.lines([`${type} ${id}`])
            if (output.terminal.stdout.closed) break
          }
          return succeeded
        }
        const ids = await upkeep.listObjects(listed)
        output.result(ids)
        output.lines(ids)
        return succeeded
      }),
    )
  return examples(command, [{ line: 'stillpoint repo list packs | wc -l', what: 'how many packs there are' }])
}
