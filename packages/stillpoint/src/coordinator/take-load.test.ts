import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, expect, test } from 'vitest'
import { configText, quiet, startSystem } from './system-workbench.ts'

const participants = `
  orders: { source: sqlite, path: orders.db }
  payments: { source: sqlite, path: payments.db }
  invoices: { source: files, path: invoices }
  receipts: { source: files, path: receipts }`

const request = { allowInconsistent: false, tags: [] }

function createTable(path: string): void {
  const database = new DatabaseSync(path)
  database.exec('PRAGMA journal_mode = WAL; CREATE TABLE entry (id INTEGER PRIMARY KEY)')
  database.close()
}

/** Each number is an order, then a payment, then an invoice, then a receipt: acknowledged before the next is begun. */
function startLoad(dir: string): ChildProcess {
  const program = `
    import { DatabaseSync } from 'node:sqlite'
    import { writeFileSync } from 'node:fs'
    const open = (name) => new DatabaseSync(${JSON.stringify(dir)} + '/' + name, { timeout: 60_000 })
    const [orders, payments] = [open('orders.db'), open('payments.db')]
    const [order, pay] = [orders, payments].map((db) => db.prepare('INSERT INTO entry (id) VALUES (?)'))
    process.stdin.on('end', () => process.exit()).resume() // It ends with its parent, however that ends.
    process.stdout.write('begun')
    for (let id = 1; ; id += 1) {
      order.run(id)
      pay.run(id)
      writeFileSync(${JSON.stringify(dir)} + '/invoices/' + id, String(id))
      writeFileSync(${JSON.stringify(dir)} + '/receipts/' + id, String(id))
      await new Promise((wake) => setTimeout(wake, 10))
    }`
  return spawn(process.execPath, ['--input-type=module', '--eval', program], { stdio: ['pipe', 'pipe', 'inherit'] })
}

function rows(path: string): readonly number[] {
  const database = new DatabaseSync(path, { readOnly: true })
  try {
    return database
      .prepare('SELECT id FROM entry ORDER BY id')
      .all()
      .map(({ id }) => Number(id))
  } finally {
    database.close()
  }
}

describe('a system of stores under load', () => {
  test('C4 each cut is closed: no receipt without its invoice, no invoice without its payment, no payment without its order', async () => {
    const bench = await startSystem({ participants, attempts: 10 })
    let load: ChildProcess | undefined
    try {
      for (const name of ['orders.db', 'payments.db']) createTable(bench.path(name))
      for (const name of ['invoices', 'receipts']) mkdirSync(bench.path(name))
      load = startLoad(bench.dir)
      await once(load.stdout ?? load, 'data')
      const seen: number[] = []
      for (let cut = 1; cut <= 3; cut += 1) {
        const taken = await bench.operations.take(request, quiet())
        expect(taken.verdict).toBe('consistent')
        const dir = bench.path(`scratch-${cut}`)
        mkdirSync(dir)
        const text = configText({ participants }).replace(
          'path: repository, passwordFile: password',
          'path: ../repository, passwordFile: ../password',
        )
        const toConfig = join(dir, 'stillpoint.yaml')
        writeFileSync(toConfig, text)
        const restored = await bench.operations.restore(
          { snapshot: taken.id, participants: [], replace: false, toConfig },
          quiet(),
        )
        expect(restored.participants.flatMap(({ checks }) => checks).filter(({ passed }) => !passed)).toEqual([])
        const orders = new Set(rows(join(dir, 'orders.db')))
        const payments = new Set(rows(join(dir, 'payments.db')))
        const invoices = new Set(readdirSync(join(dir, 'invoices')).map(Number))
        const receipts = new Set(readdirSync(join(dir, 'receipts')).map(Number))
        expect([...payments].filter((id) => !orders.has(id))).toEqual([])
        expect([...invoices].filter((id) => !payments.has(id))).toEqual([])
        expect([...receipts].filter((id) => !invoices.has(id))).toEqual([])
        // Complete, too: one writer has at most one number under way.
        expect(orders.size - receipts.size).toBeLessThanOrEqual(1)
        seen.push(orders.size)
      }
      // The load ran all the time, and the cuts are of different moments.
      expect(seen).toEqual([...new Set(seen)].toSorted((a, b) => a - b))
    } finally {
      const ended = load === undefined ? undefined : once(load, 'exit')
      load?.kill('SIGKILL')
      await ended
      await bench.stop()
    }
  }, 120_000)
})
