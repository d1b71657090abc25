/**
 * `npm run bench:repository`: the same data, saved, checked and restored by restic, borg and this repository in turn, in
 * one run. Prints tables in markdown on stdout, progress on stderr. docs/benchmarks.md says how to read them.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, tmpdir, totalmem } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { hasTool } from '@stillpoint/testbed'
import { installBuilt } from '../../scripts/install-built.ts'
import { type DataSet, dataSets, makeData } from './data.ts'
import { type EngineChoice, engineChoices } from './engines.ts'
import { runRounds } from './rounds.ts'
import { measureStages, type Stages } from './stages.ts'
import { costTable, ratioTable, stagesTable } from './table.ts'

const usage = `npm run bench:repository -- [options]

  --dir DIRECTORY     where data and repositories are put (default: the system's directory for temporary files);
                      on a disk that is slower than the engines, the disk is measured: try /dev/shm
  --rounds N          rounds, of which the median is taken (default: 3)
  --scale X           1: the amounts of docs/benchmarks.md; 0.05: a quick look (default: 1)
  --data NAME,…       ${dataSets(1)
    .map(({ name }) => name)
    .join(', ')}
  --engines NAME,…    ${engineChoices.map(({ name }) => name).join(', ')} (default: those that are here)
  --json FILE         every single measurement, too
  --help              this text

At scale 1 about 8 GiB are needed in --dir, and 15 to 40 minutes. Needs Debian's packages restic, borgbackup and time;
restic-0.18 is that of Debian 13, which \`node scripts/newer-restic.ts\` brings.`

class UsageError extends Error {}

interface Settings {
  readonly directory: string
  readonly rounds: number
  readonly scale: number
  readonly sets: readonly DataSet[]
  readonly engines: readonly EngineChoice[]
  readonly json: string | undefined
}

function settingsOf(values: Readonly<Record<string, string | undefined>>): Settings {
  const scale = positive('--scale', values['scale'] ?? '1')
  const rounds = positive('--rounds', values['rounds'] ?? '3')
  if (!Number.isInteger(rounds)) throw new UsageError(`--rounds ${values['rounds']}: a whole number is needed`)
  return {
    directory: resolve(values['dir'] ?? tmpdir()),
    rounds,
    scale,
    sets: chosen('--data', dataSets(scale), values['data']),
    engines:
      values['engines'] === undefined
        ? engineChoices.filter(({ isHere }) => isHere)
        : chosen('--engines', engineChoices, values['engines']),
    json: values['json'],
  }
}

function positive(option: string, text: string): number {
  const value = Number(text)
  if (!(value > 0)) throw new UsageError(`${option} ${text}: a number above 0 is needed`)
  return value
}

function chosen<T extends { readonly name: string }>(
  option: string,
  all: readonly T[],
  names: string | undefined,
): readonly T[] {
  if (names === undefined) return all
  return names.split(',').map((name) => {
    const found = all.find((each) => each.name === name)
    if (found !== undefined) return found
    throw new UsageError(`${option} ${name}: there are ${all.map((each) => each.name).join(', ')}`)
  })
}

function requireTools(engines: readonly EngineChoice[]): void {
  if (!hasTool('time')) throw new UsageError('"time" is missing: install Debian\'s package time')
  for (const { name, isHere, neededPackage } of engines) {
    if (isHere) continue
    throw new UsageError(`"${name}" is missing: install Debian's package ${neededPackage}, or choose other --engines`)
  }
}

async function bench(settings: Settings, signal: AbortSignal): Promise<void> {
  const { sets, rounds, scale } = settings
  requireTools(settings.engines)
  const say = (line: string) => process.stderr.write(`${line}\n`)
  const directory = mkdtempSync(join(settings.directory, 'stillpoint-bench-'))
  try {
    const engines = settings.engines.map(({ engine }) => engine(() => installBuilt(join(directory, 'installed'))))
    const samples = await runRounds({ sets, engines, rounds, directory, signal, say })
    const stages = new Map<string, Stages>()
    for (const set of sets) {
      say(`${set.name}: the stages alone`)
      const source = join(directory, 'source')
      await makeData(set, source)
      stages.set(set.name, measureStages(source))
    }
    if (settings.json !== undefined)
      writeFileSync(settings.json, JSON.stringify({ samples, stages: [...stages] }, null, 2))
    const [cpu] = cpus()
    console.log(
      [
        `${availableParallelism()} cores (${cpu?.model ?? 'unknown'}), ${Math.round(totalmem() / 2 ** 30)} GiB; below ${settings.directory}; scale ${scale}, ${rounds} rounds, medians.`,
        engines.map((engine) => engine.version()).join('; '),
        sets.map(({ name, what }) => `- ${name}: ${what}`).join('\n'),
        ...engines
          .filter(({ isReference }) => isReference)
          .flatMap((engine) => [`## Against ${engine.version()}`, ratioTable(samples, engine.name)]),
        '## What each took',
        costTable(samples),
        '## Stages that cannot be avoided',
        stagesTable(samples, stages),
      ].join('\n\n'),
    )
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

async function main(): Promise<number> {
  const interrupted = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interrupted.abort(new Error(name)))
  try {
    const text = { type: 'string' } as const
    const { values } = parseArgs({
      options: {
        dir: text,
        rounds: text,
        scale: text,
        data: text,
        engines: text,
        json: text,
        help: { type: 'boolean' },
      },
    })
    const { help, ...rest } = values
    if (help === true) console.log(usage)
    else await bench(settingsOf(rest), interrupted.signal)
    return 0
  } catch (error) {
    if (interrupted.signal.aborted) {
      console.error('Interrupted. What was made has been removed.')
      return 130
    }
    const isUsage = error instanceof UsageError || (error instanceof TypeError && 'code' in error)
    console.error(isUsage ? `${(error as Error).message}\n\n${usage}` : error)
    return isUsage ? 2 : 1
  }
}

process.exitCode = await main()
