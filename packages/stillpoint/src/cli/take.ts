/** `stillpoint take`: now, later, or again and again. */
import { Command, Option } from 'commander'
import { durationText } from '../config/duration.ts'
import type { SystemConfig } from '../config/system-config.ts'
import type { SnapshotDetail, TakeRequest } from '../coordinator/operations.ts'
import { delayArgument, periodArgument, tagArgument } from './arguments.ts'
import { openOperations, readConfig, withOperations } from './context.ts'
import { type ExitCode, exitCodeOf, exitCodes } from './exit-codes.ts'
import { type ConfigOptions, type ProgressFlags, withConfig, withExamples, withJson, withVerbose } from './help.ts'
import { countdownText, shortId, timeText } from './quantities.ts'
import { detailLines, listLines } from './render-snapshot.ts'
import type { CommandSession, RunCommand } from './session.ts'
import { nextRun, sleep } from './waiting.ts'

interface TakeOptions extends ConfigOptions, ProgressFlags {
  readonly in?: number
  readonly every?: number
  readonly allowInconsistent?: true
  readonly tag?: readonly string[]
}

export function takeCommand(run: RunCommand): Command {
  const command = new Command('take')
    .summary('take a snapshot')
    .description(
      'Takes one consistent snapshot of the running system and seals it in the repository: through the server if one is running, else by itself.',
    )
    .addOption(
      new Option('--in <duration>', 'wait first, such as 5s or 10m').argParser(delayArgument).conflicts('every'),
    )
    .addOption(
      new Option('--every <duration>', 'take one now and then at fixed times, such as 2h, until stopped').argParser(
        periodArgument,
      ),
    )
    .addOption(new Option('--allow-inconsistent', 'seal also a cut that is not consistent (exit code 3)'))
    .addOption(new Option('--tag <tag>', 'a tag for the snapshot; repeatable').argParser(tagArgument))
    .action((options: TakeOptions) =>
      run(options, async (session) => {
        const config = await readConfig(session.host, options.config)
        if (options.every !== undefined) return takeEvery(session, config, options.every, options)
        if (options.in !== undefined) await waitForStart(session, options.in)
        return takeOnce(session, config, options)
      }),
    )
  withJson(withConfig(withVerbose(command)))
  return withExamples(command, [
    { line: 'stillpoint take', what: 'take one now' },
    { line: 'stillpoint take --tag before-upgrade', what: 'name it for later' },
    { line: 'stillpoint take --every 2h', what: 'one every two hours, until Ctrl-C' },
    { line: 'stillpoint take --json | jq -r .id', what: 'for programs' },
  ])
}

type Report = (snapshot: SnapshotDetail) => readonly string[]

async function takeOnce(
  session: CommandSession,
  config: SystemConfig,
  options: TakeOptions,
  report?: Report,
): Promise<ExitCode> {
  const { host, output } = session
  const request: TakeRequest = { allowInconsistent: options.allowInconsistent === true, tags: options.tag ?? [] }
  const system = { config, ...(await openOperations(host, config)) }
  const settings = { system, verbose: options.verbose === true }
  const snapshot = await withOperations(session, settings, ({ operations }, context) =>
    operations.take(request, context),
  )
  const width = output.terminal.stdout.columns()
  output.result(snapshot)
  output.lines(report?.(snapshot) ?? detailLines(snapshot, { width, tone: output.tone }))
  if (snapshot.verdict === 'inconsistent') {
    output.warning('this snapshot is not consistent; it was sealed because of --allow-inconsistent')
    return exitCodes.partial
  }
  if (report === undefined) output.message(`Check it with: stillpoint verify ${shortId(snapshot.id)}`)
  return exitCodes.succeeded
}

/** Until it is stopped, or nobody reads any more. A run that fails is reported, and the next one follows all the same. */
async function takeEvery(
  session: CommandSession,
  config: SystemConfig,
  everyMs: number,
  options: TakeOptions,
): Promise<ExitCode> {
  const { host, output } = session
  const startMs = host.clock.monotonicMs()
  let last: ExitCode = exitCodes.succeeded
  let runs = 0
  let isFirst = true
  // A table that grows by a line per run.
  const report: Report = (snapshot) => {
    const lines = listLines([snapshot], { width: output.terminal.stdout.columns(), tone: output.tone })
    const shown = isFirst ? lines : lines.slice(1)
    isFirst = false
    return shown
  }
  while (!output.terminal.stdout.closed) {
    try {
      last = await takeOnce(session, config, options, report)
    } catch (error) {
      host.signal.throwIfAborted()
      last = exitCodeOf(error)
      output.failure(error, last)
    }
    host.signal.throwIfAborted()
    const nowMs = host.clock.monotonicMs()
    const next = nextRun({ startMs, everyMs, nowMs })
    const missed = next.runs - runs - 1
    if (missed > 0) output.warning(`the last run took longer than ${durationText(everyMs)}: ${missed} left out`)
    runs = next.runs
    const at = new Date(host.clock.wallMs() + next.atMs - nowMs).toISOString()
    output.message(`Next: ${timeText(at)} (stop with Ctrl-C)`)
    await sleep(host.clock, next.atMs - nowMs, host.signal)
  }
  return last
}

async function waitForStart({ host, output }: CommandSession, delayMs: number): Promise<void> {
  const { stderr } = output.terminal
  const endMs = host.clock.monotonicMs() + delayMs
  if (!stderr.isTTY || output.json) {
    output.message(`Waiting ${durationText(delayMs)}`)
    await sleep(host.clock, delayMs, host.signal)
    return
  }
  try {
    for (let leftMs = delayMs; leftMs > 0; leftMs = endMs - host.clock.monotonicMs()) {
      stderr.write(`\r\u001b[KTaking a snapshot in ${countdownText(leftMs)}`)
      await sleep(host.clock, Math.min(leftMs, leftMs % 1_000 || 1_000), host.signal)
    }
  } finally {
    stderr.write('\r\u001b[K')
  }
}
