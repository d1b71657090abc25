/** `stillpoint repo …`: a repository in restic's format, with the words that restic's users know. */
import { Command } from 'commander'
import { withExamples, withJson } from '../help.ts'
import type { RunCommand } from '../session.ts'
import { repoBackupCommand } from './backup.ts'
import { repoCatCommand } from './cat.ts'
import { repoCheckCommand } from './check.ts'
import { repoCopyCommand } from './copy.ts'
import { repoDiffCommand } from './diff.ts'
import { repoDumpCommand } from './dump.ts'
import { repoFindCommand } from './find.ts'
import { repoForgetCommand } from './forget.ts'
import { repoInitCommand } from './init.ts'
import { repoKeyCommand } from './key.ts'
import { repoListCommand } from './list.ts'
import { repoLsCommand } from './ls.ts'
import { repoPruneCommand } from './prune.ts'
import { repoRecoverCommand } from './recover.ts'
import { repoRepairCommand } from './repair.ts'
import { inheritOptions, withRepositoryOptions } from './repository-access.ts'
import { repoRestoreCommand } from './restore.ts'
import { repoRewriteCommand } from './rewrite.ts'
import { repoSnapshotsCommand } from './snapshots.ts'
import { repoStatsCommand } from './stats.ts'
import { repoTagCommand } from './tag.ts'
import { repoUnlockCommand } from './unlock.ts'

export function repositoryCommand(run: RunCommand): Command {
  const group = new Command('repo')
    .summary('work with a repository as restic does')
    .description('Works with any repository in restic’s format, with the words that restic’s users know: docs/repo.md.')
  const commands = [
    repoInitCommand,
    repoBackupCommand,
    repoRestoreCommand,
    repoSnapshotsCommand,
    repoLsCommand,
    repoFindCommand,
    repoDumpCommand,
    repoDiffCommand,
    repoCheckCommand,
    repoForgetCommand,
    repoPruneCommand,
    repoRepairCommand,
    repoCopyCommand,
    repoKeyCommand,
    repoStatsCommand,
    repoUnlockCommand,
    repoTagCommand,
    repoRewriteCommand,
    repoRecoverCommand,
    repoListCommand,
    repoCatCommand,
  ]
  for (const make of commands) group.addCommand(make(run))
  withRepositoryOptions(withJson(group))
  inheritOptions(group)
  return withExamples(group, [
    { line: 'stillpoint repo backup /etc', what: 'with $RESTIC_REPOSITORY and $RESTIC_PASSWORD_FILE set' },
    { line: 'stillpoint repo restore latest --target /tmp/restored', what: 'bring it back' },
  ])
}
