/** `stillpoint list` */
import { Command } from 'commander'
import { withSystem } from './context.ts'
import { exitCodes } from './exit-codes.ts'
import { type ConfigOptions, withConfig, withExamples, withJson } from './help.ts'
import { listLines } from './render-snapshot.ts'
import type { RunCommand } from './session.ts'

export function listCommand(run: RunCommand): Command {
  const command = new Command('list')
    .summary('list the snapshots')
    .description('Lists the snapshots of the system, oldest first.')
    .action((options: ConfigOptions) =>
      run(options, async (session) => {
        const { output } = session
        const snapshots = await withSystem(session, options, ({ operations }, context) => operations.list(context))
        output.result({ snapshots })
        if (snapshots.length === 0)
          output.message('There are no snapshots yet. Take the first one with: stillpoint take')
        else output.lines(listLines(snapshots, { width: output.terminal.stdout.columns(), tone: output.tone }))
        return exitCodes.succeeded
      }),
    )
  withJson(withConfig(command))
  return withExamples(command, [
    { line: 'stillpoint list', what: 'all snapshots, oldest first' },
    { line: "stillpoint list --json | jq -r '.snapshots[-1].id'", what: 'the id of the newest' },
  ])
}
