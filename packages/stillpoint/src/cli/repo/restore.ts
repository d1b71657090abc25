/** `stillpoint repo restore` */
import { resolve } from 'node:path'
import { Failure, isFailure } from '@stillpoint/core/kernel'
import type { LoadDirectoryOptions, Overwrite, Repository, TreeNode } from '@stillpoint/repository'
import { anyMatches, mayTellApartBelow, type PathPattern, parsePattern } from '@stillpoint/repository/selection'
import { type Command, Option } from 'commander'
import { type ExitCode, exitCodes } from '../exit-codes.ts'
import { countText, shortId } from '../quantities.ts'
import type { CommandSession, RunCommand } from '../session.ts'
import { type IncludeFlags, includePatterns, patternsOf } from './backup-excludes.ts'
import { withLine } from './live-line.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo } from './repository-access.ts'
import { createRestoreReport } from './restore-report.ts'
import { repeated, type SelectionOptions, selectionOf, withSelection } from './selection.ts'
import { resolvePart } from './snapshot-part.ts'
import { tellError, tellFailed } from './told-errors.ts'

interface RestoreFlags extends RepositoryOptions, SelectionOptions, IncludeFlags {
  readonly target: string
  readonly exclude?: readonly string[]
  readonly iexclude?: readonly string[]
  readonly excludeFile?: readonly string[]
  readonly iexcludeFile?: readonly string[]
  readonly includeXattr?: readonly string[]
  readonly excludeXattr?: readonly string[]
  readonly ownershipByName?: true
  readonly sparse?: true
  readonly overwrite: Overwrite
  readonly delete?: boolean
  readonly dryRun?: boolean
  readonly verify?: boolean
}

/** Not from the repository's package, which only commands that open one should load. */
const overwrites: readonly Overwrite[] = ['always', 'if-changed', 'if-newer', 'never']

type TreeId = Parameters<Repository['readTree']>[0]

export function repoRestoreCommand(run: RunCommand): Command {
  const text =
    'Restores a snapshot, or a directory of it (ID:/path), into a directory. Of files that are there already, only what ' +
    'differs is read from the repository and written.'
  const overwrite = 'what becomes of files that are there; if-changed: size and time tell whether they differ'
  const byName = 'owners and groups by their names, where this machine has such, else by number; ACLs by number'
  const command = repoCommand('restore', 'restore a snapshot into a directory', text)
    .argument('<snapshot>', 'its id, the first digits, or "latest"; ":/path" behind it for a part')
    .addOption(new Option('-t, --target <dir>', 'where to restore to').makeOptionMandatory())
    .addOption(new Option('-i, --include <pattern>', 'only what matches; repeatable').argParser(repeated))
    .addOption(new Option('--iinclude <pattern>', 'the same, whatever the case').argParser(repeated))
    .addOption(new Option('-e, --exclude <pattern>', 'leave out what matches; repeatable').argParser(repeated))
    .addOption(new Option('--iexclude <pattern>', 'the same, whatever the case').argParser(repeated))
    .addOption(new Option('--include-file <file>', 'file with a pattern per line; repeatable').argParser(repeated))
    .addOption(new Option('--iinclude-file <file>', 'the same, whatever the case').argParser(repeated))
    .addOption(new Option('--exclude-file <file>', 'file with a pattern per line; repeatable').argParser(repeated))
    .addOption(new Option('--iexclude-file <file>', 'the same, whatever the case').argParser(repeated))
    .addOption(new Option('--include-xattr <pattern>', 'only extended attributes of such names').argParser(repeated))
    .addOption(new Option('--exclude-xattr <pattern>', 'no extended attributes of such names').argParser(repeated))
    .addOption(new Option('--ownership-by-name', byName))
    .addOption(new Option('--sparse', 'taken and not needed: long runs of zeros always become holes'))
    .addOption(new Option('--overwrite <behaviour>', overwrite).choices(overwrites).default('always'))
    .addOption(new Option('--delete', 'remove what is in the target and not in the snapshot'))
    .addOption(new Option('-n, --dry-run', 'change nothing; say what would be done'))
    .addOption(new Option('--verify', 'read back what was restored, and compare'))
    .action((id: string, options: RestoreFlags) => runRepo(run)(options, (session) => restore(session, id, options)))
  return examples(withSelection(command), [
    { line: 'stillpoint repo restore latest --target /tmp/restored', what: 'everything' },
    { line: 'stillpoint repo restore latest --target out --include /etc/ssh', what: 'a part' },
    { line: 'stillpoint repo restore latest --target /srv/data --delete --dry-run', what: 'what going back would do' },
  ])
}

async function restore(session: CommandSession, id: string, options: RestoreFlags): Promise<ExitCode> {
  const { host, output } = session
  const { include, exclude } = await chosenBy(options, host.cwd)
  if (include.length > 0 && exclude.length > 0) {
    throw new Failure({ code: 'usage', message: '--include and --exclude exclude each other' })
  }
  if (options.dryRun === true && options.verify === true) {
    throw new Failure({ code: 'usage', message: '--dry-run and --verify exclude each other' })
  }
  const selectAttribute = attributesChosenBy(options)
  const repository = await openNamed(session, options, { muchWork: true })
  const snapshot = await resolvePart(repository, id, selectionOf(host, options))
  const { tree } = snapshot
  const select = await selector(repository, {
    tree,
    include,
    exclude,
    onNothing: () =>
      output.warning(
        'nothing in the snapshot matches --include: "ls" lists its paths, which need not be those of the source',
      ),
  })
  const target = resolve(host.cwd, options.target)
  if (options.delete === true && target === '/' && include.length === 0) {
    throw new Failure({ code: 'usage', message: '--delete with the target "/" needs --include' })
  }
  const doing = options.dryRun === true ? 'would restore' : 'restoring'
  output.message(`${doing} snapshot ${shortId(snapshot.id)} of ${snapshot.paths.join(', ')} to ${target}`)
  const report = createRestoreReport(session, {
    target,
    isDryRun: options.dryRun === true,
    isQuiet: options.quiet === true,
    verbose: options.verbose ?? 0,
  })
  const restored = await withLine(session, (line) =>
    repository.loadDirectory(tree, target, {
      overwrite: options.overwrite,
      dryRun: options.dryRun === true,
      verify: options.verify === true,
      ownershipByName: options.ownershipByName === true,
      ...(options.delete === true ? { delete: removable(include, exclude) } : {}),
      onProblem: 'continue',
      signal: host.signal,
      ...(select === undefined ? {} : { select }),
      ...(selectAttribute === undefined ? {} : { selectAttribute }),
      ...report.callbacks(line),
    }),
  )
  for (const { path: at, failure } of restored.problems) {
    const message = output.json ? failure.message : `${at}: ${failure.message}`
    tellError(session, { message, during: 'restore', item: `/${at}` })
  }
  for (const { path: at, reason } of restored.skipped) output.message(`not restored: ${at}: ${reason}`)
  report.summary(restored)
  if (restored.problems.length === 0) return exitCodes.succeeded
  return tellFailed(session, `there were ${countText(restored.problems.length, 'problem')}`)
}

/** As restic: what was not chosen is not removed. */
function removable(include: readonly PathPattern[], exclude: readonly PathPattern[]): (path: string) => boolean {
  if (include.length > 0) return (path) => anyMatches(include, `/${path}`)
  return (path) => !anyMatches(exclude, `/${path}`)
}

async function chosenBy(options: RestoreFlags, cwd: string) {
  const { exclude, excludeFile, iexclude, iexcludeFile } = options
  const excluded = { texts: exclude, files: excludeFile, ignoringCase: iexclude, filesIgnoringCase: iexcludeFile }
  return {
    include: await includePatterns(options, cwd),
    exclude: (await patternsOf(excluded, cwd)).patterns,
  }
}

/** As restic: what is not chosen is neither set nor removed. @throws Failure `usage`, `options_invalid` */
function attributesChosenBy({ includeXattr = [], excludeXattr = [] }: RestoreFlags) {
  const include = includeXattr.map((text) => parsePattern(text))
  const exclude = excludeXattr.map((text) => parsePattern(text))
  if (include.length > 0 && exclude.length > 0) {
    throw new Failure({ code: 'usage', message: '--include-xattr and --exclude-xattr exclude each other' })
  }
  if (include.length > 0) return (name: string) => anyMatches(include, name)
  return exclude.length > 0 ? (name: string) => !anyMatches(exclude, name) : undefined
}

interface Selecting {
  readonly tree: TreeId
  readonly include: readonly PathPattern[]
  readonly exclude: readonly PathPattern[]
  /** Called where nothing matches `include`. */
  readonly onNothing: () => void
}

/** With `include`, directories are made only where something in them is restored. */
async function selector(
  repository: Repository,
  { tree, include, exclude, onNothing }: Selecting,
): Promise<LoadDirectoryOptions['select']> {
  if (exclude.length > 0) return (path) => !anyMatches(exclude, `/${path}`)
  if (include.length === 0) return undefined
  const needed = new Set<string>()
  let isAnyMatched = false
  const walk = repository.upkeep.walk(tree, { enter: ({ path }) => mayTellApartBelow(include, path) })
  try {
    for await (const { path } of walk) {
      if (!anyMatches(include, path)) continue
      isAnyMatched = true
      for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) needed.add(path.slice(1, at))
    }
  } catch (error) {
    // Damage is reported where it is met by the restore; what lies beyond it may be missing from a partial one.
    if (!isFailure(error, 'object_damaged') && !isFailure(error, 'object_missing')) throw error
    return (path, node) => node.type === 'dir' || anyMatches(include, `/${path}`)
  }
  if (!isAnyMatched) onNothing()
  return (path: string, node: TreeNode) => (node.type === 'dir' && needed.has(path)) || anyMatches(include, `/${path}`)
}
