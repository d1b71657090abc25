/**
 * The shop's data, and the order in which it is written.
 *
 * An order passes through four stores. Each step is acknowledged before the next begins, and each writes the same
 * version and the same amount:
 *
 *   orders (Postgres)  →  payments (another Postgres)  →  counters (Redis)  →  invoices (files)
 *
 * A new order is version 1, an amended one the next version, everywhere. An order that is cancelled is first marked in
 * `orders`, then leaves the stores in the reverse order. So whoever sees all four stores at one instant sees, for each
 * order, an intact prefix of one such walk. That is what invariants.ts checks.
 *
 * Owns: tables and keys. Does not own: the steps (order.ts), reading it all (state.ts).
 */
import { mkdir } from 'node:fs/promises'
import type pg from 'pg'
import type { ShopTargets } from './targets.ts'
import { connectDatabase } from './targets.ts'

const ordersSchema = `
  CREATE TABLE IF NOT EXISTS orders (
    id       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version  integer NOT NULL,
    cents    integer NOT NULL CHECK (cents > 0),
    status   text NOT NULL CHECK (status IN ('open', 'cancelling')),
    customer text NOT NULL,
    note     text NOT NULL
  );
  CREATE TABLE IF NOT EXISTS order_lines (
    order_id integer NOT NULL REFERENCES orders ON DELETE CASCADE,
    line     integer NOT NULL,
    article  text NOT NULL,
    cents    integer NOT NULL CHECK (cents > 0),
    PRIMARY KEY (order_id, line)
  );`

const paymentsSchema = `
  CREATE TABLE IF NOT EXISTS payments (
    order_id integer PRIMARY KEY,
    version  integer NOT NULL,
    cents    integer NOT NULL CHECK (cents > 0),
    receipt  text NOT NULL
  );`

/** Redis keys. `counted`: order id → `version:cents`. The two totals are written in the same MULTI as `counted`. */
export const redisKeys = { counted: 'shop:counted', orders: 'shop:orders', cents: 'shop:cents' } as const

export function invoiceName(orderId: number): string {
  return `${orderId}.json`
}

/** An invoice is written under this name, then renamed: at its own name it is always whole. */
export function temporaryInvoiceName(orderId: number): string {
  return `.${orderId}.tmp`
}

export const temporaryInvoicePattern = /^\.\d+\.tmp$/

/** Who asks for the same tables at the same time waits, instead of failing on what the other has just created. */
async function createTables(client: pg.Client, schema: string): Promise<void> {
  await client.query(`BEGIN; SELECT pg_advisory_xact_lock(7406); ${schema} COMMIT;`)
}

/** Makes the tables and the directory where they are missing. Idempotent. */
export async function createSchema(targets: ShopTargets): Promise<void> {
  const databases = [
    { target: targets.orders, schema: ordersSchema },
    { target: targets.payments, schema: paymentsSchema },
  ]
  for (const { target, schema } of databases) {
    const client = await connectDatabase(target)
    try {
      await createTables(client, schema)
    } finally {
      await client.end()
    }
  }
  await mkdir(targets.invoices, { recursive: true })
}
