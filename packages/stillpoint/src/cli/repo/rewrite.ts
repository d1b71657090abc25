/** `stillpoint repo rewrite` */
import { Failure } from '@stillpoint/core/kernel'
import type { RewriteOptions, RewrittenSnapshot } from '@stillpoint/repository'
import { createExcluder } from '@stillpoint/repository/selection'
import { type Command, Option } from 'commander'
import { bytesText, countText, shortId } from '../quantities.ts'
import type { CommandSession, RunCommand } from '../session.ts'
import { localTime } from './arguments.ts'
import { excludeRules, type IncludeFlags, includePatterns } from './backup-excludes.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { repeated, type SelectionOptions, selectionOf, withSelection } from './selection.ts'
import { timeJson, timeShown } from './shown.ts'

interface RewriteFlags extends RepositoryOptions, SelectionOptions, IncludeFlags {
  readonly exclude?: readonly string[]
  readonly iexclude?: readonly string[]
  readonly excludeFile?: readonly string[]
  readonly iexcludeFile?: readonly string[]
  readonly newHost?: string
  readonly newTime?: string
  readonly snapshotSummary?: true
  readonly forget?: true
  readonly dryRun?: true
}

export function repoRewriteCommand(run: RunCommand): Command {
  const text =
    'Writes snapshots anew without what matches --exclude, or with only what matches --include, or with another host or time, or with a summary. The old ones stay, and the new ones get the tag "rewrite", unless --forget is given; data goes with a prune.'
  const many = (flags: string, what: string) => new Option(flags, `${what}; repeatable`).argParser(repeated)
  const command = repoCommand('rewrite', 'leave paths out of snapshots, or correct host and time', text)
    .argument('[ids...]', 'only these snapshots; default: all')
    .addOption(many('-e, --exclude <pattern>', 'leave out what matches'))
    .addOption(many('--iexclude <pattern>', 'the same, whatever the case'))
    .addOption(many('--exclude-file <file>', 'file with a pattern per line'))
    .addOption(many('--iexclude-file <file>', 'the same, whatever the case'))
    .addOption(many('-i, --include <pattern>', 'leave only what matches, and the directories that lead there'))
    .addOption(many('--iinclude <pattern>', 'the same, whatever the case'))
    .addOption(many('--include-file <file>', 'file with a pattern per line'))
    .addOption(many('--iinclude-file <file>', 'the same, whatever the case'))
    .addOption(new Option('--new-host <name>', 'the host that they are of'))
    .addOption(new Option('--new-time <time>', 'when they were taken, such as "2026-11-21 08:00:00"'))
    .addOption(new Option('-s, --snapshot-summary', 'give those a summary that have none: how many files and bytes'))
    .addOption(new Option('--forget', 'remove the old snapshots'))
    .addOption(new Option('-n, --dry-run', 'say what would be done, and do nothing'))
    .action((ids: readonly string[], options: RewriteFlags) =>
      runRepo(run)(options, (session) => rewrite(session, ids, options)),
    )
  return examples(withSelection(command), [
    { line: 'stillpoint repo rewrite --exclude "*.iso" --dry-run', what: 'what it would leave out' },
    { line: 'stillpoint repo rewrite --exclude /home/me/secret --forget latest', what: 'out of one snapshot' },
    { line: 'stillpoint repo rewrite --include /home/me/photos --iinclude "*.jpg" latest', what: 'only these' },
    { line: 'stillpoint repo rewrite --snapshot-summary --forget', what: 'sizes for snapshots of an older restic' },
    { line: 'stillpoint repo rewrite --host localhost --new-host web-1 --forget', what: 'it was misnamed' },
  ])
}

async function rewrite(session: CommandSession, ids: readonly string[], options: RewriteFlags) {
  const { host, output } = session
  refuseBoth(options)
  const include = await includePatterns(options, host.cwd)
  const { rules } = await excludeRules(options, { cwd: host.cwd, targets: [] })
  const exclude = rules === undefined ? undefined : createExcluder(rules).isOutByName
  const origin = await originOf(options)
  const withSummary = options.snapshotSummary === true
  const readsTrees = exclude !== undefined || include.length > 0 || withSummary
  if (!readsTrees && origin.hostname === undefined && origin.time === undefined) {
    const what = '--exclude PATTERN, --include PATTERN, --new-host, --new-time or --snapshot-summary'
    throw new Failure({ code: 'usage', message: `nothing to do: give ${what}` })
  }
  const { upkeep } = await openNamed(session, options, { withoutIndex: !readsTrees })
  const snapshots = await upkeep.resolveSnapshots(ids, selectionOf(host, options))
  const dryRun = options.dryRun === true
  const rewritten = await upkeep.rewrite({
    snapshots,
    ...(exclude === undefined ? {} : { exclude }),
    include,
    ...origin,
    withSummary,
    forget: options.forget === true,
    dryRun,
    signal: host.signal,
  })
  const changed = rewritten.filter(({ isChanged }) => isChanged)
  for (const snapshot of changed) tell(session, snapshot, { origin, withSummary, dryRun })
  output.result({ message_type: 'summary', rewritten_snapshots: changed.length, dry_run: dryRun })
  const others = rewritten.filter(({ isAnyIncluded }) => !isAnyIncluded)
  if (others.length > 0) {
    const which = others.map(({ id }) => shortId(id)).join(', ')
    output.warning(`snapshots of which nothing matches --include stay as they are: ${which}`)
  }
  const isNoneMatched = include.length > 0 ? others.length === rewritten.length : exclude !== undefined && !withSummary
  const none = isNoneMatched ? 'no snapshot has anything that matches' : 'no snapshot changes by that'
  output.lines([
    changed.length === 0 ? none : `rewrote ${countText(changed.length, 'snapshot')}`,
    ...(dryRun ? ['nothing was changed (dry run)'] : []),
  ])
  return succeeded
}

/** As restic, also where a file has no patterns. @throws Failure `usage` */
function refuseBoth(options: RewriteFlags): void {
  const { include, iinclude, includeFile, iincludeFile, exclude, iexclude, excludeFile, iexcludeFile } = options
  const isAny = (given: readonly unknown[]) => given.some((option) => option !== undefined)
  if (!isAny([include, iinclude, includeFile, iincludeFile])) return
  if (!isAny([exclude, iexclude, excludeFile, iexcludeFile])) return
  throw new Failure({ code: 'usage', message: '--include and --exclude exclude each other' })
}

interface Told {
  readonly origin: Origin
  readonly withSummary: boolean
  readonly dryRun: boolean
}

function tell({ output }: CommandSession, snapshot: RewrittenSnapshot, told: Told): void {
  const { id, newId, excluded, totals } = snapshot
  const { hostname, time } = told.origin
  output.result({
    message_type: 'rewritten',
    snapshot_id: id,
    new_snapshot_id: newId ?? null,
    excluded,
    ...(hostname === undefined ? {} : { hostname }),
    ...(time === undefined ? {} : { time: timeJson(time) }),
    ...(totals === undefined
      ? {}
      : { total_files_processed: Number(totals.files), total_bytes_processed: Number(totals.bytes) }),
  })
  output.lines([
    ...excluded.map((path) => `excluding ${path}`),
    `snapshot ${shortId(id)}: ${newId === undefined ? '' : `${shortId(newId)} `}${changeText(snapshot, told)}`,
  ])
}

type Origin = Pick<RewriteOptions, 'hostname' | 'time'>

/** @throws Failure `usage` */
async function originOf({ newHost, newTime }: RewriteFlags): Promise<Origin> {
  if (newHost === '') throw new Failure({ code: 'usage', message: '--new-host is empty' })
  const { timestampFromMs } = await import('@stillpoint/repository')
  return {
    ...(newHost === undefined ? {} : { hostname: newHost }),
    ...(newTime === undefined ? {} : { time: timestampFromMs(localTime(newTime)) }),
  }
}

function changeText({ excluded, totals }: RewrittenSnapshot, { origin, withSummary, dryRun }: Told): string {
  const { hostname, time } = origin
  const paths = countText(excluded.length, 'path')
  const has = dryRun ? 'would have' : 'has'
  const size =
    totals === undefined ? '' : `${countText(Number(totals.files), 'file')}, ${bytesText(Number(totals.bytes))}`
  const changes = [
    ...(excluded.length === 0 ? [] : [`${dryRun ? 'would leave' : 'leaves'} out ${paths}`]),
    ...(hostname === undefined ? [] : [`${has} host ${hostname}`]),
    ...(time === undefined ? [] : [`${has} time ${timeShown(time)} UTC`]),
    ...(withSummary ? [`${has} a summary: ${size}`] : []),
  ]
  return changes.join(', ')
}
