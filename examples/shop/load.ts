/**
 * The shop at work: many workers, each of which places, amends and cancels orders of its own, one step after the other.
 *
 *   node examples/shop/load.ts --config shop.json [--workers 12] [--rate 200] [--orders 600]
 *                              [--count N] [--seconds N] [--seed 1] [--progress]
 *
 * Owns: who does what when, and how long the shop had to wait for its stores. Does not own: the steps (order.ts).
 *
 * - Bounded: `--rate` operations per second, about `--orders` orders at a time, and an end after `--count` operations
 *   or `--seconds`, where given. A hold is not caught up with by a burst.
 * - A store that is held is a store that is slow: nothing here has a deadline.
 * - SIGTERM and SIGINT end it when each worker has finished its order; a second one at once.
 * - What a killed load left half done is settled at the next start, before anything new.
 *
 * Prints one JSON object per line: `ready` once there are enough orders, `progress` each second where asked for, `ended`.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type Customer, customer } from './customers.ts'
import { checkShop } from './invariants.ts'
import type { LiveOrder, ShopStores, StepName } from './order.ts'
import { amendOrder, cancelOrder, placeOrder, settleOrder } from './order.ts'
import { createSchema } from './schema.ts'
import type { ShopState } from './state.ts'
import { readShop } from './state.ts'
import type { ShopTargets } from './targets.ts'
import { connectDatabase, connectRedis, readTargets } from './targets.ts'

export interface LoadOptions {
  readonly workers: number
  /** Operations per second, of all workers together. An operation is four steps or more. */
  readonly rate: number
  /** About so many orders are kept alive. */
  readonly orders: number
  /** Ends after so many operations, counted from `ready`. */
  readonly count?: number
  /** Ends after so many seconds, counted from `ready`. */
  readonly seconds?: number
  readonly seed: number
  readonly progress: boolean
}

export const loadDefaults: LoadOptions = { workers: 12, rate: 200, orders: 600, seed: 1, progress: false }

export interface LoadReport {
  readonly live: number
  readonly placed: number
  readonly amended: number
  readonly cancelled: number
  /** Since `ready`: how long the stores took to acknowledge a step. The longest is what a hold did to the shop. */
  readonly stepMs: Readonly<Record<StepName, { readonly p50: number; readonly p99: number; readonly max: number }>>
}

export type LoadEvent = { readonly event: 'ready' | 'progress' | 'ended' } & LoadReport

interface Shop {
  readonly options: LoadOptions
  readonly emit: (event: LoadEvent) => void
  readonly stopping: AbortController
  readonly waits: Readonly<Record<StepName, RecordableHistogram>>
  readonly done: { placed: number; amended: number; cancelled: number }
  live: number
  /** Undefined until there are enough orders: until then, nothing is paced. */
  operationsLeft: number | undefined
}

interface Worker {
  readonly stores: ShopStores
  readonly customer: Customer
  readonly orders: LiveOrder[]
  close(): Promise<void>
}

function milliseconds(nanoseconds: number): number {
  return Math.round(nanoseconds / 1e4) / 100
}

function reportOf(shop: Shop): LoadReport {
  const summary = (wait: RecordableHistogram) => ({
    p50: wait.count === 0 ? 0 : milliseconds(wait.percentile(50)),
    p99: wait.count === 0 ? 0 : milliseconds(wait.percentile(99)),
    max: wait.count === 0 ? 0 : milliseconds(wait.max),
  })
  const { orders, payments, counters, invoices } = shop.waits
  return {
    live: shop.live,
    ...shop.done,
    stepMs: {
      orders: summary(orders),
      payments: summary(payments),
      counters: summary(counters),
      invoices: summary(invoices),
    },
  }
}

async function openWorker(shop: Shop, targets: ShopTargets, index: number): Promise<Worker> {
  const opened: (() => Promise<unknown>)[] = []
  const close = async () => {
    for (const end of opened.reverse()) await end()
  }
  try {
    const orders = await connectDatabase(targets.orders)
    opened.push(() => orders.end())
    const payments = await connectDatabase(targets.payments)
    opened.push(() => payments.end())
    const counters = await connectRedis(targets.counters)
    opened.push(async () => counters.disconnect())
    const stepDone = (name: StepName, tookMs: number) => shop.waits[name].record(Math.max(1, Math.round(tookMs * 1e6)))
    return {
      stores: { orders, payments, counters, invoices: targets.invoices, stepDone },
      customer: customer({ seed: shop.options.seed, worker: index }),
      orders: [],
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

/** Hands each order to a worker, after finishing what an earlier load left in the middle. */
async function adopt(shop: Shop, state: ShopState, workers: readonly Worker[]): Promise<void> {
  const report = checkShop(state)
  if (!report.held) {
    const what = report.violations.map(({ invariant, count }) => `${invariant} (${count})`).join(', ')
    throw new Error(`this shop is in a state that never was: ${what}`)
  }
  let index = 0
  for (const [id, order] of state.orders) {
    const worker = workers[index++ % workers.length]
    if (worker === undefined) throw new Error('there are no workers')
    const count = state.counts.get(id)
    const others = [state.payments.get(id), count, state.invoices.get(id)]
    const settled = order.status === 'open' && others.every((entry) => entry?.version === order.version)
    const { version, cents, status } = order
    const live = settled
      ? { id, version, cents }
      : await settleOrder(worker.stores, { id, version, cents, status, countedCents: count?.cents })
    if (live === undefined) continue
    worker.orders.push(live)
    shop.live += 1
  }
}

async function operate(shop: Shop, { stores, customer, orders }: Worker): Promise<void> {
  const few = shop.live < shop.options.orders * 0.95
  const many = shop.live > shop.options.orders * 1.05
  const choice = few ? 0 : many ? 99 : customer.number(100)
  const index = customer.number(Math.max(1, orders.length))
  const order = orders[index]
  if (choice < 30 || order === undefined) {
    shop.live += 1
    orders.push(await placeOrder(stores, customer.draft()))
    shop.done.placed += 1
  } else if (choice < 70) {
    orders[index] = await amendOrder(stores, order, customer.lines())
    shop.done.amended += 1
  } else {
    shop.live -= 1
    orders.splice(index, 1)
    await cancelOrder(stores, order)
    shop.done.cancelled += 1
  }
}

function becomeReady(shop: Shop): void {
  for (const wait of Object.values(shop.waits)) wait.reset()
  shop.operationsLeft = shop.options.count ?? Number.POSITIVE_INFINITY
  if (shop.options.seconds !== undefined) {
    const timer = setTimeout(() => shop.stopping.abort(), shop.options.seconds * 1000)
    shop.stopping.signal.addEventListener('abort', () => clearTimeout(timer))
  }
  shop.emit({ event: 'ready', ...reportOf(shop) })
}

/** Waits, or returns early when the load is to end. */
async function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(delayMs, undefined, { signal })
  } catch (error) {
    if (!signal.aborted) throw error
  }
}

async function work(shop: Shop, worker: Worker): Promise<void> {
  const { signal } = shop.stopping
  const intervalMs = (shop.options.workers * 1000) / shop.options.rate
  let nextMs = performance.now() + (worker.customer.number(1000) / 1000) * intervalMs
  while (!signal.aborted) {
    if (shop.operationsLeft === undefined) {
      if (shop.live >= shop.options.orders * 0.95) becomeReady(shop)
    } else {
      await pause(Math.max(0, nextMs - performance.now()), signal)
      nextMs = Math.max(nextMs + intervalMs, performance.now())
      if (shop.operationsLeft <= 0) shop.stopping.abort()
      if (signal.aborted) return
      shop.operationsLeft -= 1
    }
    await operate(shop, worker)
  }
}

/**
 * Runs the shop until its bounds or until `signal`, and answers what it did.
 * @throws Error the first that any worker met; the others have finished their orders by then
 */
export async function runLoad(
  targets: ShopTargets,
  options: LoadOptions,
  { signal, emit }: { readonly signal: AbortSignal; readonly emit: (event: LoadEvent) => void },
): Promise<LoadReport> {
  const stopping = new AbortController()
  const stop = () => stopping.abort()
  if (signal.aborted) stop()
  signal.addEventListener('abort', stop)
  const waits = {
    orders: createHistogram(),
    payments: createHistogram(),
    counters: createHistogram(),
    invoices: createHistogram(),
  }
  const done = { placed: 0, amended: 0, cancelled: 0 }
  const shop: Shop = { options, emit, stopping, waits, done, live: 0, operationsLeft: undefined }
  await createSchema(targets)
  const state = await readShop(targets)
  const workers: Worker[] = []
  let ticker: NodeJS.Timeout | undefined
  try {
    for (let index = 0; index < options.workers; index++) workers.push(await openWorker(shop, targets, index))
    await adopt(shop, state, workers)
    if (options.progress) ticker = setInterval(() => emit({ event: 'progress', ...reportOf(shop) }), 1000)
    const ends = await Promise.allSettled(workers.map((worker) => work(shop, worker).finally(stop)))
    const failed = ends.find((end) => end.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  } finally {
    clearInterval(ticker)
    signal.removeEventListener('abort', stop)
    for (const worker of workers) await worker.close()
  }
  const report = reportOf(shop)
  emit({ event: 'ended', ...report })
  return report
}

function wholeNumber(name: string, text: string, max: number): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || value < 1 || value > max)
    throw new Error(`--${name} must be a whole number from 1 to ${max}`)
  return value
}

/** @throws Error that names the option */
export function parseLoadOptions(args: readonly string[]): { readonly config: string; readonly options: LoadOptions } {
  const { values } = parseArgs({
    args: [...args],
    options: {
      config: { type: 'string' },
      workers: { type: 'string', default: String(loadDefaults.workers) },
      rate: { type: 'string', default: String(loadDefaults.rate) },
      orders: { type: 'string', default: String(loadDefaults.orders) },
      count: { type: 'string' },
      seconds: { type: 'string' },
      seed: { type: 'string', default: String(loadDefaults.seed) },
      progress: { type: 'boolean', default: false },
    },
  })
  if (values.config === undefined) throw new Error('--config FILE is missing')
  const options = {
    workers: wholeNumber('workers', values.workers, 40),
    rate: wholeNumber('rate', values.rate, 100_000),
    orders: wholeNumber('orders', values.orders, 1_000_000),
    seed: wholeNumber('seed', values.seed, 2 ** 31),
    progress: values.progress,
    ...(values.count === undefined ? {} : { count: wholeNumber('count', values.count, 1e9) }),
    ...(values.seconds === undefined ? {} : { seconds: wholeNumber('seconds', values.seconds, 1e6) }),
  }
  return { config: values.config, options }
}

async function main(): Promise<void> {
  const { config, options } = parseLoadOptions(process.argv.slice(2))
  const stopping = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    // The second one finds no listener left, and ends the process as it always does.
    process.once(name, () => stopping.abort())
  }
  const emit = (event: LoadEvent) => process.stdout.write(`${JSON.stringify(event)}\n`)
  await runLoad(await readTargets(config), options, { signal: stopping.signal, emit })
}

if (import.meta.main) {
  main().catch((error: unknown) => {
    process.stderr.write(`load: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 1
  })
}
