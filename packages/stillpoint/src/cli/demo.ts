/** `stillpoint demo` */
import { Command, Option } from 'commander'
import { type CommonOptions, withExamples, withJson } from './help.ts'
import type { RunCommand } from './session.ts'

interface DemoOptions extends CommonOptions {
  readonly exit?: true
}

export function demoCommand(run: RunCommand): Command {
  const command = new Command('demo')
    .summary('see it work: a bank, a snapshot, a disaster, a restore')
    .description(
      'Runs a bank of four branches that send money to each other, takes a snapshot while they run, destroys them, restores, and shows that no money was lost.',
    )
    .addOption(new Option('--exit', 'end after the proof, with 0 only if every check held'))
    .action((options: DemoOptions) =>
      run(options, async (session) => {
        const { runDemo } = await import('../demo/demo.ts')
        return runDemo(session, { exit: options.exit === true })
      }),
    )
  withJson(command)
  return withExamples(command, [
    { line: 'stillpoint demo', what: 'goes on running, for take, list and show' },
    { line: 'stillpoint demo --exit --json', what: 'one JSON object with the proof' },
  ])
}
