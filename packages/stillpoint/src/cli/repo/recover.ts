/** `stillpoint repo recover` */
import { hostname, userInfo } from 'node:os'
import type { Command } from 'commander'
import { countText, shortId } from '../quantities.ts'
import type { RunCommand } from '../session.ts'
import { withLine } from './live-line.ts'
import { examples, openNamed, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'
import { hostDefault } from './selection.ts'

export function repoRecoverCommand(run: RunCommand): Command {
  const text =
    'Makes a snapshot of all directories that no snapshot refers to any more, such as after a forget by mistake. A prune removes what they need.'
  const command = repoCommand('recover', 'find what no snapshot refers to', text).action((options: RepositoryOptions) =>
    runRepo(run)(options, async (session) => {
      const { host, output } = session
      const { timestampFromMs } = await import('@stillpoint/repository')
      const { upkeep } = await openNamed(session, options)
      const { id, roots, unreadable } = await withLine(session, (line) =>
        upkeep.recover({
          time: timestampFromMs(host.clock.wallMs()),
          hostname: hostDefault() ?? hostname(),
          username: userInfo().username,
          programVersion: 'stillpoint',
          signal: host.signal,
          onProgress: ({ trees, treesTotal }) => line.update(`trees ${trees} / ${treesTotal}`),
        }),
      )
      if (unreadable > 0) output.warning(`${countText(unreadable, 'tree')} could not be read`)
      output.result({ message_type: 'recovered', snapshot_id: id ?? null, roots, unreadable_trees: unreadable })
      output.lines([
        `found ${countText(roots.length, 'unreferenced root')}`,
        id === undefined ? 'no snapshot to write' : `saved new snapshot ${shortId(id)}`,
      ])
      return succeeded
    }),
  )
  return examples(command, [{ line: 'stillpoint repo recover', what: 'then restore from the new snapshot' }])
}
