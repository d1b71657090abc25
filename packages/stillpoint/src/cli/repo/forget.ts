/** `stillpoint repo forget` */
import { Failure } from '@stillpoint/core/kernel'
import type {
  ForgetOptions,
  ForgottenGroup,
  GroupField,
  KeepCount,
  Repository,
  RetentionPolicy,
  Snapshot,
} from '@stillpoint/repository'
import { type Command, Option } from 'commander'
import { shortId } from '../quantities.ts'
import type { CommandSession, RunCommand } from '../session.ts'
import { keepCount } from './arguments.ts'
import { type PruneFlags, prune, pruneOptions, withPruneOptions } from './prune.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { type SelectionOptions, selectionOf, tagLists, withSelection } from './selection.ts'
import { snapshotJson, snapshotTable } from './shown.ts'
import { groupFields, groupTitle } from './snapshots.ts'

interface ForgetFlags extends RepositoryOptions, SelectionOptions, PruneFlags {
  readonly keepLast?: KeepCount
  readonly keepHourly?: KeepCount
  readonly keepDaily?: KeepCount
  readonly keepWeekly?: KeepCount
  readonly keepMonthly?: KeepCount
  readonly keepYearly?: KeepCount
  readonly keepWithin?: string
  readonly keepWithinHourly?: string
  readonly keepWithinDaily?: string
  readonly keepWithinWeekly?: string
  readonly keepWithinMonthly?: string
  readonly keepWithinYearly?: string
  readonly keepTag?: readonly (readonly string[])[]
  readonly groupBy: string
  readonly prune?: true
  readonly compact?: true
  readonly unsafeAllowRemoveAll?: true
}

const retentionPeriods = ['hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const
const shortFlags = { last: '-l', hourly: '-H', daily: '-d', weekly: '-w', monthly: '-m', yearly: '-y' } as const

export function repoForgetCommand(run: RunCommand): Command {
  const text = 'Removes snapshots, by id or by a policy. Their data stays until a prune.'
  const command = repoCommand('forget', 'remove snapshots by a policy', text).argument('[ids...]', 'remove these')
  for (const period of ['last', ...retentionPeriods] as const) {
    const what = period === 'last' ? 'keep the newest n' : `keep the newest of each of the newest n ${period} periods`
    // restic's -H is taken by --host of the other commands; here it is hourly.
    const option = new Option(`${shortFlags[period]}, --keep-${period} <n>`, `${what}, or "unlimited"`)
    command.addOption(option.argParser(keepCount))
  }
  command.addOption(new Option('--keep-within <span>', 'keep what is newer, such as 1y5m7d2h, back from the latest'))
  for (const period of retentionPeriods) {
    command.addOption(new Option(`--keep-within-${period} <span>`, `keep the newest of each ${period} period in it`))
  }
  command
    .addOption(new Option('--keep-tag <tags>', 'keep those with all of these tags; repeatable').argParser(tagLists))
    .addOption(new Option('-g, --group-by <fields>', 'host, paths, tags; "" for none').default('host,paths'))
    .addOption(new Option('-c, --compact', 'without paths and reasons'))
    .addOption(new Option('-n, --dry-run', 'say what would be done, and do nothing'))
    .addOption(new Option('--prune', 'prune afterwards, if anything was removed'))
    .addOption(
      new Option('--unsafe-allow-remove-all', 'with --host, --tag or --path and no policy: remove all of these'),
    )
    .action((ids: readonly string[], options: ForgetFlags) =>
      runRepo(run)(options, (session) => forget(session, ids, options)),
    )
  withPruneOptions(withSelection(command, { hostFlag: '--host' }))
  return examples(command, [
    { line: 'stillpoint repo forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run', what: 'try a policy' },
    { line: 'stillpoint repo forget --keep-within 30d --prune', what: 'and free the space' },
  ])
}

async function policyOf(options: ForgetFlags): Promise<RetentionPolicy> {
  const { parseSpan } = await import('@stillpoint/repository')
  const span = (text: string | undefined) => (text === undefined ? undefined : parseSpan(text))
  const defined = <T>(values: Readonly<Record<string, T | undefined>>) =>
    Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))
  const counts = defined({
    hourly: options.keepHourly,
    daily: options.keepDaily,
    weekly: options.keepWeekly,
    monthly: options.keepMonthly,
    yearly: options.keepYearly,
  })
  const withinPeriods = defined({
    hourly: span(options.keepWithinHourly),
    daily: span(options.keepWithinDaily),
    weekly: span(options.keepWithinWeekly),
    monthly: span(options.keepWithinMonthly),
    yearly: span(options.keepWithinYearly),
  })
  return {
    ...(options.keepLast === undefined ? {} : { last: options.keepLast }),
    ...(options.keepWithin === undefined ? {} : { within: parseSpan(options.keepWithin) }),
    counts,
    withinPeriods,
    tags: options.keepTag ?? [],
  }
}

async function forget(session: CommandSession, ids: readonly string[], options: ForgetFlags) {
  const { isEmptyPolicy, parseGroupBy } = await import('@stillpoint/repository')
  const policy = await policyOf(options)
  if (ids.length > 0 && !isEmptyPolicy(policy)) {
    throw new Failure({ code: 'usage', message: 'give ids or a policy, not both' })
  }
  const groupBy = parseGroupBy(options.groupBy)
  const isAll = ids.length === 0 && isEmptyPolicy(policy)
  if (isAll) requireLeaveToRemoveAll(session, options)
  const repository = await openNamed(session, options)
  const decideAndRemove = async () => {
    const groups =
      ids.length > 0
        ? []
        : await byPolicy(session, repository, { policy: isAll ? 'remove_all' : policy, groupBy, options })
    const remove = ids.length > 0 ? await byId(session, repository, ids) : groups.flatMap((group) => group.remove)
    await removeThem(session, repository, { groups, remove, options })
  }
  // From the decision on, as restic: whoever forgets at the same time would decide by what we remove, and we by what is
  // gone; and what cannot be done is not told.
  if (options.dryRun === true) await decideAndRemove()
  else await repository.withLock('exclusive', decideAndRemove)
  return succeeded
}

/** Without a policy. @throws Failure `usage` unless it is allowed, and of what is selected only */
function requireLeaveToRemoveAll({ host }: CommandSession, options: ForgetFlags): void {
  if (options.unsafeAllowRemoveAll !== true) {
    throw new Failure({ code: 'usage', message: 'no policy was specified, no snapshots will be removed' })
  }
  const { hostnames = [], tags = [], paths = [] } = selectionOf(host, options)
  if (hostnames.length + tags.length + paths.length > 0) return
  throw new Failure({ code: 'usage', message: '--unsafe-allow-remove-all needs --host, --tag or --path' })
}

interface PolicyGiven {
  readonly policy: ForgetOptions['policy']
  readonly groupBy: readonly GroupField[]
  readonly options: ForgetFlags
}

async function byPolicy(
  session: CommandSession,
  repository: Repository,
  { policy, groupBy, options }: PolicyGiven,
): Promise<readonly ForgottenGroup[]> {
  const selection = selectionOf(session.host, options)
  const groups = await repository.upkeep.planForget({ policy, groupBy, selection })
  if (policy !== 'remove_all') for (const group of groups) refuseEmptying(group)
  const shown = { isGrouped: groupBy.length > 0, compact: options.compact === true }
  for (const group of groups) tell(session, group, shown)
  return groups
}

interface Removal {
  readonly groups: readonly ForgottenGroup[]
  readonly remove: readonly Snapshot[]
  readonly options: ForgetFlags
}

async function removeThem(
  session: CommandSession,
  repository: Repository,
  { groups, remove, options }: Removal,
): Promise<void> {
  const ids = remove.map(({ id }) => id)
  if (options.dryRun === true) session.output.message(`Would have removed ${ids.length} snapshots`)
  else await repository.upkeep.removeSnapshots(ids, session.host.signal)
  if (groups.length > 0) session.output.result(groups.map(groupJson))
  if (options.prune !== true || ids.length === 0) return
  await prune(session, repository, { ...pruneOptions(options), ignoreSnapshots: new Set(ids) })
}

async function byId({ output }: CommandSession, repository: Repository, ids: readonly string[]): Promise<Snapshot[]> {
  const named = [...(await repository.upkeep.resolveSnapshots(ids))]
  output.lines(named.map(({ id }) => `snapshot ${shortId(id)} will be removed`))
  return named
}

function refuseEmptying(group: ForgottenGroup): void {
  if (group.keep.length > 0 || group.remove.length === 0) return
  throw new Failure({
    code: 'forget_all_refused',
    message: `the policy keeps nothing of the ${groupTitle(group).replace(/:$/, '')}; no snapshot was removed`,
    hint: 'Check the policy. To remove all: --unsafe-allow-remove-all with --host, --tag or --path, and no policy.',
  })
}

function groupJson({ keep, remove, ...group }: ForgottenGroup) {
  const unlessNone = <T>(list: readonly T[]) => (list.length === 0 ? null : list)
  return {
    ...groupFields(group),
    keep: unlessNone(keep.map(({ snapshot }) => snapshotJson(snapshot))),
    remove: unlessNone(remove.map(snapshotJson)),
    reasons: unlessNone(keep.map(({ snapshot, reasons }) => ({ snapshot: snapshotJson(snapshot), matches: reasons }))),
  }
}

interface GroupShown {
  readonly isGrouped: boolean
  readonly compact: boolean
}

function tell({ output }: CommandSession, group: ForgottenGroup, { isGrouped, compact }: GroupShown): void {
  const { keep, remove } = group
  const width = output.terminal.stdout.columns()
  const reasons = new Map(keep.map(({ snapshot, reasons: why }) => [snapshot.id as string, why]))
  const kept = keep.map(({ snapshot }) => snapshot).reverse()
  output.lines([
    ...(isGrouped ? [groupTitle(group)] : []),
    ...(kept.length === 0
      ? []
      : [`keep ${kept.length} snapshots:`, ...snapshotTable(kept, { width, reasons, compact }), '']),
    ...(remove.length === 0
      ? []
      : [`remove ${remove.length} snapshots:`, ...snapshotTable([...remove].reverse(), { width, compact }), '']),
  ])
}
