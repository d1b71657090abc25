/** `stillpoint repo find` */
import { Failure } from '@stillpoint/core/kernel'
import type { Repository, Snapshot, TreeNode, WalkedNode } from '@stillpoint/repository'
import { anyMatches, parsePattern } from '@stillpoint/repository/selection'
import { type Command, Option } from 'commander'
import { exitCodes } from '../exit-codes.ts'
import { plainText, shortId } from '../quantities.ts'
import type { CommandSession, RunCommand } from '../session.ts'
import { moment } from './arguments.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { repeated, type SelectionOptions, selectionOf, withSelection } from './selection.ts'
import { longLine, matchJson, timeJson, timeShown } from './shown.ts'

interface FindFlags extends RepositoryOptions, SelectionOptions {
  readonly snapshot?: readonly string[]
  readonly ignoreCase?: true
  readonly long?: true
  readonly blob?: true
  readonly tree?: true
  readonly pack?: true
  readonly showPackId?: true
  readonly humanReadable?: true
  /** Milliseconds since 1970. */
  readonly oldest?: number
  readonly newest?: number
  readonly reverse?: true
}

export function repoFindCommand(run: RunCommand): Command {
  const command = repoCommand('find', 'find files, or what a blob, tree or pack belongs to', 'Looks through snapshots.')
    .argument('<patterns...>', 'patterns for paths; or ids')
    .addOption(new Option('-s, --snapshot <id>', 'only in this snapshot; repeatable').argParser(repeated))
    .addOption(new Option('-i, --ignore-case', 'whatever the case'))
    .addOption(new Option('-l, --long', 'with mode, owner, size and time'))
    .addOption(new Option('--human-readable', 'sizes with units'))
    .addOption(new Option('-R, --reverse', 'the oldest snapshot first, not the newest'))
    .addOption(new Option('-O, --oldest <time>', 'not modified before').argParser(moment))
    .addOption(new Option('-N, --newest <time>', 'not modified after').argParser(moment))
    .addOption(new Option('--blob', 'ids are of blobs').conflicts(['tree', 'pack']))
    .addOption(new Option('--tree', 'ids are of trees').conflicts(['blob', 'pack']))
    .addOption(new Option('--pack', 'ids are of packs'))
    .addOption(new Option('--show-pack-id', 'with --blob and --tree: in which packs they are'))
    .action((patterns: readonly string[], options: FindFlags) =>
      runRepo(run, { isListing: true })(options, (session) => find(session, patterns, options)),
    )
  return examples(withSelection(command), [
    { line: "stillpoint repo find '*.conf'", what: 'in all snapshots' },
    { line: 'stillpoint repo find --pack 025c1d06', what: 'what is lost with a pack' },
  ])
}

async function find(session: CommandSession, patterns: readonly string[], options: FindFlags) {
  const { oldest = Number.NEGATIVE_INFINITY, newest = Number.POSITIVE_INFINITY } = options
  if (oldest > newest) throw new Failure({ code: 'usage', message: '--oldest is later than --newest' })
  const repository = await openNamed(session, options)
  const selection = selectionOf(session.host, options)
  const found = await repository.upkeep.resolveSnapshots(options.snapshot ?? [], selection)
  const direction = options.reverse === true ? 1 : -1
  const snapshots = [...found].sort((left, right) => direction * Number(left.time - right.time))
  const isById = options.blob === true || options.tree === true || options.pack === true
  let isAllRead = true
  const walk = (snapshot: Snapshot) =>
    repository.upkeep.walk(snapshot.tree, {
      signal: session.host.signal,
      onUnreadable({ message }, { tree, path }) {
        isAllRead = false
        const where = `tree ${tree}, ${path} of snapshot ${shortId(snapshot.id)}`
        session.output.warning(`nothing was looked for in ${where}: ${message}`)
      },
    })
  const search = { repository, snapshots, patterns, options, walk }
  await (isById ? findObjects(session, search) : findPaths(session, search))
  return isAllRead ? succeeded : exitCodes.failed
}

interface Search {
  readonly repository: Repository
  readonly snapshots: readonly Snapshot[]
  readonly patterns: readonly string[]
  readonly options: FindFlags
  walk(snapshot: Snapshot): AsyncIterable<WalkedNode>
}

async function findPaths({ output }: CommandSession, search: Search): Promise<void> {
  const { snapshots, options } = search
  const ignoreCase = options.ignoreCase === true
  const patterns = search.patterns.map((text) => parsePattern(text, { ignoreCase }))
  const [from, to] = [nanoseconds(options.oldest), nanoseconds(options.newest)]
  const isInTime = ({ mtime }: TreeNode) => (from === undefined || mtime >= from) && (to === undefined || mtime <= to)
  const found: object[] = []
  for (const snapshot of snapshots) {
    const matches: WalkedNode[] = []
    for await (const walked of search.walk(snapshot)) {
      if (!anyMatches(patterns, walked.path)) continue
      if (isInTime(walked.node)) matches.push(walked)
    }
    if (matches.length === 0) continue
    const matched = matches.map(({ node, path }) => matchJson(node, path))
    found.push({ matches: matched, hits: matches.length, snapshot: snapshot.id })
    const head = `Found matching entries in snapshot ${shortId(snapshot.id)} from ${timeShown(snapshot.time)}`
    output.lines([
      ...(options.quiet === true ? [] : [...(found.length > 1 ? [''] : []), head]),
      ...matches.map(({ node, path }) => plainText(options.long === true ? longLine(node, path, options) : path)),
    ])
  }
  output.result(found)
}

function nanoseconds(ms: number | undefined): bigint | undefined {
  return ms === undefined ? undefined : BigInt(ms) * 1_000_000n
}

interface FoundObject {
  readonly type: 'blob' | 'tree'
  readonly id: string
}

async function findObjects({ output }: CommandSession, search: Search): Promise<void> {
  const { repository, snapshots, patterns, options } = search
  for (const id of patterns) {
    if (!/^[0-9a-f]{4,64}$/.test(id)) throw new Failure({ code: 'usage', message: `${JSON.stringify(id)} is no id` })
  }
  const absent = new Set(options.pack === true ? await packsNotThere(repository, patterns) : [])
  const isWanted = (id: string, type: 'data' | 'tree') => {
    const ids = options.pack === true ? repository.upkeep.packsOf(id, type) : [id]
    const prefixes = patterns.filter((prefix) => ids.some((each) => each.startsWith(prefix)))
    for (const prefix of prefixes) absent.delete(prefix)
    return prefixes.length > 0
  }
  const found: object[] = []
  for (const snapshot of snapshots) {
    const tell = (object: FoundObject, walked: WalkedNode | undefined) => {
      const path = walked?.path ?? '/'
      const packs = options.showPackId === true ? packsOf(repository, object) : []
      found.push({
        object_type: object.type,
        id: object.id,
        path,
        ...(walked === undefined || object.type === 'tree' ? {} : { parent_tree: walked.parent }),
        snapshot: snapshot.id,
        time: timeJson(snapshot.time),
        ...(options.showPackId === true ? { packs } : {}),
      })
      output.lines([
        `Found ${object.type} ${object.id}`,
        ...(object.type === 'tree' || walked === undefined
          ? [` ... path ${plainText(path)}`]
          : [` ... in file ${plainText(path)}`, `     (tree ${walked.parent})`]),
        ` ... in snapshot ${shortId(snapshot.id)} (${timeShown(snapshot.time)})`,
        ...packs.map((pack) => ` ... in pack ${pack}`),
      ])
    }
    if (options.blob !== true && isWanted(snapshot.tree, 'tree')) tell({ type: 'tree', id: snapshot.tree }, undefined)
    for await (const walked of search.walk(snapshot)) {
      for (const object of objectsOf(walked.node, options)) {
        if (isWanted(object.id, object.type === 'tree' ? 'tree' : 'data')) tell(object, walked)
      }
    }
  }
  // Lost ones are found by what the index says of them.
  const [never] = absent
  if (never !== undefined) throw new Failure({ code: 'object_missing', message: `there is no pack ${never}` })
  output.result(found)
}

async function packsNotThere({ upkeep }: Repository, prefixes: readonly string[]): Promise<readonly string[]> {
  const packs = await upkeep.listObjects('pack')
  return prefixes.filter((prefix) => !packs.some((pack) => pack.startsWith(prefix)))
}

function packsOf({ upkeep }: Repository, { type, id }: FoundObject): readonly string[] {
  return upkeep.packsOf(id, type === 'tree' ? 'tree' : 'data')
}

function objectsOf(node: TreeNode, { blob, tree }: FindFlags): readonly FoundObject[] {
  if (node.type === 'file' && tree !== true) return [...new Set(node.content)].map((id) => ({ type: 'blob', id }))
  return node.type === 'dir' && blob !== true ? [{ type: 'tree', id: node.subtree }] : []
}
