/** Many seeds: in this process, or in several, since one world needs one core. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { showSeed } from './report.ts'
import { scenarioOf } from './scenario.ts'
import { World } from './world.ts'

export interface Range {
  readonly from: number
  readonly count: number
  readonly shape?: string
  readonly canary?: string
}

export interface Totals {
  seeds: number
  steps: number
  sealed: number
  aborted: number
  restores: number
  takenOver: number
  /** The first seed that failed. */
  failed: number | null
  /** What the judges found there first. */
  finding: string
}

const noTotals = (): Totals => ({
  seeds: 0,
  steps: 0,
  sealed: 0,
  aborted: 0,
  restores: 0,
  takenOver: 0,
  failed: null,
  finding: '',
})

/** Runs seeds until one fails. */
export async function runRange({ from, count, shape, step = 1 }: Range & { readonly step?: number }): Promise<Totals> {
  const totals = noTotals()
  for (let seed = from; seed < from + count && totals.failed === null; seed += step) {
    const world = new World(scenarioOf(seed, shape), { isTraced: false })
    const [finding] = await world.run()
    if (finding !== undefined) {
      totals.failed = seed
      totals.finding = finding
    }
    totals.seeds += 1
    for (const name of ['steps', 'sealed', 'aborted', 'restores', 'takenOver'] as const)
      totals[name] += world.counts[name]
  }
  return totals
}

/** As a worker: the totals as one line of JSON. */
export async function runSeeds(range: Range & { readonly step: number }): Promise<boolean> {
  const totals = await runRange(range)
  process.stdout.write(`${JSON.stringify(totals)}\n`)
  return totals.failed === null
}

export async function runWorkers(range: Range & { readonly workers: number }): Promise<boolean> {
  const startedMs = performance.now()
  const all = await Promise.all(Array.from({ length: range.workers }, (_, index) => runWorker(range, index)))
  const totals = noTotals()
  for (const one of all) {
    for (const name of ['seeds', 'steps', 'sealed', 'aborted', 'restores', 'takenOver'] as const)
      totals[name] += one[name]
    if (one.failed !== null) totals.failed = Math.min(one.failed, totals.failed ?? Number.POSITIVE_INFINITY)
  }
  const { seeds, steps, sealed, aborted, restores, takenOver } = totals
  const seconds = ((performance.now() - startedMs) / 1_000).toFixed(0)
  console.log(
    `${seeds} seeds, ${steps} steps, ${sealed} cuts sealed, ${aborted} aborted, ${takenOver} takeovers, ` +
      `${restores} restores, ${totals.failed === null ? 'no violation' : `seed ${totals.failed} fails`}, ${seconds} s`,
  )
  if (totals.failed === null) return true
  await showSeed(totals.failed, { ...range, isTraced: true })
  return false
}

function runWorker(range: Range & { readonly workers: number }, index: number): Promise<Totals> {
  const { workers, shape, canary } = range
  const main = fileURLToPath(new URL('../simulate-main.ts', import.meta.url))
  const args = [main, '--worker', '--from', `${range.from + index}`, '--step', `${workers}`]
  args.push('--seeds', `${Math.max(0, range.count - index)}`)
  if (shape !== undefined) args.push('--shape', shape)
  if (canary !== undefined) args.push('--canary', canary)
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.on('data', (bytes: Buffer) => {
      text += bytes.toString()
    })
    child.on('error', reject)
    child.on('close', (code) => {
      if (code === 0 || code === 1) resolve(JSON.parse(text) as Totals)
      else reject(new Error(`the worker of the seeds ${range.from + index}, +${workers} … ended with ${code}`))
    })
  })
}
