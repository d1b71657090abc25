/** `stillpoint repo rewrite` */
import { Failure } from '@stillpoint/core/kernel'
import { type Command, Option } from 'commander'
import { countText, shortId } from '../quantities.ts'
import type { CommandSession, RunCommand } from '../session.ts'
import { excludeRules } from './backup-excludes.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { repeated, type SelectionOptions, selectionOf, withSelection } from './selection.ts'

interface RewriteFlags extends RepositoryOptions, SelectionOptions {
  readonly exclude?: readonly string[]
  readonly iexclude?: readonly string[]
  readonly excludeFile?: readonly string[]
  readonly iexcludeFile?: readonly string[]
  readonly forget?: true
  readonly dryRun?: true
}

export function repoRewriteCommand(run: RunCommand): Command {
  const text =
    'Writes snapshots anew without what matches. The old ones stay, unless --forget is given; data goes with a prune.'
  const many = (flags: string, what: string) => new Option(flags, `${what}; repeatable`).argParser(repeated)
  const command = repoCommand('rewrite', 'leave paths out of snapshots', text)
    .argument('[ids...]', 'only these snapshots; default: all')
    .addOption(many('-e, --exclude <pattern>', 'leave out what matches'))
    .addOption(many('--iexclude <pattern>', 'the same, whatever the case'))
    .addOption(many('--exclude-file <file>', 'file with a pattern per line'))
    .addOption(many('--iexclude-file <file>', 'the same, whatever the case'))
    .addOption(new Option('--forget', 'remove the old snapshots'))
    .addOption(new Option('-n, --dry-run', 'say what would be done, and do nothing'))
    .action((ids: readonly string[], options: RewriteFlags) =>
      runRepo(run)(options, (session) => rewrite(session, ids, options)),
    )
  return examples(withSelection(command), [
    { line: 'stillpoint repo rewrite --exclude "*.iso" --dry-run', what: 'what it would leave out' },
    { line: 'stillpoint repo rewrite --exclude /home/me/secret --forget latest', what: 'out of one snapshot' },
  ])
}

async function rewrite(session: CommandSession, ids: readonly string[], options: RewriteFlags) {
  const { host, output } = session
  const { byName } = await excludeRules(options, { cwd: host.cwd, targets: [] })
  if (byName === undefined) throw new Failure({ code: 'usage', message: 'nothing to do: give --exclude PATTERN' })
  const { upkeep } = await openNamed(session, options)
  const snapshots = await upkeep.resolveSnapshots(ids, selectionOf(host, options))
  const rewritten = await upkeep.rewrite({
    snapshots,
    exclude: byName,
    forget: options.forget === true,
    dryRun: options.dryRun === true,
    signal: host.signal,
  })
  const changed = rewritten.filter(({ excluded }) => excluded.length > 0)
  for (const { id, newId, excluded } of changed) {
    output.result({ message_type: 'rewritten', snapshot_id: id, new_snapshot_id: newId ?? null, excluded })
    const verb = options.dryRun ? 'would leave out' : 'leaves out'
    output.lines([
      ...excluded.map((path) => `excluding ${path}`),
      `snapshot ${shortId(id)}: ${newId === undefined ? verb : `${shortId(newId)} ${verb}`} ${countText(excluded.length, 'path')}`,
    ])
  }
  output.result({ message_type: 'summary', rewritten_snapshots: changed.length, dry_run: options.dryRun === true })
  output.lines([
    changed.length === 0 ? 'no snapshot has anything that matches' : `rewrote ${countText(changed.length, 'snapshot')}`,
    ...(options.dryRun ? ['nothing was changed (dry run)'] : []),
  ])
  return succeeded
}
