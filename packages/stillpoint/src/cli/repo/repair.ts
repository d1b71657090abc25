/** `stillpoint repo repair index|packs|snapshots` */
import { open } from 'node:fs/promises'
import { resolve } from 'node:path'
import { Command, Option } from 'commander'
import { type ExitCode, exitCodes } from '../exit-codes.ts'
import { countText, plainText, shortId } from '../quantities.ts'
import type { CommandSession, RunCommand } from '../session.ts'
import { withLine } from './live-line.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { type SelectionOptions, selectionOf, withSelection } from './selection.ts'

interface IndexFlags extends RepositoryOptions {
  readonly readAllPacks?: true
  readonly dryRun?: true
}
interface SnapshotFlags extends RepositoryOptions, SelectionOptions {
  readonly forget?: true
  readonly dryRun?: true
}

const dryRun = () => new Option('-n, --dry-run', 'say what would be done, and do nothing')

/** restic's word for `repair index` before 0.16. */
export function repoRebuildIndexCommand(run: RunCommand): Command {
  const command = indexCommand(run, 'rebuild-index').summary('the same as repair index')
  return examples(command, [{ line: 'stillpoint repo rebuild-index', what: 'as older restic has it' }])
}

function indexCommand(run: RunCommand, name: string): Command {
  const text = 'Makes the index right again from the packs that are there.'
  return repoCommand(name, 'make the index right again', text)
    .addOption(new Option('--read-all-packs', 'trust no index file: read the header of every pack'))
    .addOption(dryRun())
    .action((options: IndexFlags) => runRepo(run)(options, (session) => repairIndex(session, options)))
}

export function repoRepairCommand(run: RunCommand): Command {
  const index = indexCommand(run, 'index')
  const packsText =
    'Moves what is sound in damaged packs into new ones, and deletes them. A copy of each stays in the working directory.'
  const packs = repoCommand('packs', 'salvage damaged packs', packsText)
    .argument('<ids...>', 'ids of packs, in full')
    .action((ids: readonly string[], options: RepositoryOptions) =>
      runRepo(run)(options, (session) => repairPacks(session, ids, options)),
    )
  const snapshotsText =
    'Writes damaged snapshots anew without what is lost: unreadable directories become empty, files lose what is missing.'
  const snapshots = repoCommand('snapshots', 'leave out what is lost', snapshotsText)
    .argument('[ids...]', 'only these snapshots')
    .addOption(new Option('--forget', 'remove the damaged ones'))
    .addOption(dryRun())
    .action((ids: readonly string[], options: SnapshotFlags) =>
      runRepo(run)(options, (session) => repairSnapshots(session, ids, options)),
    )
  const group = new Command('repair')
    .summary('repair a damaged repository')
    .description('Repairs a damaged repository.')
  group.addCommand(
    examples(index, [{ line: 'stillpoint repo repair index', what: 'after index files or packs were lost' }]),
  )
  group.addCommand(
    examples(packs, [{ line: 'stillpoint repo repair packs ID', what: 'after check --read-data named it' }]),
  )
  group.addCommand(
    examples(withSelection(snapshots), [
      { line: 'stillpoint repo repair snapshots --forget', what: 'after the index' },
    ]),
  )
  return group
}

async function repairIndex(session: CommandSession, options: IndexFlags): Promise<ExitCode> {
  const { host, output } = session
  const repository = await openNamed(session, options, { forRepair: true })
  const report = await withLine(session, (line) =>
    repository.upkeep.repairIndex({
      readAllPacks: options.readAllPacks === true,
      dryRun: options.dryRun === true,
      signal: host.signal,
      onProgress: ({ stage, done, total }) => line.update(`${stage} ${done} / ${total}`),
    }),
  )
  for (const { failure } of report.unreadablePacks) output.warning(failure.message)
  output.result({
    message_type: 'repair_index',
    damaged_indexes: report.damagedFiles,
    missing_packs: report.missingPacks,
    packs_read: report.packsRead,
    unreadable_packs: report.unreadablePacks.map(({ id }) => id),
    packs: report.packs,
    indexes_written: report.filesWritten,
    indexes_removed: report.filesRemoved,
  })
  output.lines([
    `${countText(report.damagedFiles.length, 'damaged index file')}, ${countText(report.missingPacks.length, 'missing pack')}`,
    `read the headers of ${countText(report.packsRead.length, 'pack')}; the index has ${countText(report.packs, 'pack')}`,
    options.dryRun === true ? 'nothing was changed (dry run)' : 'done',
  ])
  return succeeded
}

async function repairPacks(
  session: CommandSession,
  ids: readonly string[],
  options: RepositoryOptions,
): Promise<ExitCode> {
  const { host, output } = session
  const repository = await openNamed(session, options)
  const repaired = await repository.upkeep.repairPacks(ids, {
    signal: host.signal,
    async saveCopy(pack, bytes) {
      const path = resolve(host.cwd, `pack-${pack}`)
      const file = await open(path, 'w', 0o600)
      try {
        await file.writeFile(bytes)
        await file.sync()
      } finally {
        await file.close()
      }
      output.message(`saved a copy of the damaged pack to ${path}`)
    },
  })
  output.result({
    message_type: 'repair_packs',
    packs: repaired.map(({ id, salvagedBlobs, lostBlobs }) => ({
      id,
      salvaged_blobs: salvagedBlobs,
      lost_blobs: lostBlobs,
    })),
  })
  output.lines(
    repaired.map(
      ({ id, salvagedBlobs, lostBlobs }) => `pack ${shortId(id)}: ${salvagedBlobs} blobs salvaged, ${lostBlobs} lost`,
    ),
  )
  output.message('Now: stillpoint repo repair snapshots --forget')
  return succeeded
}

async function repairSnapshots(
  session: CommandSession,
  ids: readonly string[],
  options: SnapshotFlags,
): Promise<ExitCode> {
  const { host, output } = session
  const repository = await openNamed(session, options)
  const snapshots = await repository.upkeep.resolveSnapshots(ids, selectionOf(host, options))
  const repaired = await repository.upkeep.repairSnapshots({
    snapshots,
    forget: options.forget === true,
    dryRun: options.dryRun === true,
    signal: host.signal,
  })
  output.result({
    message_type: 'repair_snapshots',
    snapshots: repaired.map(({ id, outcome, newId, changes }) => ({ id, outcome, new_id: newId ?? null, changes })),
  })
  for (const { id, outcome, newId, changes } of repaired) {
    if (outcome === 'whole') continue
    output.lines([
      `snapshot ${shortId(id)}: ${outcome}${newId === undefined ? '' : ` as ${shortId(newId)}`}`,
      ...changes.map(({ path, what }) => `  ${what.replaceAll('_', ' ')}: ${plainText(path)}`),
    ])
  }
  const whole = repaired.filter(({ outcome }) => outcome === 'whole').length
  output.lines([`${whole} of ${countText(repaired.length, 'snapshot')} are whole`])
  return repaired.some(({ outcome }) => outcome === 'lost') && options.forget !== true ? exitCodes.failed : succeeded
}
