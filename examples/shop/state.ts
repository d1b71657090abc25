/**
 * Everything that the four stores say about every order, read into memory.
 *
 * Owns: reading, and nothing is left out: what cannot be read as an invoice or a count is named in `unreadable`. Does
 * not own: what it should be like (invariants.ts). The stores are read one after the other: the answer means something
 * only for stores at rest, such as those of a restored snapshot.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { invoiceName, redisKeys, temporaryInvoicePattern } from './schema.ts'
import type { DatabaseTarget, RedisTarget, ShopTargets } from './targets.ts'
import { connectDatabase, connectRedis } from './targets.ts'

/** What one store says about one order. */
export interface Entry {
  readonly version: number
  readonly cents: number
}

export interface OrderEntry extends Entry {
  readonly status: 'open' | 'cancelling'
  /** The sum over the order's lines, which are written in the same transaction. */
  readonly linesCents: number
}

export interface ShopState {
  readonly orders: ReadonlyMap<number, OrderEntry>
  readonly payments: ReadonlyMap<number, Entry>
  readonly counts: ReadonlyMap<number, Entry>
  readonly invoices: ReadonlyMap<number, Entry>
  /** The totals that Redis keeps beside the counts. */
  readonly totals: { readonly orders: number; readonly cents: number }
  /** The last id that the sequence of `orders` has given; 0 when none. */
  readonly lastOrderId: number
  /** Invoices that were being written. They are nobody's yet. */
  readonly temporaries: number
  /** What is neither an entry nor a temporary, in words. */
  readonly unreadable: readonly string[]
}

async function readOrders(target: DatabaseTarget): Promise<Pick<ShopState, 'orders' | 'lastOrderId'>> {
  const client = await connectDatabase(target)
  try {
    const { rows } = await client.query<{ id: number } & OrderEntry>(
      `SELECT o.id, o.version, o.cents, o.status, coalesce(l.cents, 0)::integer AS "linesCents"
       FROM orders o
       LEFT JOIN (SELECT order_id, sum(cents) AS cents FROM order_lines GROUP BY order_id) l ON l.order_id = o.id`,
    )
    const sequence = await client.query<{ last: string; called: boolean }>(
      'SELECT last_value AS last, is_called AS called FROM orders_id_seq',
    )
    const { last, called } = sequence.rows[0] ?? { last: '0', called: false }
    const orders = new Map(rows.map(({ id, ...entry }) => [id, entry]))
    return { orders, lastOrderId: called ? Number(last) : 0 }
  } finally {
    await client.end()
  }
}

async function readPayments(target: DatabaseTarget): Promise<ReadonlyMap<number, Entry>> {
  const client = await connectDatabase(target)
  try {
    const { rows } = await client.query<{ id: number } & Entry>('SELECT order_id AS id, version, cents FROM payments')
    return new Map(rows.map(({ id, ...entry }) => [id, entry]))
  } finally {
    await client.end()
  }
}

async function readCounts(target: RedisTarget): Promise<Pick<ShopState, 'counts' | 'totals' | 'unreadable'>> {
  const redis = await connectRedis(target)
  try {
    const counted = await redis.hgetall(redisKeys.counted)
    const [orders, cents] = await redis.mget(redisKeys.orders, redisKeys.cents)
    const counts = new Map<number, Entry>()
    const unreadable: string[] = []
    for (const [id, text] of Object.entries(counted)) {
      const match = /^(\d+):(\d+)$/.exec(text)
      if (match === null || !/^\d+$/.test(id)) unreadable.push(`count ${id}: ${text}`)
      else counts.set(Number(id), { version: Number(match[1]), cents: Number(match[2]) })
    }
    return { counts, totals: { orders: Number(orders ?? 0), cents: Number(cents ?? 0) }, unreadable }
  } finally {
    redis.disconnect()
  }
}

/** @returns undefined when the text is not the invoice of this order */
function parseInvoice(orderId: number, text: string): Entry | undefined {
  let content: unknown
  try {
    content = JSON.parse(text)
  } catch {
    return undefined // A torn file is a finding, which the caller names.
  }
  if (typeof content !== 'object' || content === null) return undefined
  const { order, version, cents } = content as Record<string, unknown>
  if (order !== orderId || typeof version !== 'number' || typeof cents !== 'number') return undefined
  return { version, cents }
}

async function readInvoices(directory: string): Promise<Pick<ShopState, 'invoices' | 'temporaries' | 'unreadable'>> {
  const invoices = new Map<number, Entry>()
  const unreadable: string[] = []
  let temporaries = 0
  for (const name of await readdir(directory)) {
    const id = Number(/^(\d+)\.json$/.exec(name)?.[1])
    if (temporaryInvoicePattern.test(name)) temporaries += 1
    else if (Number.isNaN(id) || name !== invoiceName(id)) unreadable.push(`file ${name}`)
    else {
      const entry = parseInvoice(id, await readFile(join(directory, name), 'utf8'))
      if (entry === undefined) unreadable.push(`invoice ${name}`)
      else invoices.set(id, entry)
    }
  }
  return { invoices, temporaries, unreadable }
}

/** @throws whatever a store that cannot be read answers: a missing table, a refused connection, a missing directory */
export async function readShop(targets: ShopTargets): Promise<ShopState> {
  const { orders, lastOrderId } = await readOrders(targets.orders)
  const payments = await readPayments(targets.payments)
  const { counts, totals, unreadable } = await readCounts(targets.counters)
  const files = await readInvoices(targets.invoices)
  return { ...files, orders, payments, counts, totals, lastOrderId, unreadable: [...unreadable, ...files.unreadable] }
}
