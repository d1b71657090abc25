/** `stillpoint repo prune`, and its options, which `forget --prune` has too. */

import { Failure } from '@stillpoint/core/kernel'
import type { PruneAmount, PruneOptions, PruneReport, Repository, UnusedLimit } from '@stillpoint/repository'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { bytesText } from '../quantities.ts'
import type { CommandSession, RunCommand } from '../session.ts'
import { size, unusedLimit } from './arguments.ts'
import { withLine } from './live-line.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { type WriteOptions, writeSettingsOf } from './write-options.ts'

export interface PruneFlags {
  readonly maxUnused?: UnusedLimit
  readonly maxRepackSize?: number
  readonly repackCacheableOnly?: true
  readonly repackSmall?: true
  readonly repackSmallerThan?: number
  readonly repackUncompressed?: true
  readonly dryRun?: true
  /** The id of the repository, as proof that somebody has read what this does. */
  readonly unsafeRecoverNoFreeSpace?: string
}

export function withPruneOptions(command: Command): Command {
  return command
    .addOption(new Option('--max-unused <limit>', 'unused data that may stay; default: 5%').argParser(unusedLimit))
    .addOption(new Option('--max-repack-size <size>', 'repack no more than this').argParser(size))
    .addOption(new Option('--repack-cacheable-only', 'repack packs of trees only'))
    .addOption(new Option('--repack-small', 'repack packs of less than 80 % of the usual size, too'))
    .addOption(new Option('--repack-smaller-than <size>', 'repack packs of less than this, too').argParser(smallSize))
    .addOption(new Option('--repack-uncompressed', 'compress what is not compressed'))
}

export function repoPruneCommand(run: RunCommand): Command {
  const text =
    'Removes data that no snapshot refers to. It may be interrupted at any moment: nothing is lost, and the next one goes on.'
  const command = withPruneOptions(repoCommand('prune', 'remove data that nothing refers to', text))
    .addOption(new Option('-n, --dry-run', 'say what would be done, and do nothing'))
    .addOption(
      new Option(
        '--unsafe-recover-no-free-space <id>',
        'for a storage without room for an index file: delete each before it is replaced; docs/repo.md, "A full disk"',
      ),
    )
    .action((options: RepositoryOptions & PruneFlags) =>
      runRepo(run)(options, async (session) => {
        const chosen = pruneOptions(options)
        const repository = await openNamed(session, options)
        const { unsafeRecoverNoFreeSpace: id } = options
        if (id === undefined) await prune(session, repository, chosen)
        else await prune(session, repository, { ...chosen, withoutRoom: isIdOf(repository, id) })
        return succeeded
      }),
    )
  return examples(command, [
    { line: 'stillpoint repo prune --dry-run', what: 'what it would free' },
    { line: 'stillpoint repo prune --max-unused 0', what: 'free all that can be' },
  ])
}

/** @throws Failure `usage` */
function isIdOf({ id }: Repository, given: string): true {
  if (given === id) return true
  throw new Failure({
    code: 'usage',
    message: '--unsafe-recover-no-free-space takes the id of the repository, lest somebody gives it unread',
    hint: `Try without it first, and read docs/repo.md, "A full disk". The id is ${id}.`,
  })
}

function smallSize(text: string): number {
  const bytes = size(text)
  if (bytes > 0) return bytes
  throw new InvalidArgumentError('Give a size above 0.')
}

/** @throws Failure `usage` */
export function pruneOptions(flags: PruneFlags & WriteOptions): PruneOptions {
  const { compression, packBytes } = writeSettingsOf(flags)
  if (flags.repackUncompressed === true && compression === 'off') {
    const message = '--repack-uncompressed and --compression off exclude each other'
    throw new Failure({ code: 'usage', message })
  }
  if ((flags.repackSmallerThan ?? 0) > packBytes) {
    const message = `--repack-smaller-than is more than packs have: ${bytesText(packBytes)} (--pack-size)`
    throw new Failure({ code: 'usage', message })
  }
  return {
    dryRun: flags.dryRun === true,
    ...(flags.maxUnused === undefined ? {} : { maxUnused: flags.maxUnused }),
    ...(flags.maxRepackSize === undefined ? {} : { maxRepackBytes: flags.maxRepackSize }),
    repackTreesOnly: flags.repackCacheableOnly === true,
    repackSmall: flags.repackSmall === true,
    ...(flags.repackSmallerThan === undefined ? {} : { repackBelowBytes: flags.repackSmallerThan }),
    repackUncompressed: flags.repackUncompressed === true,
  }
}

export async function prune(
  session: CommandSession,
  repository: Repository,
  options: PruneOptions,
): Promise<PruneReport> {
  const report = await withLine(session, (line) =>
    repository.upkeep.prune({
      ...options,
      signal: session.host.signal,
      onProgress: ({ stage, done, total }) =>
        line.update(`${stage} ${done}${total === undefined ? '' : ` / ${total}`}`),
    }),
  )
  const amount = ({ blobs, bytes }: PruneAmount) => `${`${blobs}`.padStart(8)} blobs / ${bytesText(bytes)}`
  const total = {
    blobs: report.repackRemoves.blobs + report.toDelete.blobs,
    bytes: report.repackRemoves.bytes + report.toDelete.bytes,
  }
  session.output.result({ message_type: 'prune', ...report })
  session.output.lines([
    `to repack:        ${amount(report.toRepack)}`,
    `this removes:     ${amount(report.repackRemoves)}`,
    `to delete:        ${amount(report.toDelete)}`,
    `total prune:      ${amount(total)}`,
    `remaining:        ${amount(report.remaining)}`,
    `unused size after prune: ${bytesText(report.unusedAfterBytes)}`,
    report.isDryRun ? 'nothing was changed (dry run)' : 'done',
  ])
  if (report.wasFull) session.output.warning(roomWasShort(report))
  return report
}

function roomWasShort({ unusedAfterBytes }: PruneReport): string {
  const done = 'there was no room for new packs, so those that nothing uses were deleted first'
  if (unusedAfterBytes === 0) return done
  return `${done}; ${bytesText(unusedAfterBytes)} of unused data are left: forget more, or make room, and prune again`
}
