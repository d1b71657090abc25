/** `stillpoint repo backup` */
import { readFile } from 'node:fs/promises'
import { hostname, userInfo } from 'node:os'
import { resolve } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import type { BackupReport, Repository, Snapshot } from '@stillpoint/repository'
import { type Command, Option } from 'commander'
import { type ExitCode, exitCodes } from '../exit-codes.ts'
import { bytesText, elapsedText, shortId } from '../quantities.ts'
import type { CommandSession, RunCommand } from '../session.ts'
import { withLine } from './live-line.ts'
import { anyMatches, parsePattern } from './path-pattern.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo } from './repository-access.ts'
import { repeated, tagLists } from './selection.ts'

interface BackupFlags extends RepositoryOptions {
  readonly exclude?: readonly string[]
  readonly iexclude?: readonly string[]
  readonly excludeFile?: readonly string[]
  readonly tag?: readonly (readonly string[])[]
  readonly host?: string
  readonly parent?: string
  readonly force?: true
  readonly time?: string
  readonly stdin?: true
  readonly stdinFilename: string
}

export function repoBackupCommand(run: RunCommand): Command {
  const text =
    'Saves files and directories as one snapshot. Exit code 3: something could not be read; the rest is saved.'
  const command = repoCommand('backup', 'save files and directories', text)
    .argument('[paths...]', 'files and directories')
    .addOption(new Option('-e, --exclude <pattern>', 'leave out what matches; repeatable').argParser(repeated))
    .addOption(new Option('--iexclude <pattern>', 'the same, whatever the case').argParser(repeated))
    .addOption(new Option('--exclude-file <file>', 'file with a pattern per line; repeatable').argParser(repeated))
    .addOption(new Option('--tag <tags>', 'tags for the snapshot, separated by commas; repeatable').argParser(tagLists))
    .addOption(new Option('-H, --host <host>', 'host of the snapshot; default: this one'))
    .addOption(new Option('--parent <id>', 'snapshot to compare with; default: the latest of the same paths'))
    .addOption(new Option('-f, --force', 'read every file, also unchanged ones'))
    .addOption(new Option('--time <time>', 'time of the snapshot, such as "2026-11-21 08:00:00"; default: now'))
    .addOption(new Option('--stdin', 'save what comes from stdin'))
    .addOption(new Option('--stdin-filename <name>', 'name for that').default('stdin'))
    .action((paths: readonly string[], options: BackupFlags) =>
      runRepo(run)(options, (session) => backup(session, paths, options)),
    )
  return examples(command, [
    { line: 'stillpoint repo backup /etc /home --exclude "*.tmp"', what: 'with $RESTIC_REPOSITORY set' },
    { line: 'pg_dump shop | stillpoint repo backup --stdin --stdin-filename shop.sql', what: 'a stream' },
  ])
}

async function backup(session: CommandSession, paths: readonly string[], options: BackupFlags): Promise<ExitCode> {
  const { host, output } = session
  if ((options.stdin === true) === paths.length > 0) {
    throw new Failure({ code: 'usage', message: 'name what to save: files and directories, or --stdin' })
  }
  const patterns = await excludePatterns(session, options)
  const { timestampFromMs } = await import('@stillpoint/repository')
  const time = timestampFromMs(options.time === undefined ? host.clock.wallMs() : parseTime(options.time))
  const startMs = host.clock.monotonicMs()
  const repository = await openNamed(session, options)
  const absolute = paths.map((path) => resolve(host.cwd, path))
  const hostName = options.host ?? hostname()
  const parent = await parentOf(repository, { options, absolute, hostName, time })
  const report = await withLine(session, (line) =>
    repository.upkeep.backup({
      source: options.stdin
        ? { kind: 'stream', name: options.stdinFilename, stream: process.stdin }
        : { kind: 'paths', paths },
      cwd: host.cwd,
      hostname: hostName,
      username: userInfo().username,
      tags: (options.tag ?? []).flat(),
      time,
      programVersion: 'stillpoint',
      signal: host.signal,
      ...(parent === undefined ? {} : { parent }),
      ...(patterns.length === 0 ? {} : { exclude: (path: string) => anyMatches(patterns, path) }),
      onProgress: ({ files, bytes, path }) => line.update(`${files} files, ${bytesText(bytes)}  ${path}`),
    }),
  )
  const durationMs = host.clock.monotonicMs() - startMs
  for (const { path, failure } of report.problems) {
    output.warning(failure.message)
    output.result({ message_type: 'error', error: { message: failure.message }, during: 'archival', item: path })
  }
  for (const path of report.changed) output.message(`changed while it was read: ${path}`)
  for (const path of report.skipped) output.message(`not saved, for it is no file: ${path}`)
  await tell(session, { repository, report, parent, durationMs })
  return report.problems.length > 0 ? exitCodes.partial : exitCodes.succeeded
}

async function excludePatterns(session: CommandSession, options: BackupFlags) {
  const texts = [...(options.exclude ?? [])]
  for (const file of options.excludeFile ?? []) {
    const lines = (await readFile(resolve(session.host.cwd, file), 'utf8')).split('\n')
    texts.push(...lines.map((line) => line.trim()).filter((line) => line !== '' && !line.startsWith('#')))
  }
  const ignoring = (options.iexclude ?? []).map((text) => parsePattern(text, { ignoreCase: true }))
  return [...texts.map((text) => parsePattern(text)), ...ignoring]
}

function parseTime(text: string): number {
  const [, date, clock] = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)$/.exec(text) ?? []
  const ms = Date.parse(date === undefined ? 'none' : `${date}T${clock}`)
  if (!Number.isNaN(ms)) return ms
  throw new Failure({ code: 'usage', message: `${JSON.stringify(text)} is no time; write 2026-11-21 08:00:00` })
}

interface ParentSearch {
  readonly options: BackupFlags
  readonly absolute: readonly string[]
  readonly hostName: string
  readonly time: bigint
}

async function parentOf(
  repository: Repository,
  { options, absolute, hostName, time }: ParentSearch,
): Promise<Snapshot | undefined> {
  if (options.force === true || options.stdin === true) return undefined
  if (options.parent !== undefined) return repository.upkeep.resolveSnapshot(options.parent)
  const wanted = [...new Set(absolute)].sort().join('\n')
  const same = (await repository.snapshots()).filter(
    (snapshot) =>
      snapshot.hostname === hostName && snapshot.time <= time && [...snapshot.paths].sort().join('\n') === wanted,
  )
  return same.at(-1)
}

interface Told {
  readonly repository: Repository
  readonly report: BackupReport
  readonly parent: Snapshot | undefined
  readonly durationMs: number
}

async function tell({ output }: CommandSession, { repository, report, parent, durationMs }: Told): Promise<void> {
  const counts = await countsOf(repository, { report, parent })
  output.result({
    message_type: 'summary',
    ...counts,
    data_blobs: report.added.dataBlobs,
    tree_blobs: report.added.treeBlobs,
    data_added: report.added.bytes,
    data_added_packed: report.added.storedBytes,
    total_files_processed: report.files,
    total_bytes_processed: report.bytes,
    total_duration: durationMs / 1000,
    snapshot_id: report.id,
  })
  const files = [counts.files_new, counts.files_changed, counts.files_unmodified].map((count) => `${count}`.padStart(5))
  const dirs = [counts.dirs_new, counts.dirs_changed, counts.dirs_unmodified].map((count) => `${count}`.padStart(5))
  output.lines([
    ...(parent === undefined ? [] : [`using parent snapshot ${shortId(parent.id)}`, '']),
    `Files:       ${files[0]} new, ${files[1]} changed, ${files[2]} unmodified`,
    `Dirs:        ${dirs[0]} new, ${dirs[1]} changed, ${dirs[2]} unmodified`,
    `Added to the repository: ${bytesText(report.added.bytes)} (${bytesText(report.added.storedBytes)} stored)`,
    '',
    `processed ${report.files} files, ${bytesText(report.bytes)} in ${elapsedText(durationMs)}`,
    `snapshot ${shortId(report.id)} saved`,
  ])
}

/** How the snapshot differs from its parent. */
async function countsOf(repository: Repository, { report, parent }: Pick<Told, 'report' | 'parent'>) {
  let files = 0
  let dirs = 0
  for await (const { node } of repository.upkeep.walk(report.tree)) {
    if (node.type === 'file') files += 1
    if (node.type === 'dir') dirs += 1
  }
  if (parent === undefined) {
    const none = { files_changed: 0, files_unmodified: 0, dirs_changed: 0, dirs_unmodified: 0 }
    return { files_new: files, dirs_new: dirs, ...none }
  }
  const { tree } = parent
  const diff = await repository.upkeep.diff({ from: tree, to: report.tree, onChange: () => {} })
  return {
    files_new: diff.added.files,
    files_changed: diff.changedFiles,
    files_unmodified: files - diff.added.files - diff.changedFiles,
    dirs_new: diff.added.dirs,
    dirs_changed: diff.changedDirs,
    dirs_unmodified: dirs - diff.added.dirs - diff.changedDirs,
  }
}
