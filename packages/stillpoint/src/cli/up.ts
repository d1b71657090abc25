/** `stillpoint up`: the server, in the foreground, until it is stopped. */
import { Command } from 'commander'
import { z } from 'zod'
import { durationText } from '../config/duration.ts'
import { processesIn, repositoryAddress, storesIn } from '../config/system-config.ts'
import type { LogEntry } from '../server/ports.ts'
import { readConfig } from './context.ts'
import { exitCodes } from './exit-codes.ts'
import { type ConfigOptions, withConfig, withExamples, withJson } from './help.ts'
import type { Output } from './output.ts'
import { timeText } from './quantities.ts'
import type { CommandSession, RunCommand } from './session.ts'

export const upResultSchema = z.looseObject({
  url: z.string().describe('Base URL of the API, and what processes join'),
  tokenFile: z.string().describe('Absolute path of the file that holds the token of the API and of the processes'),
  system: z.string(),
  pid: z.int(),
})

export function upCommand(run: RunCommand): Command {
  const command = new Command('up')
    .summary('run the server')
    .description(
      'Runs the server in the foreground: the API, the schedule, and the sessions of the processes that run the SDK. Ctrl-C stops it in order, with exit code 0.',
    )
    .action((options: ConfigOptions) => run(options, (session) => up(session, options)))
  withJson(withConfig(command))
  return withExamples(command, [
    { line: 'stillpoint up', what: 'in one terminal; "stillpoint take" in another' },
    { line: 'stillpoint up --json', what: 'the address as JSON, the log as JSON lines on stderr' },
  ])
}

async function up({ host, output }: CommandSession, options: ConfigOptions) {
  const config = await readConfig(host, options.config)
  const { clock, random, entropy, signal } = host
  const { startServer } = await import('../server/start-server.ts')
  const { openServedSystem } = await import('../coordinator/local-operations.ts')
  const log = (entry: LogEntry) => writeLog(output, entry, new Date(clock.wallMs()).toISOString())
  signal.throwIfAborted()
  const server = await startServer({ config, clock, random, entropy, operationsFactory: openServedSystem, log })
  try {
    output.result({ url: server.url, tokenFile: server.tokenFile, system: config.system, pid: process.pid })
    const processes = processesIn(config)
    output.lines([
      `${output.tone(config.system, 'strong')} is served at ${server.url}`,
      `  token      ${server.tokenFile}`,
      `  repository ${repositoryAddress(config.repository)}`,
      `  stores     ${
        storesIn(config)
          .map(({ name }) => name)
          .join(', ') || 'none'
      }`,
      `  processes  ${processes.map(({ name }) => name).join(', ') || 'none'}`,
      ...(config.schedule === null ? [] : [`  schedule   a snapshot every ${durationText(config.schedule.everyMs)}`]),
    ])
    output.message('Stop it with Ctrl-C.')
    await new Promise<void>((stop) => {
      if (signal.aborted) stop()
      else signal.addEventListener('abort', () => stop(), { once: true })
    })
  } finally {
    await server.close()
  }
  output.message('Stopped.')
  return exitCodes.succeeded
}

export function writeLog(output: Output, entry: LogEntry, iso: string): void {
  if (output.json) {
    output.log(JSON.stringify({ time: iso, ...entry }))
    return
  }
  const { level, message, ...fields } = entry
  const details = Object.entries(fields).map(
    ([key, value]) => ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  )
  output.log(`${timeText(iso)} ${level === 'info' ? '' : `${level}: `}${message}${details.join('')}`)
}
