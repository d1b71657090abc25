/** `stillpoint doctor` */
import { Command } from 'commander'
import { processesIn, type SystemConfig } from '../config/system-config.ts'
import { connectedProcesses, readConfig } from './context.ts'
import type { DoctorCheck } from './doctor-checks.ts'
import { exitCodes } from './exit-codes.ts'
import { type ConfigOptions, withConfig, withExamples, withJson } from './help.ts'
import type { Output } from './output.ts'
import { plainText } from './quantities.ts'
import type { CommandHost, RunCommand } from './session.ts'
import { wrapped } from './table.ts'

export function doctorCommand(run: RunCommand): Command {
  const command = new Command('doctor')
    .summary('check what this machine lacks')
    .description(
      'Checks everything that the configuration needs: tools, connections, passwords, privileges, versions, space, clocks. Says how to get what is missing. Holds and changes nothing. Exit code 1: something is missing.',
    )
    .action((options: ConfigOptions) =>
      run(options, async ({ host, output }) => {
        const config = await readConfig(host, options.config)
        const checks = await allChecks(host, config)
        const passed = checks.every(({ status }) => status !== 'missing')
        output.result({ passed, checks })
        output.lines(doctorLines(checks, output))
        const missing = checks.filter(({ status }) => status === 'missing').length
        output.message(passed ? 'Nothing is missing.' : `Missing: ${missing} of ${checks.length} checks failed.`)
        return passed ? exitCodes.succeeded : exitCodes.failed
      }),
    )
  withJson(withConfig(command))
  return withExamples(command, [
    { line: 'stillpoint doctor', what: 'before the first snapshot, and whenever one fails' },
    { line: 'stillpoint doctor --json', what: 'for monitoring' },
  ])
}

async function allChecks(host: CommandHost, config: SystemConfig): Promise<readonly DoctorCheck[]> {
  const { checkMachine, checkRepository, checkSpace, checkStateDir, checkStores } = await import('./doctor-checks.ts')
  const { checkLibraries } = await import('./doctor-libraries.ts')
  const stores = await checkStores(host, config)
  const repository = await checkRepository(host, config)
  const roomy = repository.every(({ check, status }) => check !== 'space' || status === 'ok')
  const { path } = config.repository
  const room = roomy && path !== undefined ? await checkSpace('repository', path, stores.estimateBytes) : []
  return [
    ...checkMachine(host, process.versions.node),
    ...checkLibraries(),
    ...repository,
    ...room.filter(({ status }) => status !== 'ok'),
    await checkStateDir(config),
    ...(await checkProcesses(host, config)),
    ...stores.checks,
  ]
}

async function checkProcesses(host: CommandHost, config: SystemConfig): Promise<readonly DoctorCheck[]> {
  const processes = processesIn(config)
  if (processes.length === 0) return []
  const connected = await connectedProcesses(host, config)
  if (connected === null) {
    const hint = 'Processes join a running server. Start it with: stillpoint up'
    return [{ subject: 'server', check: 'running', status: 'missing', detail: 'no server runs for this system', hint }]
  }
  return processes.map(({ name }): DoctorCheck => {
    if (connected.has(name)) return { subject: name, check: 'process', status: 'ok', detail: 'connected' }
    const hint = `Start the process; it joins with join({ name: ${JSON.stringify(name)}, … }) of @stillpoint/sdk.`
    return { subject: name, check: 'process', status: 'missing', detail: 'is not connected', hint }
  })
}

const marks = { ok: 'ok     ', warning: 'warning', missing: 'MISSING' } as const
const tones = { ok: 'good', warning: 'warning', missing: 'bad' } as const

export function doctorLines(
  checks: readonly DoctorCheck[],
  output: Pick<Output, 'tone' | 'terminal'>,
): readonly string[] {
  const width = output.terminal.stdout.columns()
  const subjects = Math.max(0, ...checks.map(({ subject }) => subject.length))
  const names = Math.max(0, ...checks.map(({ check }) => check.length))
  const indent = ' '.repeat(9)
  return checks.flatMap(({ subject, check, status, detail, hint, code }) => {
    const head = `${output.tone(marks[status], tones[status])}  ${subject.padEnd(subjects)}  ${check.padEnd(names)}  ${plainText(detail)}`
    const advice = hint === undefined ? [] : wrapped(plainText(hint), width === undefined ? undefined : width - 9)
    return [code === undefined ? head : `${head} (${code})`, ...advice.map((line) => `${indent}${line}`)]
  })
}
