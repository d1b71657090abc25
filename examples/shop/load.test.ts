import { execFile } from 'node:child_process'
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { hasTool } from '@stillpoint/testbed'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { checkShop, type ShopReport } from './invariants.ts'
import { parseLoadOptions } from './load.ts'
import { type LoadProcess, startLoad } from './load-process.ts'
import { redisKeys } from './schema.ts'
import { type ShopServers, startTemporaryShop } from './servers.ts'
import { readShop } from './state.ts'
import { connectDatabase, connectRedis, type ShopTargets } from './targets.ts'

const workers = 8
const some = ['--workers', String(workers), '--orders', '80', '--rate', '400']

describe('options of the load', () => {
  test('have defaults', () => {
    const { config, options } = parseLoadOptions(['--config', 'shop.json', '--count', '7'])
    expect(config).toBe('shop.json')
    expect(options).toMatchObject({ workers: 12, count: 7 })
  })

  test.each([
    [[], '--config'],
    [['--config', 'x', '--rate', '0'], '--rate'],
    [['--config', 'x', '--workers', '-1'], '--workers'],
    [['--config', 'x', '--seconds', 'soon'], '--seconds'],
    [['--config', 'x', '--color'], '--color'],
  ])('%j is refused by name', (args, name) => {
    expect(() => parseLoadOptions(args)).toThrow(name)
  })
})

/** The files that a program runs, by their imports. */
async function filesOf(name: string, found = new Map<string, string>()): Promise<ReadonlyMap<string, string>> {
  if (found.has(name)) return found
  const text = await readFile(new URL(name, import.meta.url), 'utf8')
  found.set(name, text)
  for (const [, next] of text.matchAll(/from '(\.\/[^']+)'/g)) if (next !== undefined) await filesOf(next, found)
  return found
}

test('the load knows nothing of Stillpoint', async () => {
  const files = await filesOf('./load.ts')
  expect(files.size).toBeGreaterThan(5)
  for (const [name, text] of files) expect(text, name).not.toMatch(/from '(@stillpoint|stillpoint)/)
})

describe.skipIf(!['initdb', 'redis-server'].every(hasTool))('the load [needs postgresql, redis-server]', () => {
  let servers: ShopServers
  let loads: LoadProcess[] = []

  const start = (...args: readonly string[]) => {
    const load = startLoad(servers.shopFile, ...some, ...args)
    loads.push(load)
    return load
  }

  // A test that fails leaves no load behind to spoil the next one.
  afterEach(async () => {
    for (const load of loads) load.child.kill('SIGKILL')
    await Promise.allSettled(loads.map((load) => load.ended))
    loads = []
  })

  beforeAll(async () => {
    servers = await startTemporaryShop()
  })

  afterAll(async () => {
    await servers.stop()
  })

  const check = async (inTransitMax: number) => checkShop(await readShop(servers.targets), { inTransitMax })

  test('ends after as many operations as it was given, with every order whole', async () => {
    const load = start('--count', '100')
    const ready = await load.ready()
    const ended = await load.ended
    const operations = (event: typeof ready) => event.placed + event.amended + event.cancelled
    expect(operations(ended) - operations(ready)).toBeGreaterThanOrEqual(100)
    expect(operations(ended) - operations(ready)).toBeLessThanOrEqual(100 + workers)
    expect(await check(0)).toMatchObject({ violations: [], inTransit: 0, orders: ended.live, invoices: ended.live })
  })

  test('killed at any moment it leaves a shop that was, and the next load settles it', async () => {
    let inTransit = 0
    for (const delayMs of [20, 60, 140]) {
      const load = start()
      await load.ready()
      await sleep(delayMs)
      load.child.kill('SIGKILL')
      await expect(load.ended).rejects.toThrow('SIGKILL')
      await untilForgotten(servers.targets) // what it had sent before is still done
      const report = await check(workers)
      expect(report.violations).toEqual([])
      inTransit += report.inTransit
    }
    expect(inTransit).toBeGreaterThan(0)
    const last = start()
    await last.ready()
    await last.stop()
    expect(await check(0)).toMatchObject({ violations: [], inTransit: 0 })
  })

  test('waits out a hold of the three stores; meanwhile the directory is at rest, and the shop is one that was', async () => {
    const load = start()
    await load.ready()
    const [orders, payments, counters] = await Promise.all([
      connectDatabase(servers.targets.orders),
      connectDatabase(servers.targets.payments),
      connectRedis(servers.targets.counters),
    ])
    const files = () => listing(servers.targets.invoices)
    try {
      await Promise.all([
        // In the order in which the shop's own transactions take them: in the other one, somebody is a deadlock's victim.
        orders.query('BEGIN; LOCK TABLE orders, order_lines IN EXCLUSIVE MODE'),
        payments.query('BEGIN; LOCK TABLE payments IN EXCLUSIVE MODE'),
        counters.call('CLIENT', 'PAUSE', '10000', 'WRITE'),
      ])
      const before = await untilEqual(files, 500)
      const held = await check(workers)
      await sleep(300)
      expect(await files()).toEqual(before)
      expect(held.violations).toEqual([])
      expect(held.inTransit).toBeGreaterThan(0)
    } finally {
      await Promise.all([orders.query('ROLLBACK'), payments.query('ROLLBACK'), counters.call('CLIENT', 'UNPAUSE')])
      await Promise.all([orders.end(), payments.end()])
      counters.disconnect()
    }
    await sleep(200)
    const { stepMs } = await load.stop()
    // Whichever store each worker met first.
    expect(Math.max(...Object.values(stepMs).map(({ max }) => max))).toBeGreaterThan(400)
    expect(await check(0)).toMatchObject({ violations: [] })
  })

  test('what is planted in the stores is reported by the command, and refused by the next load', async () => {
    const before = await invariants(servers.shopFile)
    expect(before).toMatchObject({ code: 0, report: { held: true, violations: [] } })
    const orders = await connectDatabase(servers.targets.orders)
    const counters = await connectRedis(servers.targets.counters)
    try {
      await orders.query('DELETE FROM orders WHERE id = (SELECT min(id) FROM orders)')
      await counters.hset(redisKeys.counted, '999999', '1:500')
    } finally {
      await orders.end()
      counters.disconnect()
    }
    await writeFile(join(servers.targets.invoices, '888888.json'), '{ "order": 888888, "version": 1, "cents": 5 }')
    await writeFile(join(servers.targets.invoices, '777777.json'), '{ "order": 77')
    const { code, report } = await invariants(servers.shopFile)
    expect(code).toBe(1)
    expect(report.violations.map((violation) => violation.invariant).sort()).toEqual([
      'count_without_payment',
      'invoice_without_count',
      'payment_without_order',
      'totals_differ_from_counts',
      'unreadable',
    ])
    const load = start()
    await expect(load.ready()).rejects.toThrow('payment_without_order (1)')
  })
})

async function listing(directory: string): Promise<readonly string[]> {
  const names = await readdir(directory)
  return Promise.all(
    names.sort().map(async (name) => {
      try {
        const { ino, mtimeMs } = await stat(join(directory, name))
        return `${name} ${ino} ${mtimeMs}`
      } catch {
        return `${name} is gone since` // not at rest yet: the next listing is another one
      }
    }),
  )
}

/** Waits until the servers have noticed that the killed load is gone. */
async function untilForgotten(targets: ShopTargets): Promise<void> {
  for (const target of [targets.orders, targets.payments]) {
    const client = await connectDatabase(target)
    const others = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                    AND backend_type = 'client backend'`
    while ((await client.query(others)).rowCount !== 0) await sleep(10)
    await client.end()
  }
  const redis = await connectRedis(targets.counters)
  while (!/^connected_clients:1\r?$/m.test(await redis.info('clients'))) await sleep(10)
  redis.disconnect()
}

/** The answer, once it is the same twice in a row. */
async function untilEqual<T>(read: () => Promise<T>, apartMs: number): Promise<T> {
  for (let last = JSON.stringify(await read()); ; ) {
    await sleep(apartMs)
    const next = await read()
    if (JSON.stringify(next) === last) return next
    last = JSON.stringify(next)
  }
}

function invariants(shopFile: string): Promise<{ code: number; report: ShopReport }> {
  const program = fileURLToPath(new URL('./invariants.ts', import.meta.url))
  return new Promise((resolve, reject) => {
    const child = execFile(process.execPath, [program, '--config', shopFile], (_error, stdout, stderr) => {
      if (stdout === '') reject(new Error(stderr))
      else resolve({ code: child.exitCode ?? -1, report: JSON.parse(stdout) })
    })
  })
}
