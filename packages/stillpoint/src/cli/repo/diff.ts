/** `stillpoint repo diff` */
import type { DiffAmount, Snapshot } from '@stillpoint/repository'
import { type Command, Option } from 'commander'
import { bytesText, plainText, shortId } from '../quantities.ts'
import type { CommandSession, RunCommand } from '../session.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { resolvePart } from './snapshot-part.ts'

interface DiffFlags extends RepositoryOptions {
  readonly metadata?: true
}

export function repoDiffCommand(run: RunCommand): Command {
  const text = 'Shows what differs: + added, - removed, M content, T type, U metadata.'
  const command = repoCommand('diff', 'compare two snapshots', text)
    .argument('<from>', 'the earlier snapshot; ":/path" behind it for a directory of it')
    .argument('<to>', 'the later one, likewise')
    .addOption(new Option('--metadata', 'also where only metadata differs'))
    .action((from: string, to: string, options: DiffFlags) =>
      runRepo(run, { isListing: true })(options, (session) => diff(session, { from, to }, options)),
    )
  return examples(command, [{ line: 'stillpoint repo diff 1a2b3c4d latest', what: 'what has changed since then' }])
}

async function diff(
  session: CommandSession,
  { from, to }: { readonly from: string; readonly to: string },
  options: DiffFlags,
) {
  const { host, output } = session
  const repository = await openNamed(session, options)
  const source = await resolvePart(repository, from, {})
  const target = await resolvePart(repository, to, {})
  output.message(`comparing snapshot ${shortId(source.id)} to ${shortId(target.id)}:`)
  const stats = await repository.upkeep.diff({
    from: source.tree,
    to: target.tree,
    metadata: options.metadata === true,
    signal: host.signal,
    onChange({ path, modifier }) {
      output.result({ message_type: 'change', path, modifier })
      output.lines([`${modifier.padEnd(4)} ${plainText(path)}`])
    },
  })
  output.result({
    message_type: 'statistics',
    source_snapshot: namedBy(from, source),
    target_snapshot: namedBy(to, target),
    changed_files: stats.changedFiles,
    added: amountJson(stats.added),
    removed: amountJson(stats.removed),
  })
  const line = (title: string, pick: (amount: Readonly<DiffAmount>) => number) =>
    `${title.padEnd(12)} ${`${pick(stats.added)}`.padStart(5)} new, ${`${pick(stats.removed)}`.padStart(5)} removed`
  output.lines([
    '',
    `${line('Files:', ({ files }) => files)}, ${`${stats.changedFiles}`.padStart(5)} changed`,
    line('Dirs:', ({ dirs }) => dirs),
    line('Others:', ({ others }) => others),
    line('Data Blobs:', ({ dataBlobs }) => dataBlobs),
    line('Tree Blobs:', ({ treeBlobs }) => treeBlobs),
    `  Added:   ${bytesText(stats.added.bytes)}`,
    `  Removed: ${bytesText(stats.removed.bytes)}`,
  ])
  return succeeded
}

/** As restic tells it: as it was asked. "latest" would not say which one that was. */
function namedBy(text: string, { id }: Snapshot): string {
  return text.replace(/^latest(?=:|$)/, id)
}

function amountJson({ files, dirs, others, dataBlobs, treeBlobs, bytes }: Readonly<DiffAmount>) {
  return { files, dirs, others, data_blobs: dataBlobs, tree_blobs: treeBlobs, bytes }
}
