/** `stillpoint restore` */
import { resolve } from 'node:path'
import { Command, Option } from 'commander'
import type { RestoreRequest, RestoreResult } from '../coordinator/operations.ts'
import { nameArgument, snapshotArgument } from './arguments.ts'
import { confirm } from './confirm.ts'
import { openOperations, readConfig, withOperations } from './context.ts'
import { type ExitCode, exitCodes } from './exit-codes.ts'
import { type ConfigOptions, type ProgressFlags, withConfig, withExamples, withJson, withVerbose } from './help.ts'
import { restoreLines } from './render-snapshot.ts'
import type { CommandSession, RunCommand } from './session.ts'

interface RestoreOptions extends ConfigOptions, ProgressFlags {
  readonly participant?: readonly string[]
  readonly to?: string
  readonly replace?: true
  readonly yes?: true
}

export function restoreCommand(run: RunCommand): Command {
  const command = new Command('restore')
    .summary('restore a snapshot')
    .description(
      'Brings the system back to a snapshot, as a new generation. Targets that are not empty are refused, unless they are to be replaced.',
    )
    .argument('<id>', 'id of the snapshot, its first digits, or "latest"', snapshotArgument)
    .addOption(new Option('--participant <name>', 'only this participant; repeatable').argParser(nameArgument))
    .addOption(
      new Option('--to <file>', 'restore into the participants of the same names of another configuration (a clone)'),
    )
    .addOption(new Option('--replace', 'replace targets that are not empty; asks for the name of the system first'))
    .addOption(new Option('-y, --yes', 'do not ask'))
    .action((id: string, options: RestoreOptions) => run(options, (session) => restore(session, id, options)))
  withJson(withConfig(withVerbose(command)))
  return withExamples(command, [
    { line: 'stillpoint restore latest --to staging.yaml', what: 'a clone beside the running system' },
    { line: 'stillpoint restore 1a2b3c4d --replace', what: 'bring this system back to that moment' },
    { line: 'stillpoint restore latest --participant orders-db', what: 'one store; what that breaks is named' },
  ])
}

async function restore(session: CommandSession, id: string, options: RestoreOptions): Promise<ExitCode> {
  const { host, output } = session
  const config = await readConfig(host, options.config)
  // Read here too, so that a mistake in it is reported with its line before anything is begun.
  const target = options.to === undefined ? config : await readConfig(host, options.to)
  if (options.replace === true && options.yes !== true) {
    const which = options.participant === undefined ? 'all participants' : options.participant.join(', ')
    const what = `${which} of the system "${target.system}" (${target.path}) will be replaced by the snapshot ${id}`
    await confirm(session, { what, word: target.system })
  }
  const request: RestoreRequest = {
    snapshot: id,
    participants: options.participant ?? [],
    replace: options.replace === true,
    toConfig: options.to === undefined ? null : resolve(host.cwd, options.to),
  }
  const system = { config, ...(await openOperations(host, config)) }
  const settings = { system, verbose: options.verbose === true }
  const result = await withOperations(session, settings, ({ operations }, context) =>
    operations.restore(request, context),
  )
  output.result(result)
  output.lines(restoreLines(result, { width: output.terminal.stdout.columns(), tone: output.tone }))
  return codeOf(result)
}

function codeOf(result: RestoreResult): ExitCode {
  const failed = result.participants.some(({ checks }) => checks.some(({ passed }) => !passed))
  if (failed) return exitCodes.verificationFailed
  return result.damage.length > 0 ? exitCodes.partial : exitCodes.succeeded
}
