/** `stillpoint delete` */
import { Command, Option } from 'commander'
import { snapshotArgument } from './arguments.ts'
import { confirm } from './confirm.ts'
import { withSystem } from './context.ts'
import { exitCodes } from './exit-codes.ts'
import { type ConfigOptions, withConfig, withExamples, withJson } from './help.ts'
import { shortId, timeText } from './quantities.ts'
import type { RunCommand } from './session.ts'

interface DeleteOptions extends ConfigOptions {
  readonly yes?: true
}

export function deleteCommand(run: RunCommand): Command {
  const command = new Command('delete')
    .summary('delete a snapshot')
    .description('Deletes one snapshot. Data that other snapshots share stays.')
    .argument('<id>', 'id of the snapshot, or its first digits', snapshotArgument)
    .addOption(new Option('-y, --yes', 'do not ask'))
    .action((id: string, options: DeleteOptions) =>
      run(options, async (session) => {
        const removed = await withSystem(session, options, async ({ operations }, context) => {
          // A damaged snapshot can be deleted too: it is not looked at where nobody is asked.
          if (options.yes === true) return operations.remove(id, context)
          const snapshot = await operations.show(id, context)
          const what = `the snapshot ${shortId(snapshot.id)} of ${timeText(snapshot.time)} will be deleted`
          await confirm(session, { what, word: shortId(snapshot.id) })
          // By its full id: what is deleted is what was confirmed, whatever is taken meanwhile.
          return operations.remove(snapshot.id, context)
        })
        session.output.result(removed)
        session.output.message(`Deleted the snapshot ${shortId(removed.id)}`)
        return exitCodes.succeeded
      }),
    )
  withJson(withConfig(command))
  return withExamples(command, [
    { line: 'stillpoint delete 1a2b3c4d', what: 'asks first' },
    { line: 'stillpoint delete 1a2b3c4d --yes', what: 'in scripts' },
  ])
}
