/** `stillpoint verify` */
import { Command } from 'commander'
import { snapshotArgument } from './arguments.ts'
import { withSystem } from './context.ts'
import { exitCodes } from './exit-codes.ts'
import { type ConfigOptions, type ProgressFlags, withConfig, withExamples, withJson, withVerbose } from './help.ts'
import { verifyLines } from './render-snapshot.ts'
import type { RunCommand } from './session.ts'

export function verifyCommand(run: RunCommand): Command {
  const command = new Command('verify')
    .summary('verify a snapshot')
    .description(
      'Recomputes the verdict of a snapshot from its certificate and reads all of its data. Exit code 22: a check failed.',
    )
    .argument('<id>', 'id of the snapshot, its first digits, or "latest"', snapshotArgument)
    .action((id: string, options: ConfigOptions & ProgressFlags) =>
      run(options, async (session) => {
        const { output } = session
        const result = await withSystem(session, options, ({ operations }, context) => operations.verify(id, context))
        output.result(result)
        output.lines(verifyLines(result, { width: output.terminal.stdout.columns(), tone: output.tone }))
        return result.passed ? exitCodes.succeeded : exitCodes.verificationFailed
      }),
    )
  withJson(withConfig(withVerbose(command)))
  return withExamples(command, [
    { line: 'stillpoint verify latest', what: 'the newest snapshot' },
    { line: 'stillpoint verify latest --json', what: 'each check, for programs' },
  ])
}
