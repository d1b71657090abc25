/** `stillpoint repo …`: a repository in restic's format, with the words that restic's users know. */
import { Command } from 'commander'
import { type CommandLoaders, loadCommands } from '../command-loaders.ts'
import { withExamples, withJson } from '../help.ts'
import type { RunCommand } from '../session.ts'
import { inheritOptions, withRepositoryOptions } from './repository-access.ts'

const loaders: CommandLoaders = {
  init: async () => (await import('./init.ts')).repoInitCommand,
  backup: async () => (await import('./backup.ts')).repoBackupCommand,
  restore: async () => (await import('./restore.ts')).repoRestoreCommand,
  snapshots: async () => (await import('./snapshots.ts')).repoSnapshotsCommand,
  ls: async () => (await import('./ls.ts')).repoLsCommand,
  find: async () => (await import('./find.ts')).repoFindCommand,
  dump: async () => (await import('./dump.ts')).repoDumpCommand,
  diff: async () => (await import('./diff.ts')).repoDiffCommand,
  check: async () => (await import('./check.ts')).repoCheckCommand,
  forget: async () => (await import('./forget.ts')).repoForgetCommand,
  prune: async () => (await import('./prune.ts')).repoPruneCommand,
  repair: async () => (await import('./repair.ts')).repoRepairCommand,
  'rebuild-index': async () => (await import('./repair.ts')).repoRebuildIndexCommand,
  copy: async () => (await import('./copy.ts')).repoCopyCommand,
  key: async () => (await import('./key.ts')).repoKeyCommand,
  stats: async () => (await import('./stats.ts')).repoStatsCommand,
  unlock: async () => (await import('./unlock.ts')).repoUnlockCommand,
  tag: async () => (await import('./tag.ts')).repoTagCommand,
  rewrite: async () => (await import('./rewrite.ts')).repoRewriteCommand,
  recover: async () => (await import('./recover.ts')).repoRecoverCommand,
  list: async () => (await import('./list.ts')).repoListCommand,
  cat: async () => (await import('./cat.ts')).repoCatCommand,
  cache: async () => (await import('./cache.ts')).repoCacheCommand,
  version: async () => (await import('./version.ts')).repoVersionCommand,
}

/** @param word that follows `repo`: where it names a subcommand, no other is loaded */
export async function repositoryCommand(run: RunCommand, word?: string): Promise<Command> {
  const group = new Command('repo')
    .summary('work with a repository as restic does')
    .description('Works with any repository in restic’s format, with the words that restic’s users know: docs/repo.md.')
  for (const command of await loadCommands(loaders, word, run)) group.addCommand(command)
  withRepositoryOptions(withJson(group))
  inheritOptions(group)
  return withExamples(group, [
    { line: 'stillpoint repo backup /etc', what: 'with $RESTIC_REPOSITORY and $RESTIC_PASSWORD_FILE set' },
    { line: 'stillpoint repo restore latest --target /tmp/restored', what: 'bring it back' },
  ])
}
