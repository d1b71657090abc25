/** `stillpoint repo stats` */
import type { RepositoryStats, StatsMode } from '@stillpoint/repository'
import { type Command, Option } from 'commander'
import { bytesText } from '../quantities.ts'
import type { RunCommand } from '../session.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { type SelectionOptions, selectionOf, withSelection } from './selection.ts'

interface StatsFlags extends RepositoryOptions, SelectionOptions {
  readonly mode: StatsMode
}

const statsModes: readonly StatsMode[] = ['restore-size', 'files-by-contents', 'raw-data', 'blobs-per-file']

/** As restic since 0.15, and like there nothing where there is nothing to divide by. */
function compressionJson({ totalBytes, plainBytes = 0, compressed }: RepositoryStats): object {
  if (compressed === undefined || plainBytes === 0) return {}
  return {
    ...(compressed.bytes === 0 ? {} : { compression_ratio: compressed.plainBytes / compressed.bytes }),
    compression_progress: (compressed.plainBytes / plainBytes) * 100,
    compression_space_saving: (1 - totalBytes / plainBytes) * 100,
  }
}

export function repoStatsCommand(run: RunCommand): Command {
  const text = 'Counts what snapshots hold: as restored, as stored, or by distinct content.'
  const command = repoCommand('stats', 'count what snapshots hold', text)
    .argument('[ids...]', 'only these snapshots')
    .addOption(new Option('--mode <mode>', 'what to count').choices(statsModes).default('restore-size'))
    .action((ids: readonly string[], options: StatsFlags) =>
      runRepo(run, { isListing: true })(options, async (session) => {
        const { host, output } = session
        const { upkeep } = await openNamed(session, options)
        const snapshots = await upkeep.resolveSnapshots(ids, selectionOf(host, options))
        const stats = await upkeep.stats({ mode: options.mode, snapshots, signal: host.signal })
        const hasBlobs = options.mode === 'raw-data' || options.mode === 'blobs-per-file'
        output.result({
          total_size: stats.totalBytes,
          ...(stats.plainBytes === undefined ? {} : { total_uncompressed_size: stats.plainBytes }),
          ...compressionJson(stats),
          total_file_count: stats.files,
          ...(hasBlobs ? { total_blob_count: stats.blobs } : {}),
          snapshots_count: stats.snapshots,
        })
        output.lines([
          `Stats in ${options.mode} mode:`,
          `     Snapshots processed:  ${stats.snapshots}`,
          ...(options.mode === 'raw-data' ? [] : [`        Total File Count:  ${stats.files}`]),
          ...(hasBlobs ? [`        Total Blob Count:  ${stats.blobs}`] : []),
          ...(stats.plainBytes === undefined ? [] : [` Total Uncompressed Size:  ${bytesText(stats.plainBytes)}`]),
          `              Total Size:  ${bytesText(stats.totalBytes)}`,
        ])
        return succeeded
      }),
    )
  return examples(withSelection(command), [
    { line: 'stillpoint repo stats --mode raw-data', what: 'what is stored' },
    { line: 'stillpoint repo stats latest', what: 'what a restore needs' },
  ])
}
