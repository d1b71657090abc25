/** `stillpoint repo check` */
import type { CheckProgress, CheckReport } from '@stillpoint/repository'
import { type Command, Option } from 'commander'
import { type ExitCode, exitCodeOf, exitCodes } from '../exit-codes.ts'
import { bytesText, countText } from '../quantities.ts'
import type { CommandSession, RunCommand } from '../session.ts'
import { count } from './arguments.ts'
import { budgetNeedsPlace, coverageJson, coverageLines, coveragePath } from './check-coverage.ts'
import { withLine } from './live-line.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { type SelectionOptions, selectionOf, withSelection } from './selection.ts'
import { tellFailed } from './told-errors.ts'

interface CheckFlags extends RepositoryOptions, SelectionOptions {
  readonly readData?: true
  readonly withCache?: true
  readonly readDataSubset?: string
  readonly readDataBudget?: string
  readonly coverageDays: number
}

export function repoCheckCommand(run: RunCommand): Command {
  const text = [
    'Checks that all that snapshots need is there, and with --read-data that every byte is what it was.',
    'With ids, --host, --tag or --path: only the trees of these snapshots, and data only of packs that hold what they need.',
  ].join(' ')
  const command = repoCommand('check', 'check the repository', text)
    .argument('[ids...]', 'only what these snapshots need: ids, their first digits, or latest')
    .addOption(new Option('--read-data', 'read, decrypt and hash all data').conflicts('readDataSubset'))
    .addOption(new Option('--with-cache', 'read from the cache what it has: faster, and that is then not checked'))
    .addOption(new Option('--read-data-subset <part>', 'the same for a part: n/t, a random share 5%, a random 500M'))
    .addOption(
      new Option('--read-data-budget <amount>', 'the same for what was not read longest: 10G, 5%, 30min').conflicts([
        'readData',
        'readDataSubset',
      ]),
    )
    .addOption(
      new Option('--coverage-days <n>', 'count data as read that was read within so many days')
        .argParser(count)
        .default(30),
    )
    .action((ids: readonly string[], options: CheckFlags) =>
      runRepo(run)(options, (session) => toldAnyway(session, check(session, ids, options))),
    )
  return examples(withSelection(command), [
    { line: 'stillpoint repo check', what: 'structure only' },
    { line: 'stillpoint repo check --read-data-subset 1/7', what: 'and a seventh of the data' },
    { line: 'stillpoint repo check --read-data-budget 10G', what: 'and what waits longest: nightly, all in turn' },
    { line: 'stillpoint repo check --read-data latest', what: 'all that the newest snapshot needs' },
  ])
}

/** As restic: there is a summary also where there was nothing to check, such as of a locked repository. */
async function toldAnyway({ output }: CommandSession, checked: Promise<ExitCode>): Promise<ExitCode> {
  try {
    return await checked
  } catch (error) {
    // What was asked cannot be meant.
    if (exitCodeOf(error) === exitCodes.usage) throw error
    const none = { broken_packs: null, suggest_repair_index: false, suggest_prune: false }
    output.result({ message_type: 'summary', num_errors: 1, ...none })
    throw error
  }
}

/** Those that `repair packs` can salvage something of. restic's `null` where there are none. */
function brokenPacks({ problems }: CheckReport): readonly string[] | null {
  const damaged = problems.filter(({ code }) => code === 'object_damaged')
  const ids = damaged.flatMap(({ message }) => /^pack ([0-9a-f]{64})\b/.exec(message)?.[1] ?? [])
  return ids.length === 0 ? null : [...new Set(ids)].sort()
}

/** Trees and data are checked at once, and shown side by side. */
function progressTexts(): (progress: CheckProgress) => string {
  const atOnce = new Map<CheckProgress['stage'], string>()
  return ({ stage, done, total }) => {
    const text = `${stage} ${done}${total === undefined ? '' : ` / ${total}`}`
    if (stage !== 'trees' && stage !== 'data') return text
    atOnce.set(stage, text)
    return [...atOnce.values()].join(', ')
  }
}

async function check(session: CommandSession, ids: readonly string[], options: CheckFlags): Promise<ExitCode> {
  const { host, output } = session
  const { openCoverageFile, parseDataSubset, parseReadBudget } = await import('@stillpoint/repository')
  const readBudget = options.readDataBudget === undefined ? undefined : parseReadBudget(options.readDataBudget)
  const subset = options.readDataSubset === undefined ? {} : { dataSubset: parseDataSubset(options.readDataSubset) }
  // A damaged index is a finding, not the end of the check.
  const muchWork = options.readData === true || readBudget !== undefined || options.readDataSubset !== undefined
  const repository = await openNamed(session, options, { forRepair: true, muchWork })
  const path = coveragePath(host, options, repository.id)
  if (path === undefined && readBudget !== undefined) throw budgetNeedsPlace()
  const shown = progressTexts()
  const report = await withLine(session, (line) =>
    repository.check({
      only: { ids, selection: selectionOf(host, options) },
      readData: options.readData === true,
      ...subset,
      ...(readBudget === undefined ? {} : { readBudget }),
      ...(path === undefined ? {} : { coverage: openCoverageFile({ path, clock: host.clock }) }),
      coverageWithinMs: options.coverageDays * 24 * 3_600_000,
      exclusive: options.lock !== false,
      withCache: options.withCache === true,
      signal: host.signal,
      onProgress: (progress) => line.update(shown(progress)),
    }),
  )
  for (const { code, message } of report.problems) {
    if (output.json) output.log(JSON.stringify({ message_type: 'error', code, message }))
    else output.warning(message)
  }
  const orphans = report.unreferencedPacks.length
  output.result({
    message_type: 'summary',
    num_errors: report.problems.length,
    broken_packs: brokenPacks(report),
    suggest_repair_index: report.problems.some(({ message }) => /^index [0-9a-f]{64}\b/.test(message)),
    suggest_prune: orphans > 0,
    snapshots: report.snapshots,
    trees: report.trees,
    packs: report.packs,
    packs_read: report.packsRead,
    bytes_read: report.bytesRead,
    ...(report.coverage === undefined ? {} : { coverage: coverageJson(report.coverage) }),
  })
  const read = report.packsRead === 0 ? '' : `; read ${report.packsRead} of them, ${bytesText(report.bytesRead)}`
  // Who never reads data is not told of it each time.
  const isRead = report.coverage !== undefined && (readBudget !== undefined || report.coverage.oldestMs !== undefined)
  const snapshots = countText(report.snapshots, report.isPartial ? 'chosen snapshot' : 'snapshot')
  output.lines([
    `checked ${snapshots}, ${countText(report.trees, 'tree')}, ${countText(report.packs, 'pack')}${read}`,
    ...(isRead && report.coverage !== undefined ? coverageLines(report.coverage) : []),
    ...(orphans === 0 ? [] : [`${countText(orphans, 'pack')} of interrupted saves; a prune removes them`]),
    report.problems.length === 0 ? 'no errors were found' : `${countText(report.problems.length, 'error')} found`,
  ])
  return report.problems.length === 0 ? succeeded : tellFailed(session, 'the repository contains errors')
}
