/** `stillpoint repo ls` */
import { Failure } from '@stillpoint/core/kernel'
import type { Repository, Snapshot } from '@stillpoint/repository'
import { type Command, Option } from 'commander'
import { plainText, shortId } from '../quantities.ts'
import type { CommandSession, RunCommand } from '../session.ts'
import { type ListedEntry, ncduListing } from './ncdu.ts'
import { writeToStdout } from './piped-output.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { type SelectionOptions, selectionOf, withSelection } from './selection.ts'
import { entryJson, longLine, snapshotJson } from './shown.ts'

interface LsFlags extends RepositoryOptions, SelectionOptions {
  readonly long?: true
  readonly humanReadable?: true
  readonly recursive?: true
  readonly ncdu?: true
}

export function repoLsCommand(run: RunCommand): Command {
  const command = repoCommand(
    'ls',
    'list what is in a snapshot',
    'Lists the entries of a snapshot, or of directories in it.',
  )
    .argument('<snapshot>', 'its id, the first digits, or "latest"')
    .argument('[dirs...]', 'only these directories, as absolute paths')
    .addOption(new Option('-l, --long', 'with mode, owner, size and time'))
    .addOption(new Option('--human-readable', 'sizes with units'))
    .addOption(new Option('--recursive', 'also what lies deeper below the directories'))
    .addOption(new Option('--ncdu', 'as a file that "ncdu -f" shows'))
    .action((id: string, dirs: readonly string[], options: LsFlags) =>
      runRepo(run, { isListing: true })(options, (session) => list(session, { id, dirs }, options)),
    )
  return examples(withSelection(command), [
    { line: 'stillpoint repo ls latest', what: 'everything' },
    { line: 'stillpoint repo ls -l latest /etc', what: 'one directory' },
    { line: 'stillpoint repo ls --ncdu latest | ncdu -f -', what: 'what takes the room, to walk about in' },
  ])
}

async function list(
  session: CommandSession,
  { id, dirs }: { readonly id: string; readonly dirs: readonly string[] },
  options: LsFlags,
) {
  const { host, output } = session
  if (options.ncdu === true && options.json === true) {
    throw new Failure({ code: 'usage', message: '--ncdu and --json exclude each other' })
  }
  const repository = await openNamed(session, options)
  const snapshot = await repository.upkeep.resolveSnapshot(id, selectionOf(host, options))
  const wanted = dirs.map(
    (dir) =>
      `/${dir
        .split('/')
        .filter((part) => part !== '')
        .join('/')}`,
  )
  const part: Part = { wanted, recursive: options.recursive === true, signal: host.signal }
  if (options.ncdu === true) {
    await writeToStdout(session, ncduListing(snapshot, entriesOf(repository, snapshot, { ...part, withWay: true })))
    return succeeded
  }
  output.result({ message_type: 'snapshot', ...snapshotJson(snapshot), struct_type: 'snapshot' })
  output.message(`snapshot ${shortId(snapshot.id)} of ${snapshot.paths.join(', ')}`)
  for await (const { path, node } of entriesOf(repository, snapshot, part)) {
    output.result(entryJson(node, path))
    output.lines([plainText(options.long === true ? longLine(node, path, options) : path)])
  }
  return succeeded
}

interface Part {
  /** Paths of directories; none: all. */
  readonly wanted: readonly string[]
  readonly recursive: boolean
  /** Also the directories that lead to the wanted ones. */
  readonly withWay?: boolean
  readonly signal: AbortSignal
}

async function* entriesOf(
  { upkeep }: Repository,
  { tree }: Snapshot,
  { wanted, recursive, withWay = false, signal }: Part,
): AsyncGenerator<ListedEntry> {
  const enter = ({ path }: { readonly path: string }) => isOnTheWay(path, wanted, recursive)
  for await (const { path, node } of upkeep.walk(tree, { signal, enter })) {
    const isWay = withWay && node.type === 'dir' && isOnTheWay(path, wanted, recursive)
    if (isWay || isListed(path, wanted, recursive)) yield { path, node }
  }
}

/** What lies in a wanted directory, and that itself. */
function isListed(path: string, wanted: readonly string[], recursive: boolean): boolean {
  if (wanted.length === 0) return true
  return wanted.some((dir) => {
    const prefix = dir === '/' ? '/' : `${dir}/`
    if (path === dir) return true
    return path.startsWith(prefix) && (recursive || !path.slice(prefix.length).includes('/'))
  })
}

function isOnTheWay(path: string, wanted: readonly string[], recursive: boolean): boolean {
  if (wanted.length === 0) return true
  return wanted.some(
    (dir) => `${dir}/`.startsWith(`${path}/`) || (recursive && (dir === '/' || path.startsWith(`${dir}/`))),
  )
}
