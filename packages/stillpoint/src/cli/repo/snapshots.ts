/** `stillpoint repo snapshots` */
import type { Snapshot, SnapshotGroup } from '@stillpoint/repository'
import { type Command, Option } from 'commander'
import type { CommandSession, RunCommand } from '../session.ts'
import { count } from './arguments.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { type SelectionOptions, selectionOf, withSelection } from './selection.ts'
import { snapshotJson, snapshotTable } from './shown.ts'

interface SnapshotsFlags extends RepositoryOptions, SelectionOptions {
  readonly groupBy?: string
  readonly latest?: number
  readonly compact?: true
}

export function repoSnapshotsCommand(run: RunCommand): Command {
  const command = repoCommand('snapshots', 'list snapshots', 'Lists snapshots, oldest first.')
    .argument('[ids...]', 'only these: ids or their first digits')
    .addOption(new Option('-g, --group-by <fields>', 'by host, paths and tags, separated by commas'))
    .addOption(new Option('-c, --compact', 'without paths'))
    .addOption(new Option('--latest <n>', 'only the newest of each host and set of paths').argParser(count))
    .action((ids: readonly string[], options: SnapshotsFlags) =>
      runRepo(run, { isListing: true })(options, (session) => list(session, ids, options)),
    )
  return examples(withSelection(command), [
    { line: 'stillpoint repo snapshots --host db1 --latest 3', what: 'the newest of one host' },
  ])
}

async function list(session: CommandSession, ids: readonly string[], options: SnapshotsFlags) {
  const { host, output } = session
  const repository = await openNamed(session, options, { withoutIndex: true })
  const { groupSnapshots, parseGroupBy } = await import('@stillpoint/repository')
  const groupBy = parseGroupBy(options.groupBy ?? '')
  const selected = await repository.upkeep.resolveSnapshots(ids, selectionOf(host, options))
  const groups = groupSnapshots(selected, groupBy).map((group) => {
    if (options.latest === undefined) return group
    const newest = groupSnapshots(group.snapshots, ['host', 'paths']).flatMap(({ snapshots }) =>
      snapshots.slice(-(options.latest ?? 1)),
    )
    return { ...group, snapshots: group.snapshots.filter((snapshot) => newest.includes(snapshot)) }
  })
  const snapshots = groups.flatMap((group) => group.snapshots)
  output.result(groupBy.length === 0 ? snapshots.map(snapshotJson) : groups.map(groupJson))
  for (const group of groups) {
    if (groupBy.length > 0) output.lines([groupTitle(group)])
    const width = output.terminal.stdout.columns()
    output.lines(tableWithCount(group.snapshots, { width, compact: options.compact === true }))
  }
  if (snapshots.length === 0) output.message('There are no snapshots.')
  return succeeded
}

function tableWithCount(
  snapshots: readonly Snapshot[],
  options: Parameters<typeof snapshotTable>[1],
): readonly string[] {
  return [...snapshotTable(snapshots, options), `${snapshots.length} snapshots`]
}

function groupJson({ snapshots, ...group }: SnapshotGroup) {
  const { host, paths, tags } = groupFields(group)
  return { group_key: { hostname: host, paths, tags }, snapshots: snapshots.map(snapshotJson) }
}

/** What a group has in common, with restic's words for nothing. */
export function groupFields({ hostname, paths, tags }: Pick<SnapshotGroup, 'hostname' | 'paths' | 'tags'>) {
  return { tags: tags === null || tags.length === 0 ? null : tags, host: hostname ?? '', paths }
}

export function groupTitle({ hostname, paths, tags }: Pick<SnapshotGroup, 'hostname' | 'paths' | 'tags'>): string {
  const parts = [
    hostname === null ? '' : `host [${hostname}]`,
    tags === null ? '' : `tags [${tags.join(', ')}]`,
    paths === null ? '' : `paths [${paths.join(', ')}]`,
  ]
  return `snapshots for (${parts.filter((part) => part !== '').join(', ')}):`
}
