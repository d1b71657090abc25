/** `stillpoint repo backup` */
import { hostname, userInfo } from 'node:os'
import { resolve } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import type { BackupOptions, BackupReport, Repository, Snapshot } from '@stillpoint/repository'
import { type Command, Option } from 'commander'
import { type ExitCode, exitCodes } from '../exit-codes.ts'
import { bytesText, elapsedText, shortId } from '../quantities.ts'
import type { CommandSession, RunCommand } from '../session.ts'
import { localTime, size } from './arguments.ts'
import { type Estimate, estimate, hasManyEntries } from './backup-estimate.ts'
import { type ExcludeFlags, excludeRules, type GivenExcludes } from './backup-excludes.ts'
import { showStatus } from './backup-status.ts'
import { backupTargets, isGivenByLists, type TargetFlags } from './backup-targets.ts'
import { withLine } from './live-line.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo } from './repository-access.ts'
import { hostDefault, repeated, tagLists } from './selection.ts'
import { summaryJson, timeShown } from './shown.ts'
import { commandStream } from './stdin-command.ts'
import { tellError } from './told-errors.ts'
import { readConcurrencyOption, threadsFor } from './write-options.ts'

interface BackupFlags extends RepositoryOptions, ExcludeFlags, TargetFlags {
  readonly tag?: readonly (readonly string[])[]
  readonly host?: string
  readonly parent?: string
  readonly groupBy: string
  readonly force?: true
  readonly time?: string
  readonly stdin?: true
  readonly stdinFromCommand?: true
  readonly stdinFilename: string
  readonly withAtime?: true
  readonly ignoreCtime?: true
  readonly ignoreInode?: true
  readonly dryRun?: true
  readonly skipIfUnchanged?: true
  readonly readConcurrency?: number
  /** False with `--no-scan`. */
  readonly scan: boolean
}

export function repoBackupCommand(run: RunCommand): Command {
  const text =
    'Saves files and directories as one snapshot. Exit code 3: something could not be read; the rest is saved.'
  const command = repoCommand('backup', 'save files and directories', text)
    .argument('[paths...]', 'files and directories; with --stdin-from-command, the command and its arguments')
    .action((paths: readonly string[], options: BackupFlags) =>
      runRepo(run)(options, (session) => backup(session, paths, options)),
    )
  for (const option of backupOptions()) command.addOption(option)
  return examples(command, [
    { line: 'stillpoint repo backup /etc /home --exclude "*.tmp"', what: 'with $RESTIC_REPOSITORY set' },
    { line: 'pg_dump shop | stillpoint repo backup --stdin --stdin-filename shop.sql', what: 'a stream' },
    {
      line: 'stillpoint repo backup --stdin-from-command --stdin-filename shop.sql -- pg_dump shop',
      what: 'nothing is saved if the command fails',
    },
  ])
}

function backupOptions(): readonly Option[] {
  const many = (flags: string, what: string) => new Option(flags, `${what}; repeatable`).argParser(repeated)
  return [
    many('-e, --exclude <pattern>', 'leave out what matches'),
    many('--iexclude <pattern>', 'the same, whatever the case'),
    many('--exclude-file <file>', 'file with a pattern per line'),
    many('--iexclude-file <file>', 'the same, whatever the case'),
    new Option('--exclude-caches', 'leave out what is in directories marked with a CACHEDIR.TAG'),
    many('--exclude-if-present <name[:header]>', 'leave out what is in directories with such a file'),
    new Option('--exclude-larger-than <size>', 'leave out files larger than this').argParser(size),
    new Option('-x, --one-file-system', 'stay on the file systems of what is named'),
    many('--files-from <file>', 'file that lists what to save, patterns allowed'),
    many('--files-from-verbatim <file>', 'the same, a path per line as it is'),
    many('--files-from-raw <file>', 'the same, a NUL after each path'),
    new Option('--tag <tags>', 'tags for the snapshot, separated by commas; repeatable').argParser(tagLists),
    new Option('-H, --host <host>', 'host of the snapshot; default: $RESTIC_HOST, or this one'),
    new Option('--parent <id>', 'snapshot to compare with; default: the latest of the same group'),
    new Option('-g, --group-by <fields>', 'what the parent has in common: host, paths, tags').default('host,paths'),
    new Option('-f, --force', 'read every file, also unchanged ones'),
    new Option('--with-atime', 'save when files were last read'),
    new Option('--ignore-ctime', 'a file with another ctime is not taken for changed'),
    new Option('--ignore-inode', 'a file with another inode is not taken for changed'),
    readConcurrencyOption(),
    new Option('--time <time>', 'time of the snapshot, such as "2026-11-21 08:00:00"; default: now'),
    new Option('--stdin', 'save what comes from stdin'),
    new Option('--stdin-from-command', 'save what the command after "--" prints, if it ends well'),
    new Option('--stdin-filename <name>', 'name for that').default('stdin'),
    new Option('-n, --dry-run', 'read and count, and store nothing'),
    new Option('--skip-if-unchanged', 'make no snapshot where nothing differs from the parent'),
    new Option('--no-scan', 'do not count beforehand how much there is'),
  ]
}

async function backup(session: CommandSession, paths: readonly string[], options: BackupFlags): Promise<ExitCode> {
  const { source, stop } = await sourceOf(session, paths, options)
  try {
    return await save(session, source, options)
  } finally {
    await stop?.()
  }
}

async function save(session: CommandSession, source: BackupOptions['source'], options: BackupFlags): Promise<ExitCode> {
  const { host, output } = session
  const targets = source.kind === 'paths' ? source.paths : []
  const { texts, rules } = await excludeRules(options, { cwd: host.cwd, targets })
  const { timestampFromMs } = await import('@stillpoint/repository')
  const startTime = timestampFromMs(host.clock.wallMs())
  const time = options.time === undefined ? startTime : timestampFromMs(localTime(options.time))
  const startMs = host.clock.monotonicMs()
  const threads = threadsFor(options.readConcurrency)
  const absolute = targets.map((path) => resolve(host.cwd, path))
  const muchWork = await hasManyEntries(absolute)
  const repository = await openNamed(session, options, { muchWork, ...(threads === undefined ? {} : { threads }) })
  const hostName = options.host ?? hostDefault() ?? hostname()
  const paths = parentPaths(source, options, absolute)
  const parent = await parentOf(repository, { options, paths, hostName, time })
  if (paths.length > 0) {
    output.message(
      parent === undefined
        ? 'no parent snapshot found: all files are read'
        : `using parent snapshot ${shortId(parent.id)} of ${timeShown(parent.time)}`,
    )
  }
  const common: BackupOptions = {
    source,
    cwd: host.cwd,
    hostname: hostName,
    username: userInfo().username,
    tags: (options.tag ?? []).flat(),
    time,
    startTime,
    programVersion: 'stillpoint',
    signal: host.signal,
    excludes: texts,
    ...(parent === undefined ? {} : { parent }),
    ...(rules === undefined ? {} : { excludeRules: rules }),
    withAtime: options.withAtime === true,
    ignoreCtime: options.ignoreCtime === true,
    ignoreInode: options.ignoreInode === true,
    dryRun: options.dryRun === true,
    skipIfUnchanged: options.skipIfUnchanged === true,
  }
  const report = await showing(session, options, { repository, absolute, rules, common })
  for (const { path, failure } of report.problems) {
    tellError(session, { message: failure.message, during: 'archival', item: path })
  }
  for (const path of report.changed) output.message(`changed while it was read: ${path}`)
  for (const path of report.skipped) output.message(`not saved, for it is no file: ${path}`)
  const durationMs = host.clock.monotonicMs() - startMs
  tell(session, { report, isDryRun: options.dryRun === true, durationMs, verbosity: options.verbose ?? 0 })
  return report.problems.length > 0 ? exitCodes.partial : exitCodes.succeeded
}

interface Shown {
  readonly repository: Repository
  readonly absolute: readonly string[]
  readonly rules: GivenExcludes['rules']
  readonly common: BackupOptions
}

/** Runs the backup with its status shown; a count of what there is runs beside it, where somebody is told how far it is. */
async function showing(
  session: CommandSession,
  options: BackupFlags,
  { repository, absolute, rules, common }: Shown,
): Promise<BackupReport> {
  const { host, output } = session
  const isTold = output.json ? options.quiet !== true : output.terminal.stderr.isTTY
  const isCounted = options.scan && isTold && absolute.length > 0
  const total: Estimate | undefined = isCounted ? { files: 0, bytes: 0, isComplete: false } : undefined
  const ended = new AbortController()
  const signal = AbortSignal.any([host.signal, ended.signal])
  const startMs = host.clock.monotonicMs()
  const counting =
    total === undefined
      ? undefined
      : estimate(absolute, rules, { into: total, signal }).then(() => {
          const durationMs = host.clock.monotonicMs() - startMs
          if (total.isComplete && (options.verbose ?? 0) >= 2) output.result(scanFinished(total, durationMs))
        })
  try {
    return await withLine(session, (line) => {
      const verbosity = options.verbose ?? 0
      const status = showStatus(session, { line, total, verbosity, quiet: options.quiet === true })
      return repository.upkeep.backup({ ...common, onProgress: status.onProgress, onEntry: status.onEntry })
    })
  } finally {
    ended.abort()
    await counting
  }
}

function scanFinished({ files, bytes }: Estimate, durationMs: number): object {
  const counted = { data_size: bytes, total_files: files }
  return { message_type: 'verbose_status', action: 'scan_finished', item: '', duration: durationMs / 1000, ...counted }
}

async function sourceOf(
  { host, output }: CommandSession,
  paths: readonly string[],
  options: BackupFlags,
): Promise<{ readonly source: BackupOptions['source']; readonly stop?: () => Promise<void> }> {
  const usage = (message: string) => new Failure({ code: 'usage', message })
  const { stdinFilename: name, stdin, stdinFromCommand } = options
  if (stdin === true || stdinFromCommand === true) {
    if (stdin === stdinFromCommand) throw usage('--stdin and --stdin-from-command exclude each other')
    if (isGivenByLists(options)) throw usage('--stdin and --files-from exclude each other')
    if (stdin === true && paths.length > 0) throw usage('with --stdin nothing else can be saved')
    if (stdin === true) return { source: { kind: 'stream', name, stream: process.stdin } }
    if (paths.length === 0) throw usage('name the command after "--"')
    const { cwd, signal, clock } = host
    const { stream, stop } = commandStream({ command: paths, cwd, signal, clock })
    return { source: { kind: 'stream', name, stream }, stop }
  }
  const sources = { cwd: host.cwd, stdin: process.stdin, warn: (text: string) => output.warning(text) }
  const targets = await backupTargets(paths, options, sources)
  if (targets.includes('')) throw usage('an empty path names nothing')
  if (targets.length > 0) return { source: { kind: 'paths', paths: targets } }
  throw usage('name what to save: files and directories, --files-from or --stdin')
}

function ending({ id, isSealed }: BackupReport, isDryRun: boolean): string {
  if (isDryRun) return 'nothing was stored (dry run)'
  return isSealed ? `snapshot ${shortId(id)} saved` : `no snapshot: nothing differs from ${shortId(id)}`
}

interface ParentSearch {
  readonly options: BackupFlags
  readonly paths: readonly string[]
  readonly hostName: string
  readonly time: bigint
}

/** What the parent has been made of; nothing where there is none: of what comes from stdin nothing is known, as with restic. */
function parentPaths(
  source: BackupOptions['source'],
  { stdinFromCommand }: BackupFlags,
  absolute: readonly string[],
): readonly string[] {
  if (source.kind === 'paths') return absolute
  return stdinFromCommand === true ? [resolve('/', source.name)] : []
}

async function parentOf(
  repository: Repository,
  { options, paths: made, hostName, time }: ParentSearch,
): Promise<Snapshot | undefined> {
  if (options.force === true || made.length === 0) return undefined
  if (options.parent !== undefined) return repository.upkeep.resolveSnapshot(options.parent)
  const { parseGroupBy } = await import('@stillpoint/repository')
  const fields = parseGroupBy(options.groupBy)
  const setOf = (values: readonly string[]) => [...new Set(values)].sort().join('\n')
  const [paths, tags] = [setOf(made), setOf((options.tag ?? []).flat())]
  const same = (await repository.snapshots()).filter(
    (snapshot) =>
      snapshot.time <= time &&
      (!fields.includes('host') || snapshot.hostname === hostName) &&
      (!fields.includes('paths') || setOf(snapshot.paths) === paths) &&
      (!fields.includes('tags') || setOf(snapshot.tags) === tags),
  )
  return same.at(-1)
}

interface Told {
  readonly report: BackupReport
  readonly isDryRun: boolean
  readonly durationMs: number
  readonly verbosity: number
}

function tell({ output }: CommandSession, { report, isDryRun, durationMs, verbosity }: Told): void {
  const { files, dirs } = report.counts
  const { backup_start, backup_end, ...counted } = summaryJson(report.summary)
  output.result({
    message_type: 'summary',
    ...counted,
    total_duration: durationMs / 1000,
    backup_start,
    backup_end,
    ...(report.isSealed ? { snapshot_id: report.id } : {}),
    ...(isDryRun ? { dry_run: true } : {}),
  })
  const counts = ({ new: added, changed, unmodified }: typeof files) =>
    `${`${added}`.padStart(5)} new, ${`${changed}`.padStart(5)} changed, ${`${unmodified}`.padStart(5)} unmodified`
  const { bytes, storedBytes, dataBlobs, treeBlobs } = report.added
  const newBlobs = (name: string, blobs: number) => `${name} ${`${blobs}`.padStart(5)} new`
  output.lines([
    `Files:       ${counts(files)}`,
    `Dirs:        ${counts(dirs)}`,
    ...(verbosity < 1 ? [] : [newBlobs('Data Blobs: ', dataBlobs), newBlobs('Tree Blobs: ', treeBlobs)]),
    `${isDryRun ? 'Would add' : 'Added'} to the repository: ${bytesText(bytes)} (${bytesText(storedBytes)} stored)`,
    '',
    `processed ${report.files} files, ${bytesText(report.bytes)} in ${elapsedText(durationMs)}`,
    ending(report, isDryRun),
  ])
}
