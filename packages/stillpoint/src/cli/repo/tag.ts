/** `stillpoint repo tag` */
import { Failure } from '@stillpoint/core/kernel'
import { type Command, Option } from 'commander'
import { countText, shortId } from '../quantities.ts'
import type { RunCommand } from '../session.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { type SelectionOptions, selectionOf, tagLists, withSelection } from './selection.ts'

interface TagFlags extends RepositoryOptions, SelectionOptions {
  readonly set?: readonly (readonly string[])[]
  readonly add?: readonly (readonly string[])[]
  readonly remove?: readonly (readonly string[])[]
}

export function repoTagCommand(run: RunCommand): Command {
  const text = 'Changes the tags of snapshots, which get new ids by it.'
  const command = repoCommand('tag', 'change tags', text)
    .argument('[ids...]', 'only these snapshots')
    .addOption(new Option('--set <tags>', 'replace all tags; "" for none').argParser(tagLists))
    .addOption(new Option('--add <tags>', 'add; repeatable').argParser(tagLists))
    .addOption(new Option('--remove <tags>', 'remove; repeatable').argParser(tagLists))
    .action((ids: readonly string[], options: TagFlags) =>
      runRepo(run)(options, async (session) => {
        const { host, output } = session
        const { set, add, remove } = options
        if (set === undefined && add === undefined && remove === undefined) {
          throw new Failure({ code: 'usage', message: 'nothing to do: give --set, --add or --remove' })
        }
        if (set !== undefined && (add !== undefined || remove !== undefined)) {
          throw new Failure({ code: 'usage', message: '--set excludes --add and --remove' })
        }
        const { upkeep } = await openNamed(session, options)
        const snapshots = await upkeep.resolveSnapshots(ids, selectionOf(host, options))
        const tagged = await upkeep.tag({
          snapshots,
          signal: host.signal,
          ...(set === undefined ? {} : { set: set.flat() }),
          add: (add ?? []).flat(),
          remove: (remove ?? []).flat(),
        })
        for (const { oldId, newId, tags } of tagged) {
          output.result({ message_type: 'changed', old_snapshot_id: oldId, new_snapshot_id: newId, tags })
          output.lines([`snapshot ${shortId(oldId)} is now ${shortId(newId)}: ${tags.join(', ')}`])
        }
        const changed = tagged.length
        // The name in restic's documentation, and that in its code.
        output.result({ message_type: 'summary', changed_snapshot_count: changed, changed_snapshots: changed })
        output.lines([`modified ${countText(tagged.length, 'snapshot')}`])
        return succeeded
      }),
    )
  return examples(withSelection(command), [
    { line: 'stillpoint repo tag --add kept 1a2b3c4d', what: 'one snapshot' },
    { line: 'stillpoint repo tag --tag old --set archive', what: 'all that have a tag' },
  ])
}
