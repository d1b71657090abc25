/**
 * What must hold between the four stores in any state that ever was.
 *
 * Owns: the rules, and the verdict on a set of targets. Does not own: reading them (state.ts). An order's walk
 * (schema.ts) goes through the stores one acknowledged step at a time, so a state that was is for each order a prefix
 * of a walk: going from the first store to the last, what they say drops at most once, and by one step.
 *
 *   node examples/shop/invariants.ts --config shop.json [--in-transit-max N]
 *
 * prints one JSON object, and exits 0 only when every invariant holds (1: violated, 2: could not be checked).
 * The targets must be at rest: those of a restored snapshot, or of a shop whose load has ended.
 */
import { parseArgs } from 'node:util'
import type { Entry, OrderEntry, ShopState } from './state.ts'
import { readShop } from './state.ts'
import { readTargets } from './targets.ts'

export const invariantNames = [
  'payment_without_order',
  'count_without_payment',
  'invoice_without_count',
  'payment_ahead_of_order',
  'count_ahead_of_payment',
  'invoice_ahead_of_count',
  'amounts_differ',
  'steps_missing',
  'lines_differ_from_order',
  'totals_differ_from_counts',
  'sequence_behind_orders',
  'too_many_in_transit',
  'unreadable',
] as const

export type InvariantName = (typeof invariantNames)[number]

export interface Violation {
  readonly invariant: InvariantName
  /** How often. */
  readonly count: number
  /** The first few, in words. */
  readonly examples: readonly string[]
}

export interface ShopReport {
  readonly held: boolean
  readonly orders: number
  readonly payments: number
  readonly counts: number
  readonly invoices: number
  /** Orders in the middle of a walk: the reason why a cut of a running system is not the same as a stopped one. */
  readonly inTransit: number
  /** Invoices that were being written. */
  readonly temporaries: number
  readonly violations: readonly Violation[]
}

export interface InvariantOptions {
  /** The number of workers that moved the shop: none has more than one order in transit. */
  readonly inTransitMax?: number
}

const examplesMax = 5

type Report = (invariant: InvariantName, example: string) => void

interface Walk {
  readonly id: number
  readonly order: OrderEntry | undefined
  readonly payment: Entry | undefined
  readonly count: Entry | undefined
  readonly invoice: Entry | undefined
}

interface Link {
  readonly from: Entry | undefined
  readonly to: Entry | undefined
  readonly without: InvariantName
  readonly ahead: InvariantName
  readonly words: string
}

function linksOf(walk: Walk): readonly Link[] {
  const { id, order, payment, count, invoice } = walk
  return [
    {
      from: order,
      to: payment,
      without: 'payment_without_order',
      ahead: 'payment_ahead_of_order',
      words: `payment of order ${id}`,
    },
    {
      from: payment,
      to: count,
      without: 'count_without_payment',
      ahead: 'count_ahead_of_payment',
      words: `count of order ${id}`,
    },
    {
      from: count,
      to: invoice,
      without: 'invoice_without_count',
      ahead: 'invoice_ahead_of_count',
      words: `invoice of order ${id}`,
    },
  ]
}

/** Nothing is there, or further, than what it follows from; and where both say so, the amounts are equal. */
function checkLinks(walk: Walk, report: Report): void {
  for (const { from, to, without, ahead, words } of linksOf(walk)) {
    if (to === undefined) continue
    if (from === undefined) report(without, words)
    else if (to.version > from.version) report(ahead, `${words}: version ${to.version} after ${from.version}`)
    else if (to.version === from.version && to.cents !== from.cents) {
      report('amounts_differ', `${words}: ${to.cents} cents after ${from.cents}`)
    }
  }
}

/**
 * What was acknowledged before another acknowledged step is not missing: an open order drops once and by one version
 * (a new order's from 1 to nothing); one that is cancelled drops once and to nothing.
 * @returns whether the order is in the middle of a walk
 */
function checkSteps(walk: Walk, report: Report): boolean {
  const { id, order } = walk
  if (order === undefined) return false
  const versions = [order, walk.payment, walk.count, walk.invoice].map((entry) => entry?.version ?? 0)
  const drops = versions.slice(1).flatMap((version, index) => {
    const before = versions[index] ?? 0
    return version < before ? [{ before, version }] : []
  })
  const cancelling = order.status === 'cancelling'
  const [drop] = drops
  const whole = drop === undefined || (cancelling ? drop.version === 0 : drop.version === drop.before - 1)
  if (drops.length > 1 || !whole)
    report('steps_missing', `order ${id} (${order.status}): versions ${versions.join(', ')}`)
  return cancelling || drops.length > 0
}

function checkOrderDatabase(state: ShopState, report: Report): void {
  for (const [id, order] of state.orders) {
    if (order.linesCents !== order.cents) {
      report('lines_differ_from_order', `order ${id}: lines ${order.linesCents}, order ${order.cents} cents`)
    }
    if (id > state.lastOrderId) report('sequence_behind_orders', `order ${id} after ${state.lastOrderId}`)
  }
}

function checkTotals(state: ShopState, report: Report): void {
  const cents = [...state.counts.values()].reduce((sum, entry) => sum + entry.cents, 0)
  if (state.totals.orders !== state.counts.size) {
    report('totals_differ_from_counts', `${state.totals.orders} orders in total, ${state.counts.size} counted`)
  }
  if (state.totals.cents !== cents) {
    report('totals_differ_from_counts', `${state.totals.cents} cents in total, ${cents} counted`)
  }
}

/** Pure: the same state has the same report. */
export function checkShop(state: ShopState, options: InvariantOptions = {}): ShopReport {
  const found = new Map<InvariantName, { count: number; examples: string[] }>()
  const report: Report = (invariant, example) => {
    const entry = found.get(invariant) ?? { count: 0, examples: [] }
    found.set(invariant, entry)
    entry.count += 1
    if (entry.examples.length < examplesMax) entry.examples.push(example)
  }
  const { orders, payments, counts, invoices } = state
  const ids = new Set([...orders.keys(), ...payments.keys(), ...counts.keys(), ...invoices.keys()])
  let inTransit = 0
  for (const id of [...ids].sort((a, b) => a - b)) {
    const walk = {
      id,
      order: orders.get(id),
      payment: payments.get(id),
      count: counts.get(id),
      invoice: invoices.get(id),
    }
    checkLinks(walk, report)
    if (checkSteps(walk, report)) inTransit += 1
  }
  checkOrderDatabase(state, report)
  checkTotals(state, report)
  const { inTransitMax } = options
  if (inTransitMax !== undefined && inTransit > inTransitMax) {
    report('too_many_in_transit', `${inTransit} orders in transit, ${inTransitMax} workers`)
  }
  for (const what of state.unreadable) report('unreadable', what)
  const violations = invariantNames.flatMap((invariant) => {
    const entry = found.get(invariant)
    return entry === undefined ? [] : [{ invariant, ...entry }]
  })
  return {
    held: violations.length === 0,
    orders: orders.size,
    payments: payments.size,
    counts: counts.size,
    invoices: invoices.size,
    inTransit,
    temporaries: state.temporaries,
    violations,
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { config: { type: 'string' }, 'in-transit-max': { type: 'string' } },
  })
  if (values.config === undefined) throw new Error('--config FILE is missing')
  const limit = values['in-transit-max']
  if (limit !== undefined && !/^\d+$/.test(limit)) throw new Error('--in-transit-max must be a whole number')
  const state = await readShop(await readTargets(values.config))
  const report = checkShop(state, limit === undefined ? {} : { inTransitMax: Number(limit) })
  process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
  return report.held ? 0 : 1
}

if (import.meta.main) {
  main().then(
    (code) => {
      process.exitCode = code
    },
    (error: unknown) => {
      process.stderr.write(`invariants: ${error instanceof Error ? error.message : String(error)}\n`)
      process.exitCode = 2
    },
  )
}
