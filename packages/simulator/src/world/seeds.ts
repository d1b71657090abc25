/** Many seeds in this process, one after the other. `workers.ts` shares them out among several. */
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

const counted = ['steps', 'sealed', 'aborted', 'restores', 'takenOver'] as const

export function noTotals(): Totals {
  return { seeds: 0, steps: 0, sealed: 0, aborted: 0, restores: 0, takenOver: 0, failed: null, finding: '' }
}

/** Of several parts, the smallest seed that failed is the one that is shown. */
export function sumOf(parts: Iterable<Totals>): Totals {
  const sum = noTotals()
  for (const part of parts) {
    for (const name of ['seeds', ...counted] as const) sum[name] += part[name]
    if (part.failed === null || part.failed > (sum.failed ?? part.failed)) continue
    sum.failed = part.failed
    sum.finding = part.finding
  }
  return sum
}

/** Runs every `step`th seed of the range until one fails. `progressed` is told after each. */
export async function runRange(
  { from, count, shape, step = 1 }: Range & { readonly step?: number },
  progressed: (totals: Readonly<Totals>) => void = () => {},
): Promise<Totals> {
  const totals = noTotals()
  for (let seed = from; seed < from + count && totals.failed === null; seed += step) {
    const world = new World(scenarioOf(seed, shape), { isTraced: false })
    const [finding] = await world.run()
    if (finding !== undefined) {
      totals.failed = seed
      totals.finding = finding
    }
    totals.seeds += 1
    for (const name of counted) totals[name] += world.counts[name]
    progressed(totals)
  }
  return totals
}
