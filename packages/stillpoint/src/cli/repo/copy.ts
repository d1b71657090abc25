/** `stillpoint repo copy` */
import type { Command } from 'commander'
import { bytesText, shortId } from '../quantities.ts'
import type { RunCommand } from '../session.ts'
import { withLine } from './live-line.ts'
import {
  examples,
  type FromOptions,
  openFrom,
  openNamed,
  type RepositoryOptions,
  repoCommand,
  runRepo,
  succeeded,
  withFromOptions,
} from './repository-access.ts'
import { type SelectionOptions, selectionOf, withSelection } from './selection.ts'

export function repoCopyCommand(run: RunCommand): Command {
  const text = 'Copies snapshots of another repository into this one. What is there is not copied again.'
  const command = withFromOptions(repoCommand('copy', 'copy snapshots from another repository', text))
    .argument('[ids...]', 'only these snapshots of the other repository')
    .action((ids: readonly string[], options: RepositoryOptions & FromOptions & SelectionOptions) =>
      runRepo(run)(options, async (session) => {
        const { host, output } = session
        const target = await openNamed(session, options)
        const source = await openFrom(session, options)
        const snapshots = await source.upkeep.resolveSnapshots(ids, selectionOf(host, options))
        const copied = await withLine(session, (line) =>
          target.upkeep.copyFrom(source, {
            snapshots,
            signal: host.signal,
            onProgress: ({ snapshot, blobs, blobsTotal }) =>
              line.update(`${shortId(snapshot)}: ${blobs} / ${blobsTotal} blobs`),
          }),
        )
        for (const { source: from, id, wasThere, blobsCopied, bytesCopied } of copied) {
          const how = { source_snapshot: from.id, snapshot: id, was_there: wasThere }
          output.result({ message_type: 'copied', ...how, blobs: blobsCopied, bytes: bytesCopied })
          output.lines([
            wasThere
              ? `snapshot ${shortId(from.id)} was already copied as ${shortId(id)}`
              : `snapshot ${shortId(id)} saved, from ${shortId(from.id)}: ${blobsCopied} blobs, ${bytesText(bytesCopied)}`,
          ])
        }
        return succeeded
      }),
    )
  return examples(withSelection(command), [
    { line: 'stillpoint repo copy -r /srv/second --from-repo /srv/first', what: 'all snapshots' },
  ])
}
