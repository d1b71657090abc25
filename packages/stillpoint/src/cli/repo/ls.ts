/** `stillpoint repo ls` */
import { type Command, Option } from 'commander'
import { plainText, shortId } from '../quantities.ts'
import type { CommandSession, RunCommand } from '../session.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { type SelectionOptions, selectionOf, withSelection } from './selection.ts'
import { entryJson, longLine, snapshotJson } from './shown.ts'

interface LsFlags extends RepositoryOptions, SelectionOptions {
  readonly long?: true
  readonly humanReadable?: true
  readonly recursive?: true
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
    .action((id: string, dirs: readonly string[], options: LsFlags) =>
      runRepo(run, { isListing: true })(options, (session) => list(session, { id, dirs }, options)),
    )
  return examples(withSelection(command), [
    { line: 'stillpoint repo ls latest', what: 'everything' },
    { line: 'stillpoint repo ls -l latest /etc', what: 'one directory' },
  ])
}

async function list(
  session: CommandSession,
  { id, dirs }: { readonly id: string; readonly dirs: readonly string[] },
  options: LsFlags,
) {
  const { host, output } = session
  const repository = await openNamed(session, options)
  const snapshot = await repository.upkeep.resolveSnapshot(id, selectionOf(host, options))
  const wanted = dirs.map(
    (dir) =>
      `/${dir
        .split('/')
        .filter((part) => part !== '')
        .join('/')}`,
  )
  output.result({ message_type: 'snapshot', ...snapshotJson(snapshot), struct_type: 'snapshot' })
  output.message(`snapshot ${shortId(snapshot.id)} of ${snapshot.paths.join(', ')}`)
  const enter = ({ path }: { readonly path: string }) => isOnTheWay(path, wanted, options.recursive === true)
  for await (const { path, node } of repository.upkeep.walk(snapshot.tree, { signal: host.signal, enter })) {
    if (!isListed(path, wanted, options.recursive === true)) continue
    output.result(entryJson(node, path))
    output.lines([plainText(options.long === true ? longLine(node, path, options) : path)])
  }
  return succeeded
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
