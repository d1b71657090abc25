/**
 * The walk of one order through the four stores.
 *
 * Owns: the order of the steps, and that each is acknowledged before the next begins. Every function here is called
 * by one worker at a time for one order. Does not own: which order does what when (load.ts).
 *
 * 1. The directory changes only as the direct consequence of a write that another store has acknowledged: an invoice
 *    follows its count, and a cancellation is marked in `orders` before anything is removed. So while the other three
 *    stores are held, the directory comes to rest.
 * 2. A step that may have been done is never guessed at: a lost connection fails the walk, and `settle` finishes it
 *    at the next start from what the stores say.
 */
import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Redis } from 'ioredis'
import pg from 'pg'
import { invoiceName, redisKeys, temporaryInvoiceName } from './schema.ts'

export interface OrderLine {
  readonly article: string
  readonly cents: number
}

export interface OrderDraft {
  readonly customer: string
  readonly note: string
  readonly lines: readonly OrderLine[]
}

/** What a worker remembers of an order that has reached all four stores. */
export interface LiveOrder {
  readonly id: number
  readonly version: number
  readonly cents: number
}

export type StepName = 'orders' | 'payments' | 'counters' | 'invoices'

export interface ShopStores {
  readonly orders: pg.Client
  readonly payments: pg.Client
  readonly counters: Redis
  readonly invoices: string
  /** Told after each step, with how long its acknowledgement took. */
  readonly stepDone: (step: StepName, tookMs: number) => void
}

/** What Postgres answers to a transaction that it has ended for reasons of its own: try again. */
const retriedCodes = new Set(['40001', '40P01'])
const attemptsMax = 20

export function centsOf(lines: readonly OrderLine[]): number {
  return lines.reduce((sum, line) => sum + line.cents, 0)
}

async function step<T>(stores: ShopStores, name: StepName, run: () => Promise<T>): Promise<T> {
  const startedMs = performance.now()
  const answer = await run()
  stores.stepDone(name, performance.now() - startedMs)
  return answer
}

async function transaction<T>(client: pg.Client, run: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      await client.query('BEGIN')
      const answer = await run()
      await client.query('COMMIT')
      return answer
    } catch (error) {
      const again = error instanceof pg.DatabaseError && retriedCodes.has(error.code ?? '') && attempt < attemptsMax
      if (!again) throw error
      await client.query('ROLLBACK')
    }
  }
}

async function insertLines(client: pg.Client, orderId: number, lines: readonly OrderLine[]): Promise<void> {
  await client.query(
    `INSERT INTO order_lines (order_id, line, article, cents)
     SELECT $1, given.line, given.article, given.cents
     FROM unnest($2::text[], $3::integer[]) WITH ORDINALITY AS given (article, cents, line)`,
    [orderId, lines.map((line) => line.article), lines.map((line) => line.cents)],
  )
}

async function pay(stores: ShopStores, order: LiveOrder): Promise<void> {
  await step(stores, 'payments', () =>
    stores.payments.query(
      `INSERT INTO payments (order_id, version, cents, receipt) VALUES ($1, $2, $3, $4)
       ON CONFLICT (order_id) DO UPDATE SET version = $2, cents = $3, receipt = $4`,
      [order.id, order.version, order.cents, `receipt of order ${order.id}, version ${order.version}`],
    ),
  )
}

/** @throws Error when any command of a MULTI failed, or none was done */
function assertDone(answers: [error: Error | null, result: unknown][] | null): void {
  if (answers === null) throw new Error('Redis: the transaction was not done')
  for (const [error] of answers) if (error !== null) throw error
}

async function count(stores: ShopStores, order: LiveOrder, beforeCents: number | undefined): Promise<void> {
  await step(stores, 'counters', async () => {
    const multi = stores.counters.multi()
    multi.hset(redisKeys.counted, String(order.id), `${order.version}:${order.cents}`)
    multi.incrby(redisKeys.orders, beforeCents === undefined ? 1 : 0)
    multi.incrby(redisKeys.cents, order.cents - (beforeCents ?? 0))
    assertDone(await multi.exec())
  })
}

async function uncount(stores: ShopStores, orderId: number, beforeCents: number): Promise<void> {
  await step(stores, 'counters', async () => {
    const multi = stores.counters.multi()
    multi.hdel(redisKeys.counted, String(orderId))
    multi.decr(redisKeys.orders)
    multi.decrby(redisKeys.cents, beforeCents)
    assertDone(await multi.exec())
  })
}

async function writeInvoice(stores: ShopStores, order: LiveOrder, lines: readonly OrderLine[]): Promise<void> {
  await step(stores, 'invoices', async () => {
    const temporary = join(stores.invoices, temporaryInvoiceName(order.id))
    const { id, version, cents } = order
    await writeFile(temporary, `${JSON.stringify({ order: id, version, cents, lines }, null, 2)}\n`)
    await rename(temporary, join(stores.invoices, invoiceName(order.id)))
  })
}

export async function placeOrder(stores: ShopStores, draft: OrderDraft): Promise<LiveOrder> {
  const cents = centsOf(draft.lines)
  const id = await step(stores, 'orders', () =>
    transaction(stores.orders, async () => {
      const answer = await stores.orders.query<{ id: number }>(
        `INSERT INTO orders (version, cents, status, customer, note) VALUES (1, $1, 'open', $2, $3) RETURNING id`,
        [cents, draft.customer, draft.note],
      )
      const row = answer.rows[0]
      if (row === undefined) throw new Error('orders: INSERT … RETURNING answered no row')
      await insertLines(stores.orders, row.id, draft.lines)
      return row.id
    }),
  )
  const order = { id, version: 1, cents }
  await pay(stores, order)
  await count(stores, order, undefined)
  await writeInvoice(stores, order, draft.lines)
  return order
}

export async function amendOrder(
  stores: ShopStores,
  before: LiveOrder,
  lines: readonly OrderLine[],
): Promise<LiveOrder> {
  const order = { id: before.id, version: before.version + 1, cents: centsOf(lines) }
  await step(stores, 'orders', () =>
    transaction(stores.orders, async () => {
      await stores.orders.query('UPDATE orders SET version = $2, cents = $3 WHERE id = $1', [
        order.id,
        order.version,
        order.cents,
      ])
      await stores.orders.query('DELETE FROM order_lines WHERE order_id = $1', [order.id])
      await insertLines(stores.orders, order.id, lines)
    }),
  )
  await pay(stores, order)
  await count(stores, order, before.cents)
  await writeInvoice(stores, order, lines)
  return order
}

export async function cancelOrder(stores: ShopStores, order: LiveOrder): Promise<void> {
  await step(stores, 'orders', () =>
    stores.orders.query(`UPDATE orders SET status = 'cancelling' WHERE id = $1`, [order.id]),
  )
  await removeOrder(stores, order.id, order.cents)
}

/** The way back: from the last store to the first. `countedCents` is undefined when the count is already gone. */
async function removeOrder(stores: ShopStores, orderId: number, countedCents: number | undefined): Promise<void> {
  await step(stores, 'invoices', () => rm(join(stores.invoices, invoiceName(orderId)), { force: true }))
  if (countedCents !== undefined) await uncount(stores, orderId, countedCents)
  await step(stores, 'payments', () => stores.payments.query('DELETE FROM payments WHERE order_id = $1', [orderId]))
  await step(stores, 'orders', () => stores.orders.query('DELETE FROM orders WHERE id = $1', [orderId]))
}

export interface UnsettledOrder extends LiveOrder {
  readonly status: 'open' | 'cancelling'
  readonly countedCents: number | undefined
}

/** Finishes what a load that was killed had begun: forwards for an open order, backwards for a cancelled one. */
export async function settleOrder(stores: ShopStores, order: UnsettledOrder): Promise<LiveOrder | undefined> {
  await rm(join(stores.invoices, temporaryInvoiceName(order.id)), { force: true })
  if (order.status === 'cancelling') {
    await removeOrder(stores, order.id, order.countedCents)
    return undefined
  }
  const { rows } = await stores.orders.query<OrderLine>(
    'SELECT article, cents FROM order_lines WHERE order_id = $1 ORDER BY line',
    [order.id],
  )
  const live = { id: order.id, version: order.version, cents: order.cents }
  await pay(stores, live)
  await count(stores, live, order.countedCents)
  await writeInvoice(stores, live, rows)
  return live
}
