/**
 * The proof: cuts of the shop under load, each restored and checked; then the nightly dumps, which must fail the same
 * checks, or the load would prove nothing.
 *
 *   node examples/shop/proof.ts [--cuts 50] [--naive 3] [--rate 200] [--orders 600]
 *
 * Prints one JSON object. Exits 0 only when every restore held and every round of naive dumps did not; 1 otherwise;
 * 2 when the proof itself could not be run.
 *
 * Owns: what is proven. Does not own: the commands, which it runs as a user would, each in a process of its own
 * (stillpoint-command.ts).
 *
 * A restore holds when
 * 1. the snapshot's verdict is `consistent`, and all four participants say that they were restored;
 * 2. all invariants hold, with no more orders in transit than the load has workers;
 * 3. it is of this cut and no older one: the last order number lies between those read before and after the take.
 */
import { parseArgs } from 'node:util'
import { checkShop, type ShopReport } from './invariants.ts'
import { loadDefaults } from './load.ts'
import { type LoadProcess, startLoad } from './load-process.ts'
import { checkNaiveDumps } from './naive.ts'
import { compareWithRestic, type ResticReport } from './restic.ts'
import { type ScratchShop, type ShopServers, startTemporaryShop } from './servers.ts'
import { readShop } from './state.ts'
import { makeRepository, restoreSnapshot, takeSnapshot } from './stillpoint-command.ts'
import { connectDatabase, type DatabaseTarget } from './targets.ts'

export interface ProofOptions {
  readonly cuts: number
  /** Rounds of naive dumps. */
  readonly naive: number
  readonly rate: number
  readonly orders: number
}

interface Spread {
  readonly median: number
  readonly max: number
}

export interface ProofReport {
  readonly cuts: number
  readonly held: number
  readonly broken: number
  readonly naive: number
  readonly naiveBroken: number
  /** The longest hold of each cut, as its certificate has it. */
  readonly pauseMs: Spread
  /** Each `take`, from its start to its end. */
  readonly takeMs: Spread
  readonly restoreMs: Spread
  readonly orders: {
    readonly placed: number
    readonly amended: number
    readonly cancelled: number
    /** In the restored shops. */
    readonly restored: Spread
    /** In the middle of their walk in the restored shops: what a consistent cut must get right. */
    readonly inTransit: Spread
  }
  /** The longest that any step of the load waited for its store, over the whole proof. */
  readonly longestStepMs: number
  /** What another program of the field says of the repository; `null` where restic is not installed. */
  readonly restic: ResticReport | null
  readonly problems: readonly { readonly cut: number; readonly problem: string }[]
}

interface CutResult {
  readonly pauseMs: number
  readonly takeMs: number
  readonly restoreMs: number
  readonly report: ShopReport
  readonly problems: readonly string[]
}

/** A proof that goes wrong again and again is over. */
const problemsMax = 5

async function lastOrderId(target: DatabaseTarget): Promise<number> {
  const client = await connectDatabase(target)
  try {
    const { rows } = await client.query<{ last: string }>('SELECT last_value AS last FROM orders_id_seq')
    return Number(rows[0]?.last)
  } finally {
    await client.end()
  }
}

async function timed<T>(run: () => Promise<T>): Promise<{ readonly value: T; readonly tookMs: number }> {
  const startedMs = performance.now()
  const value = await run()
  return { value, tookMs: Math.round(performance.now() - startedMs) }
}

async function proveCut(servers: ShopServers, scratch: ScratchShop): Promise<CutResult> {
  const before = await lastOrderId(servers.targets.orders)
  const { value: snapshot, tookMs: takeMs } = await timed(() => takeSnapshot(servers.directory))
  const after = await lastOrderId(servers.targets.orders)
  const { value: restored, tookMs: restoreMs } = await timed(() =>
    restoreSnapshot(servers.directory, { id: snapshot.id, to: scratch.stillpointFile }),
  )
  const state = await readShop(scratch.targets)
  const report = checkShop(state, { inTransitMax: loadDefaults.workers })
  const problems = report.violations.map(({ invariant, count, examples }) => `${invariant} (${count}): ${examples[0]}`)
  if (snapshot.verdict !== 'consistent') problems.push(`the verdict is ${snapshot.verdict}`)
  const missing = ['orders-db', 'payments-db', 'counters', 'invoices'].filter((name) => !restored.includes(name))
  if (missing.length > 0) problems.push(`not restored: ${missing.join(', ')}`)
  if (state.lastOrderId < before || state.lastOrderId > after) {
    problems.push(`the last order is ${state.lastOrderId}, and was ${before} before the take, ${after} after it`)
  }
  return { pauseMs: snapshot.pauseMs, takeMs, restoreMs, report, problems }
}

function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  return { median: sorted[Math.floor(sorted.length / 2)] ?? 0, max: sorted.at(-1) ?? 0 }
}

interface Outcome {
  readonly results: readonly CutResult[]
  readonly problems: readonly { readonly cut: number; readonly problem: string }[]
  readonly restic: ResticReport | null
}

async function proveCuts(servers: ShopServers, options: ProofOptions, log: (text: string) => void): Promise<Outcome> {
  const scratch = await servers.scratch('scratch')
  const results: CutResult[] = []
  const problems: { cut: number; problem: string }[] = []
  let restic: ResticReport | null = null
  for (let cut = 1; cut <= options.cuts && problems.length < problemsMax; cut++) {
    if (cut > 1) await scratch.empty()
    try {
      const result = await proveCut(servers, scratch)
      results.push(result)
      problems.push(...result.problems.map((problem) => ({ cut, problem })))
      log(
        `cut ${cut}: held for ${result.pauseMs} ms, ${result.report.inTransit} orders in transit, ${verdictOf(result)}`,
      )
      if (cut === options.cuts) restic = await compareWithRestic(servers, scratch.targets.invoices)
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error)
      problems.push({ cut, problem })
      log(`cut ${cut}: ${problem}`)
    }
  }
  return { results, problems, restic }
}

function verdictOf(result: CutResult): string {
  return result.problems.length === 0 ? 'restored and whole' : result.problems.join('; ')
}

async function proveNaive(servers: ShopServers, rounds: number, log: (text: string) => void): Promise<number> {
  let broken = 0
  for (let round = 1; round <= rounds; round++) {
    const report = await checkNaiveDumps(servers, `naive${round}`)
    if (!report.held) broken += 1
    const found = report.violations.map(({ invariant, count }) => `${invariant} (${count})`).join(', ')
    log(`naive dumps ${round}: ${found || 'nothing broken'}`)
  }
  return broken
}

/** @throws Error when servers or load cannot be run; what goes wrong with a cut is in the report */
export async function prove(options: ProofOptions, log: (text: string) => void): Promise<ProofReport> {
  const servers = await startTemporaryShop()
  let load: LoadProcess | undefined
  try {
    load = startLoad(servers.shopFile, '--rate', String(options.rate), '--orders', String(options.orders))
    await load.ready()
    await makeRepository(servers.directory)
    log('the shop is full and moving')
    const { results, problems, restic } = await proveCuts(servers, options, log)
    const naiveBroken = await proveNaive(servers, options.naive, log)
    const { placed, amended, cancelled, stepMs } = await load.stop()
    const held = results.filter((result) => result.problems.length === 0).length
    return {
      cuts: options.cuts,
      held,
      broken: options.cuts - held,
      naive: options.naive,
      naiveBroken,
      pauseMs: spreadOf(results.map((result) => result.pauseMs)),
      takeMs: spreadOf(results.map((result) => result.takeMs)),
      restoreMs: spreadOf(results.map((result) => result.restoreMs)),
      orders: {
        placed,
        amended,
        cancelled,
        restored: spreadOf(results.map((result) => result.report.orders)),
        inTransit: spreadOf(results.map((result) => result.report.inTransit)),
      },
      longestStepMs: Math.max(...Object.values(stepMs).map((step) => step.max)),
      restic,
      problems,
    }
  } finally {
    load?.child.kill('SIGKILL')
    await servers.stop()
  }
}

/** Whether the proof is one. */
export function proven(report: ProofReport): boolean {
  const cutsHeld = report.cuts > 0 && report.held === report.cuts && report.problems.length === 0
  const naiveFailed = report.naive > 0 && report.naiveBroken === report.naive
  return cutsHeld && naiveFailed && (report.restic === null || (report.restic.checked && report.restic.equal))
}

function wholeNumber(name: string, text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new Error(`--${name} must be a whole number from 1 to 9999999`)
  return Number(text)
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      cuts: { type: 'string', default: '50' },
      naive: { type: 'string', default: '3' },
      rate: { type: 'string', default: String(loadDefaults.rate) },
      orders: { type: 'string', default: String(loadDefaults.orders) },
    },
  })
  const options = {
    cuts: wholeNumber('cuts', values.cuts),
    naive: wholeNumber('naive', values.naive),
    rate: wholeNumber('rate', values.rate),
    orders: wholeNumber('orders', values.orders),
  }
  const report = await prove(options, (text) => process.stderr.write(`${text}\n`))
  process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
  return proven(report) ? 0 : 1
}

if (import.meta.main) {
  main().then(
    (code) => {
      process.exitCode = code
    },
    (error: unknown) => {
      process.stderr.write(`proof: ${error instanceof Error ? error.message : String(error)}\n`)
      process.exitCode = 2
    },
  )
}
