/** `stillpoint repo version`, for scripts that ask restic for it. */
import type { Command } from 'commander'
import { programVersion } from '../../program-version.ts'
import type { RunCommand } from '../session.ts'
import { examples, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'

/** What runs it: the lines are restic's, the names are ours. */
export function repoVersionCommand(run: RunCommand): Command {
  const command = repoCommand(
    'version',
    'show the version',
    'Shows the version of Stillpoint. It needs no repository.',
  ).action((options: RepositoryOptions) =>
    runRepo(run, { isListing: true })(options, async ({ output }) => {
      const { version: node, platform, arch } = process
      const version = programVersion()
      output.result({ message_type: 'version', version, node_version: node, os: platform, arch })
      output.lines([`stillpoint ${version} with node ${node} on ${platform}/${arch}`])
      return succeeded
    }),
  )
  return examples(command, [{ line: 'stillpoint repo version --json', what: 'for a script' }])
}
