/** `stillpoint show` */
import { Command } from 'commander'
import { snapshotArgument } from './arguments.ts'
import { withSystem } from './context.ts'
import { exitCodes } from './exit-codes.ts'
import { type ConfigOptions, withConfig, withExamples, withJson } from './help.ts'
import { detailLines } from './render-snapshot.ts'
import type { RunCommand } from './session.ts'

export function showCommand(run: RunCommand): Command {
  const command = new Command('show')
    .summary('show what is in a snapshot')
    .description(
      'Shows one snapshot: participants, grades, sizes, pause, messages in flight, and the verdict with its reasons.',
    )
    .argument('<id>', 'id of the snapshot, its first digits, or "latest"', snapshotArgument)
    .action((id: string, options: ConfigOptions) =>
      run(options, async (session) => {
        const { output } = session
        const snapshot = await withSystem(session, options, ({ operations }, context) => operations.show(id, context))
        output.result(snapshot)
        output.lines(detailLines(snapshot, { width: output.terminal.stdout.columns(), tone: output.tone }))
        return exitCodes.succeeded
      }),
    )
  withJson(withConfig(command))
  return withExamples(command, [
    { line: 'stillpoint show latest', what: 'the newest snapshot' },
    { line: 'stillpoint show 1a2b3c4d', what: 'by the first digits of its id' },
    { line: 'stillpoint show latest --json | jq .certificate', what: 'the evidence behind the verdict' },
  ])
}
