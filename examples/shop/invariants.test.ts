import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { checkShop, type InvariantName, invariantNames } from './invariants.ts'
import type { Entry, OrderEntry, ShopState } from './state.ts'

interface Shop {
  orders: Map<number, OrderEntry>
  payments: Map<number, Entry>
  counts: Map<number, Entry>
  invoices: Map<number, Entry>
  totals: { orders: number; cents: number }
  lastOrderId: number
  temporaries: number
  unreadable: string[]
}

const centsAt = (id: number, version: number) => id * 1000 + version
const entry = (id: number, version: number): Entry => ({ version, cents: centsAt(id, version) })
const order = (id: number, version: number, status: OrderEntry['status'] = 'open'): OrderEntry => ({
  ...entry(id, version),
  linesCents: centsAt(id, version),
  status,
})

function emptyShop(): Shop {
  return {
    orders: new Map(),
    payments: new Map(),
    counts: new Map(),
    invoices: new Map(),
    totals: { orders: 0, cents: 0 },
    lastOrderId: 0,
    temporaries: 0,
    unreadable: [],
  }
}

function count(shop: Shop, id: number, version: number): void {
  uncount(shop, id)
  shop.counts.set(id, entry(id, version))
  shop.totals.orders += 1
  shop.totals.cents += centsAt(id, version)
}

function uncount(shop: Shop, id: number): void {
  const before = shop.counts.get(id)
  if (before === undefined) return
  shop.counts.delete(id)
  shop.totals.orders -= 1
  shop.totals.cents -= before.cents
}

/** Orders 1 … 4, each of version 2 in every store. */
function restingShop(): Shop {
  const shop = emptyShop()
  for (const id of [1, 2, 3, 4]) {
    shop.orders.set(id, order(id, 2))
    shop.payments.set(id, entry(id, 2))
    count(shop, id, 2)
    shop.invoices.set(id, entry(id, 2))
  }
  shop.lastOrderId = 4
  return shop
}

interface Planted {
  readonly plant: (shop: Shop) => unknown
  /** What else the same loss breaks. */
  readonly also?: readonly InvariantName[]
}

const planted: Record<InvariantName, Planted> = {
  payment_without_order: { plant: (shop) => shop.orders.delete(2) },
  count_without_payment: { plant: (shop) => shop.payments.delete(2), also: ['steps_missing'] },
  invoice_without_count: { plant: (shop) => uncount(shop, 2), also: ['steps_missing'] },
  payment_ahead_of_order: { plant: (shop) => shop.orders.set(2, order(2, 1)) },
  count_ahead_of_payment: { plant: (shop) => shop.payments.set(2, entry(2, 1)) },
  invoice_ahead_of_count: { plant: (shop) => count(shop, 2, 1) },
  amounts_differ: { plant: (shop) => shop.invoices.set(2, { version: 2, cents: 7 }) },
  steps_missing: { plant: (shop) => shop.invoices.delete(2) },
  lines_differ_from_order: { plant: (shop) => shop.orders.set(2, { ...order(2, 2), linesCents: 7 }) },
  totals_differ_from_counts: { plant: (shop) => Object.assign(shop.totals, { cents: 7 }) },
  sequence_behind_orders: { plant: (shop) => Object.assign(shop, { lastOrderId: 3 }) },
  too_many_in_transit: { plant: (shop) => [1, 2, 3].map((id) => shop.orders.set(id, order(id, 3))) },
  unreadable: { plant: (shop) => shop.unreadable.push('file notes.txt') },
}

describe('each invariant catches what breaks it', () => {
  test('a shop at rest holds', () => {
    expect(checkShop(restingShop(), { inTransitMax: 0 })).toEqual({
      held: true,
      orders: 4,
      payments: 4,
      counts: 4,
      invoices: 4,
      inTransit: 0,
      temporaries: 0,
      violations: [],
    })
  })

  test.each(invariantNames)('%s', (name) => {
    const shop = restingShop()
    const { plant, also = [] } = planted[name]
    plant(shop)
    const report = checkShop(shop, { inTransitMax: 2 })
    expect(report.held).toBe(false)
    expect(report.violations.map((violation) => violation.invariant).sort()).toEqual([name, ...also].sort())
  })

  test.each([
    ['an open order that lost two steps of an amendment', { order: order(1, 3), payment: 1 }],
    ['an open order of version 2 that was never paid', { order: order(1, 2), payment: 0 }],
    ['a cancelled order that is half amended', { order: order(1, 2, 'cancelling'), payment: 1 }],
  ])('%s', (_, { order, payment }) => {
    const shop = emptyShop()
    shop.lastOrderId = 1
    shop.orders.set(1, order)
    if (payment > 0) {
      shop.payments.set(1, entry(1, payment))
      count(shop, 1, payment)
      shop.invoices.set(1, entry(1, payment))
    }
    expect(checkShop(shop).violations.map((violation) => violation.invariant)).toEqual(['steps_missing'])
  })

  test('many violations are all counted, and a few shown', () => {
    const shop = emptyShop()
    for (let id = 1; id <= 100; id++) shop.payments.set(id, entry(id, 1))
    const [violation] = checkShop(shop).violations
    expect(violation?.count).toBe(100)
    expect(violation?.examples).toHaveLength(5)
  })
})

type Step = (shop: Shop) => unknown

function placing(id: number): readonly Step[] {
  return [
    (shop) => shop.orders.set(id, order(id, 1)) && Object.assign(shop, { lastOrderId: Math.max(id, shop.lastOrderId) }),
    ...following(id, 1),
  ]
}

function following(id: number, version: number): readonly Step[] {
  return [
    (shop) => shop.payments.set(id, entry(id, version)),
    (shop) => count(shop, id, version),
    (shop) => shop.invoices.set(id, entry(id, version)),
  ]
}

function amending(id: number, version: number): readonly Step[] {
  return [(shop) => shop.orders.set(id, order(id, version)), ...following(id, version)]
}

function cancelling(id: number, version: number): readonly Step[] {
  return [
    (shop) => shop.orders.set(id, order(id, version, 'cancelling')),
    (shop) => shop.invoices.delete(id),
    (shop) => uncount(shop, id),
    (shop) => shop.payments.delete(id),
    (shop) => shop.orders.delete(id),
  ]
}

const workers = 3

/** All states that a shop of three workers went through: who takes the next step, and what it begins, is given. */
function history(schedule: readonly { worker: number; choice: number }[]): readonly ShopState[] {
  const shop = emptyShop()
  const states: ShopState[] = [structuredClone(shop)]
  const pending: Step[][] = Array.from({ length: workers }, () => [])
  const own: { id: number; version: number }[][] = Array.from({ length: workers }, () => [])
  let lastId = 0
  for (const { worker, choice } of schedule) {
    const steps = pending[worker] ?? []
    const orders = own[worker] ?? []
    const last = orders.at(-1)
    if (steps.length === 0 && (last === undefined || choice === 0)) {
      orders.push({ id: ++lastId, version: 1 })
      steps.push(...placing(lastId))
    } else if (steps.length === 0 && last !== undefined && choice === 1) {
      last.version += 1
      steps.push(...amending(last.id, last.version))
    } else if (steps.length === 0 && last !== undefined) {
      orders.pop()
      steps.push(...cancelling(last.id, last.version))
    }
    steps.shift()?.(shop)
    states.push(structuredClone(shop))
  }
  return states
}

const schedules = fc.array(
  fc.record({ worker: fc.integer({ min: 0, max: workers - 1 }), choice: fc.integer({ min: 0, max: 2 }) }),
  { minLength: 1, maxLength: 60 },
)

describe('against a model of the shop', () => {
  test('every state that ever was holds', () => {
    fc.assert(
      fc.property(schedules, (schedule) => {
        for (const state of history(schedule)) {
          expect(checkShop(state, { inTransitMax: workers }).violations).toEqual([])
        }
      }),
    )
  })

  test('a state stitched from two moments holds exactly when each of its orders once was like this', () => {
    let caught = 0
    fc.assert(
      fc.property(schedules, fc.nat(), fc.nat(), fc.constantFrom(1, 2, 3), (schedule, a, b, cut) => {
        const states = history(schedule)
        const [early = 0, late = 0] = [a % states.length, b % states.length].sort((x, y) => x - y)
        const stitched = stitch(states[early] ?? emptyShop(), states[late] ?? emptyShop(), cut)
        const ids = new Set([...stitched.orders.keys(), ...stitched.payments.keys(), ...stitched.counts.keys()])
        for (const id of stitched.invoices.keys()) ids.add(id)
        const was = [...ids].every((id) => states.some((state) => shown(state, id) === shown(stitched, id)))
        expect(checkShop(stitched).held).toBe(was)
        if (!was) caught += 1
      }),
      { numRuns: 500 },
    )
    expect(caught).toBeGreaterThan(20)
  })
})

/** The first `cut` stores as they were earlier, the others as they were later: what dumps in a row do. */
function stitch(early: ShopState, late: ShopState, cut: number): ShopState {
  const at = (store: number) => (store < cut ? early : late)
  const { counts, totals } = at(2)
  return { ...early, payments: at(1).payments, counts, totals, invoices: late.invoices }
}

function shown(state: ShopState, id: number): string {
  return JSON.stringify([state.orders.get(id), state.payments.get(id), state.counts.get(id), state.invoices.get(id)])
}
