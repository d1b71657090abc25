/** `stillpoint diff` */
import { Command } from 'commander'
import { snapshotArgument } from './arguments.ts'
import { withSystem } from './context.ts'
import { exitCodes } from './exit-codes.ts'
import { type ConfigOptions, withConfig, withExamples, withJson } from './help.ts'
import { diffLines } from './render-snapshot.ts'
import type { RunCommand } from './session.ts'

export function diffCommand(run: RunCommand): Command {
  const command = new Command('diff')
    .summary('compare two snapshots')
    .description('Shows what differs between two snapshots, per participant and file.')
    .argument('<from>', 'id of the earlier snapshot', snapshotArgument)
    .argument('<to>', 'id of the later snapshot, or "latest"', snapshotArgument)
    .action((from: string, to: string, options: ConfigOptions) =>
      run(options, async (session) => {
        const { output } = session
        const diff = await withSystem(session, options, ({ operations }, context) => operations.diff(from, to, context))
        output.result(diff)
        output.lines(diffLines(diff, { width: output.terminal.stdout.columns(), tone: output.tone }))
        return exitCodes.succeeded
      }),
    )
  withJson(withConfig(command))
  return withExamples(command, [{ line: 'stillpoint diff 1a2b3c4d latest', what: 'what has changed since then' }])
}
