/** Owns the tables: medians over the rounds, and what they are against restic and against the goals. */
import { engineChoices } from './engines.ts'
import { median } from './measured.ts'
import { type Sample, type Step, steps } from './rounds.ts'
import { type Stages, unavoidableSeconds } from './stages.ts'

/** Against restic: how many times as fast, at least. */
const speedGoals: Readonly<Partial<Record<Step, number>>> = {
  'first backup': 3,
  unchanged: 1 / 0.7,
  restore: 2,
  'check --read-data': 1.5,
}
const memoryRatioMax = 1.5
const sizeRatioMax = 1.02
const stagesShareMin = 0.8

interface Medians {
  readonly seconds: number
  readonly cpuSeconds: number
  readonly memoryBytes: number
  readonly repositoryBytes: number
  readonly dataBytes: number
}

function mediansOf(samples: readonly Sample[], data: string, step: Step, engine: string): Medians | undefined {
  const of = samples.filter((sample) => sample.data === data && sample.step === step && sample.engine === engine)
  if (of.length === 0) return undefined
  const at = (value: (sample: Sample) => number) => median(of.map(value))
  return {
    seconds: at(({ cost }) => cost.seconds),
    cpuSeconds: at(({ cost }) => cost.cpuSeconds),
    memoryBytes: at(({ cost }) => cost.memoryBytes),
    repositoryBytes: at(({ repositoryBytes }) => repositoryBytes),
    dataBytes: at(({ dataBytes }) => dataBytes),
  }
}

const megabytes = (bytes: number) => (bytes / (1 << 20)).toFixed(bytes < 100 << 20 ? 1 : 0)
const times = (ratio: number) => ratio.toFixed(2)
const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
const head = (cells: readonly string[], left = 2) => [
  row(cells),
  row(cells.map((_, index) => (index < left ? '---' : '---:'))),
]

export function costTable(samples: readonly Sample[]): string {
  const lines = head(['data', 'step', 'engine', 's', 'CPU s', 'MiB/s', 'peak MiB', 'repository MiB'], 3)
  for (const { data, step, engines } of measuredSteps(samples)) {
    for (const engine of engines) {
      const at = mediansOf(samples, data, step, engine)
      if (at === undefined) continue
      const { seconds, cpuSeconds, memoryBytes, repositoryBytes, dataBytes } = at
      const speed = (dataBytes / (1 << 20) / seconds).toFixed(0)
      lines.push(
        row([
          data,
          step,
          engine,
          seconds.toFixed(2),
          cpuSeconds.toFixed(2),
          speed,
          megabytes(memoryBytes),
          megabytes(repositoryBytes),
        ]),
      )
    }
  }
  return lines.join('\n')
}

/** Stillpoint against a reference: above 1 is faster, for memory and size below 1 is less. A goal that is missed is marked. */
export function ratioTable(samples: readonly Sample[], reference: string): string {
  const lines = head(['data', 'step', 'speed', 'goal', 'CPU', 'memory', 'size'])
  for (const { data, step } of measuredSteps(samples)) {
    const ours = mediansOf(samples, data, step, 'stillpoint')
    const theirs = mediansOf(samples, data, step, reference)
    if (ours === undefined || theirs === undefined) continue
    const speed = theirs.seconds / ours.seconds
    const goal = speedGoals[step]
    const memory = ours.memoryBytes / theirs.memoryBytes
    const size = ours.repositoryBytes / theirs.repositoryBytes
    const marked = (text: string, met: boolean) => (met ? text : `${text} ✗`)
    lines.push(
      row([
        data,
        step,
        marked(times(speed), goal === undefined || speed >= goal),
        goal === undefined ? '–' : `≥ ${times(goal)}`,
        times(theirs.cpuSeconds / ours.cpuSeconds),
        marked(times(memory), memory <= memoryRatioMax),
        marked(times(size), size <= sizeRatioMax),
      ]),
    )
  }
  return lines.join('\n')
}

/** Processor time of a first backup against the stages that none can avoid. */
export function stagesTable(samples: readonly Sample[], stages: ReadonlyMap<string, Stages>): string {
  const lines = head(
    ['data', 'SHA-256', 'zstd', 'AES + Poly1305', 'SHA-256 of packs', 'sum, CPU s', 'first backup, CPU s', 'share'],
    1,
  )
  for (const [data, of] of stages) {
    const at = mediansOf(samples, data, 'first backup', 'stillpoint')
    if (at === undefined) continue
    const sum = unavoidableSeconds(of, at.dataBytes)
    const share = sum / at.cpuSeconds
    const perMebibyte = [of.hashMs, of.compressMs, of.sealMs, of.packHashMs].map((ms) => `${ms.toFixed(2)} ms/MiB`)
    const text = `${(share * 100).toFixed(0)} %`
    lines.push(
      row([
        data,
        ...perMebibyte,
        sum.toFixed(2),
        at.cpuSeconds.toFixed(2),
        share >= stagesShareMin ? text : `${text} ✗`,
      ]),
    )
  }
  return lines.join('\n')
}

/** Ours last, as in the list of engines. */
const order = (name: string) => engineChoices.findIndex((each) => each.name === name)

function measuredSteps(samples: readonly Sample[]) {
  const names = [...new Set(samples.map(({ data }) => data))]
  return names.flatMap((data) =>
    steps.flatMap((step) => {
      const of = samples.filter((sample) => sample.data === data && sample.step === step)
      const engines = [...new Set(of.map(({ engine }) => engine))].sort((left, right) => order(left) - order(right))
      return of.length === 0 ? [] : [{ data, step, engines }]
    }),
  )
}
