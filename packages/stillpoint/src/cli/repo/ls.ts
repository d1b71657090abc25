/** `stillpoint repo ls` */
import { Failure } from '@stillpoint/core/kernel'
import type { Repository, Snapshot } from '@stillpoint/repository'
import { type Command, Option } from 'commander'
import { plainText, shortId } from '../quantities.ts'
import type { CommandSession, RunCommand } from '../session.ts'
import { inOrder, type ListOrder, type SortKey, sortKeys } from './ls-order.ts'
import { type ListedEntry, ncduListing } from './ncdu.ts'
import { writeToStdout } from './piped-output.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { type SelectionOptions, selectionOf, withSelection } from './selection.ts'
import { entryJson, longLine, snapshotJson } from './shown.ts'
import { resolvePart } from './snapshot-part.ts'

interface LsFlags extends RepositoryOptions, SelectionOptions {
  readonly long?: true
  readonly humanReadable?: true
  readonly recursive?: true
  readonly ncdu?: true
  readonly sort?: SortKey
  readonly reverse?: true
}

export function repoLsCommand(run: RunCommand): Command {
  const command = repoCommand(
    'ls',
    'list what is in a snapshot',
    'Lists the entries of a snapshot, or of directories in it, while they are read. To sort or reverse them all are kept in memory first.',
  )
    .argument('<snapshot>', 'its id, the first digits, or "latest"; also of a directory in it: ID:/directory')
    .argument('[dirs...]', 'only these directories, as absolute paths')
    .addOption(new Option('-l, --long', 'with mode, owner, size and time'))
    .addOption(new Option('--human-readable', 'sizes with units'))
    .addOption(new Option('--recursive', 'also what lies deeper below the directories'))
    .addOption(new Option('--ncdu', 'as a file that "ncdu -f" shows'))
    .addOption(new Option('-s, --sort <key>', 'by this; "time" is "mtime"; default: name').choices(sortKeys))
    .addOption(new Option('--reverse', 'the last one first'))
    .action((id: string, dirs: readonly string[], options: LsFlags) =>
      runRepo(run, { isListing: true })(options, (session) => list(session, { id, dirs }, options)),
    )
  return examples(withSelection(command), [
    { line: 'stillpoint repo ls latest', what: 'everything' },
    { line: 'stillpoint repo ls -l latest /etc', what: 'one directory' },
    { line: 'stillpoint repo ls -l --sort size --reverse latest', what: 'the largest first' },
    { line: 'stillpoint repo ls --ncdu latest | ncdu -f -', what: 'what takes the room, to walk about in' },
  ])
}

async function list(
  session: CommandSession,
  { id, dirs }: { readonly id: string; readonly dirs: readonly string[] },
  options: LsFlags,
) {
  const { host, output } = session
  const order: ListOrder = { sort: options.sort ?? 'name', reverse: options.reverse === true }
  requireOneForm(options, order)
  const repository = await openNamed(session, options)
  const snapshot = await resolvePart(repository, id, selectionOf(host, options))
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
  output.result({ ...snapshotJson(snapshot), message_type: 'snapshot', struct_type: 'snapshot' })
  output.message(`snapshot ${shortId(snapshot.id)} of ${snapshot.paths.join(', ')}`)
  const textOf = ({ path, node }: ListedEntry) =>
    output.json
      ? JSON.stringify(entryJson(node, path))
      : plainText(options.long === true ? longLine(node, path, options) : path)
  await writeToStdout(session, inPieces(inOrder(entriesOf(repository, snapshot, part), order, textOf)))
  return succeeded
}

/** @throws Failure `usage` */
function requireOneForm({ ncdu, json }: LsFlags, { sort, reverse }: ListOrder): void {
  if (ncdu !== true) return
  const other = json === true ? '--json' : sort !== 'name' ? '--sort' : reverse ? '--reverse' : undefined
  if (other === undefined) return
  throw new Failure({ code: 'usage', message: `--ncdu and ${other} exclude each other` })
}

/** What is gathered before it is given out. */
const pieceCharacters = 1 << 16

async function* inPieces(lines: AsyncIterable<string>): AsyncGenerator<Uint8Array> {
  let text = ''
  for await (const line of lines) {
    text += `${line}\n`
    if (text.length < pieceCharacters) continue
    yield Buffer.from(text, 'utf8')
    text = ''
  }
  if (text !== '') yield Buffer.from(text, 'utf8')
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
