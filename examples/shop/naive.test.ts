import { hasTool } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type LoadProcess, startLoad } from './load-process.ts'
import { checkNaiveDumps } from './naive.ts'
import { type ShopServers, startTemporaryShop } from './servers.ts'

const tools = ['initdb', 'pg_dump', 'pg_restore', 'redis-server'].every(hasTool)

describe.skipIf(!tools)('dumps taken one after the other [needs postgresql, redis-server]', () => {
  let servers: ShopServers
  let load: LoadProcess

  beforeAll(async () => {
    servers = await startTemporaryShop()
    load = startLoad(servers.shopFile)
    await load.ready()
  })

  afterAll(async () => {
    load.child.kill('SIGKILL')
    await servers.stop()
  })

  test.each([1, 2])('show a shop that never was, round %i', async (round) => {
    const report = await checkNaiveDumps(servers, `naive${round}`)
    expect(report.held).toBe(false)
    const names: readonly string[] = report.violations.map((violation) => violation.invariant)
    // Which of the three depends on which dump was slow this time.
    const orphans = ['payment_without_order', 'count_without_payment', 'invoice_without_count']
    expect(orphans.filter((name) => names.includes(name))).not.toEqual([])
  })

  test('show the shop as it was when it stood still: what breaks them is the load, not how they are restored', async () => {
    load.child.kill('SIGSTOP')
    try {
      const report = await checkNaiveDumps(servers, 'frozen')
      expect(report.violations).toEqual([])
      expect(report.orders).toBeGreaterThan(500)
      expect(report.invoices).toBeGreaterThan(500)
    } finally {
      load.child.kill('SIGCONT')
    }
    const { placed, amended, cancelled } = await load.stop()
    expect(Math.min(placed, amended, cancelled)).toBeGreaterThan(0)
  })
})
