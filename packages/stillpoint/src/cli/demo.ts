/** `stillpoint demo` */
import { resolve } from 'node:path'
import { Command, Option } from 'commander'
import { exitCodes } from './exit-codes.ts'
import { type CommonOptions, withExamples, withJson } from './help.ts'
import type { CommandSession, RunCommand } from './session.ts'

interface DemoOptions extends CommonOptions {
  readonly exit?: true
  readonly dir?: string
}

export function demoCommand(run: RunCommand): Command {
  const command = new Command('demo')
    .summary('see it work: a bank, a snapshot, a disaster, a restore')
    .description(
      'Runs a bank of four branches that send money to each other, takes a snapshot while they run, destroys them, restores, and shows that no money was lost.',
    )
    .addOption(new Option('--exit', 'end after the proof, with 0 only if every check held'))
    .addOption(new Option('--dir <path>', 'play in this directory and keep it; default: a temporary one'))
    .action((options: DemoOptions) => run(options, (session) => demo(session, options)))
  withJson(command)
  return withExamples(command, [
    { line: 'stillpoint demo', what: 'goes on running, for take, list and show' },
    { line: 'stillpoint demo --exit --json', what: 'one JSON object with the proof' },
  ])
}

async function demo({ host, output }: CommandSession, options: DemoOptions) {
  const { runDemo } = await import('../demo/demo.ts')
  const { clock, random, entropy, signal } = host
  const stage = {
    say: (lines: readonly string[]) => output.lines(lines),
    heading: (text: string) => output.lines(['', output.tone(text, 'strong')]),
    tone: output.tone,
    width: Math.min(output.terminal.stdout.columns() ?? 100, 120),
    clock,
    random,
    entropy,
    signal,
  }
  const result = await runDemo(stage, {
    stay: options.exit !== true,
    dir: options.dir === undefined ? null : resolve(host.cwd, options.dir),
    onProof: (proof) => output.result(proof),
  })
  return result.passed ? exitCodes.succeeded : exitCodes.verificationFailed
}
