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

interface Compression {
  readonly ratio: number
  /** Percent of the data that is compressed, and of room that this has saved. */
  readonly progress: number
  readonly saved: number
}

/** As restic since 0.15, and like there 0 where there is nothing to divide by. */
function compressionOf({ totalBytes, uncompressedBytes = 0, compressed }: RepositoryStats): Compression | undefined {
  if (compressed === undefined) return undefined
  const share = (part: number, whole: number) => (whole === 0 ? 0 : part / whole)
  return {
    ratio: share(compressed.uncompressedBytes, compressed.bytes),
    progress: share(compressed.uncompressedBytes, uncompressedBytes) * 100,
    saved: uncompressedBytes === 0 ? 0 : (1 - totalBytes / uncompressedBytes) * 100,
  }
}

/** restic leaves out what is 0, but for the first and the last. */
function statsJson(stats: RepositoryStats): object {
  const compression = compressionOf(stats)
  const counted = {
    total_uncompressed_size: stats.uncompressedBytes ?? 0,
    compression_ratio: compression?.ratio ?? 0,
    compression_progress: compression?.progress ?? 0,
    compression_space_saving: compression?.saved ?? 0,
    total_file_count: stats.files,
    total_blob_count: stats.blobs,
  }
  const known = Object.fromEntries(Object.entries(counted).filter(([, amount]) => amount !== 0))
  return { total_size: stats.totalBytes, ...known, snapshots_count: stats.snapshots }
}

function statsLines(stats: RepositoryStats, mode: StatsMode): readonly string[] {
  const compression = compressionOf(stats)
  const { uncompressedBytes } = stats
  return [
    `Stats in ${mode} mode:`,
    `     Snapshots processed:  ${stats.snapshots}`,
    ...(stats.blobs === 0 ? [] : [`        Total Blob Count:  ${stats.blobs}`]),
    ...(stats.files === 0 ? [] : [`        Total File Count:  ${stats.files}`]),
    ...(uncompressedBytes === undefined ? [] : [` Total Uncompressed Size:  ${bytesText(uncompressedBytes)}`]),
    `              Total Size:  ${bytesText(stats.totalBytes)}`,
    ...(compression === undefined
      ? []
      : [
          `    Compression Progress:  ${compression.progress.toFixed(2)}%`,
          `       Compression Ratio:  ${compression.ratio.toFixed(2)}x`,
          `Compression Space Saving:  ${compression.saved.toFixed(2)}%`,
        ]),
  ]
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
        output.result(statsJson(stats))
        output.lines(statsLines(stats, options.mode))
        return succeeded
      }),
    )
  return examples(withSelection(command), [
    { line: 'stillpoint repo stats --mode raw-data', what: 'what is stored' },
    { line: 'stillpoint repo stats latest', what: 'what a restore needs' },
  ])
}
