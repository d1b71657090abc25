/**
 * `npm test`: formatting and lint, types, then every suite. What the suites need from outside is installed first where
 * that can be done (Debian, as root), and named where it cannot: those suites are then skipped, by name, and counted.
 * In CI a skipped test is a failure.
 *
 * The tests of the protocol run under coverage (`npm run coverage`): a branch of it without a test is a failure, too.
 *
 * `npm test -- packages/core` runs the suites below that path only, without the checks.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { missingRequirements, newerResticName, packagesOf } from '@stillpoint/testbed'
import { bringNewerRestic } from './newer-restic.ts'

interface Report {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numPendingTests: number
  readonly numTodoTests: number
  readonly numFailedTestSuites: number
  readonly testResults: readonly {
    readonly status: string
    readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[]
  }[]
}

const isCi = process.env['CI'] !== undefined && process.env['CI'] !== '' && process.env['CI'] !== 'false'
const protocol = 'packages/core/src/cut'
process.exitCode = main(process.argv.slice(2))

function main(paths: readonly string[]): number {
  provision()
  if (paths.length === 0) {
    for (const command of ['biome check --error-on-warnings .', 'tsc --noEmit']) if (!run(command.split(' '))) return 1
  }
  const scratch = mkdtempSync(join(tmpdir(), 'stillpoint-test-'))
  try {
    const rounds = paths.length > 0 ? [paths] : [[protocol, '--coverage'], [`--exclude=${protocol}/**`]]
    const reports: Report[] = []
    let isGreen = true
    for (const [index, args] of rounds.entries()) {
      const reportPath = join(scratch, `report-${index}.json`)
      const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${reportPath}`]
      isGreen = run(['vitest', 'run', ...reporters, ...args]) && isGreen
      if (!existsSync(reportPath)) return 1
      reports.push(JSON.parse(readFileSync(reportPath, 'utf8')) as Report)
    }
    return summarise(reports, isGreen)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

function run([command = '', ...args]: readonly string[]): boolean {
  console.error(`\n$ ${command} ${args.join(' ')}`)
  return spawnSync(command, args, { stdio: 'inherit' }).status === 0
}

function provision(): void {
  installRequirements()
  if (bringNewerRestic()) return
  console.error(`Missing: ${newerResticName} (of Debian 13), for proving that repositories are compatible with it.`)
  console.error('Its suites are skipped.')
}

function installRequirements(): void {
  const missing = missingRequirements()
  if (missing.length === 0) return
  const packages = packagesOf(missing)
  const isRoot = process.getuid?.() === 0
  if (isRoot && existsSync('/etc/debian_version')) {
    console.error(`Installing what the tests need from Debian: ${packages.join(' ')}`)
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    for (const args of [
      ['update', '-qq'],
      ['install', '-y', '-qq', '--no-install-recommends', ...packages],
    ]) {
      spawnSync('apt-get', args, { stdio: ['ignore', 'ignore', 'inherit'], env })
    }
  }
  for (const { tool, package: name, neededFor } of missingRequirements()) {
    console.error(`Missing: ${tool} (Debian package ${name}), for ${neededFor}. Its suites are skipped.`)
  }
}

function summarise(reports: readonly Report[], isGreen: boolean): number {
  const results = reports.flatMap(({ testResults }) => testResults)
  const passed = reports.reduce((sum, { numPassedTests }) => sum + numPassedTests, 0)
  const skipped = results.flatMap(({ assertionResults }) => {
    return assertionResults.filter(({ status }) => status !== 'passed' && status !== 'failed')
  })
  const suites = new Set(skipped.map(({ fullName }) => /.*\[needs [^\]]*\]/.exec(fullName)?.[0] ?? fullName))
  for (const suite of suites) console.error(`skipped: ${suite}`)
  const brokenFiles = results.filter(({ status, assertionResults }) => {
    return status === 'failed' && assertionResults.length === 0
  }).length
  const failed = reports.reduce((sum, { numFailedTests }) => sum + numFailedTests, brokenFiles)
  console.error('')
  console.log(`${passed} passed, ${failed} failed, ${skipped.length} skipped`)
  if (isCi && skipped.length > 0) {
    console.error('In CI a skipped suite is a failure.')
    return 1
  }
  return isGreen && failed === 0 && passed > 0 ? 0 : 1
}
