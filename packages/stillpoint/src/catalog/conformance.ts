/**
 * The rules that every catalog keeps (catalog.ts, K1–K5), as tests. Given to each catalog, and to broken ones, which
 * must fail it.
 *
 * Owns: the checks. Does not own: how a catalog is opened, closed and opened again; the bench does.
 */
import { makePlan, type Plan } from '@stillpoint/core'
import { type CutId, type Incarnation, isFailure, participantName } from '@stillpoint/core/kernel'
import type { Catalog, Holder } from './catalog.ts'

export interface CatalogBench {
  /** A catalog on the bench's storage; each call another client of the same storage. */
  open(): Promise<Catalog>
  /** Ends all clients as a crash does, and removes the storage. */
  stop(): Promise<void>
}

/** What the suite needs of a test framework. */
export interface CatalogTestApi {
  test(name: string, body: () => Promise<void>): unknown
}

const system = 'bank'
const holder: Holder = { what: 'take', pid: 1, host: 'here', since: '2026-01-01T00:00:00Z' }
const orders = participantName('orders')
const payments = participantName('payments')

function check(condition: boolean, broken: string): asserts condition {
  if (!condition) throw new Error(broken)
}

async function mustFail(promise: Promise<unknown>, code: string, what: string): Promise<void> {
  let thrown: unknown
  try {
    await promise
  } catch (error) {
    thrown = error
  }
  check(isFailure(thrown, code), `${what}: ${String(thrown)} instead of ${code}`)
}

function planOf(counters: { epoch: number; generation: number; fencing: number }): Plan {
  const cut = `cut-${counters.generation}-${counters.epoch}` as CutId
  const stores = [{ name: 'db', source: 'files', writers: 'unknown' as const }]
  const processes = [{ name: 'orders', incarnation: 'i1' as Incarnation }]
  return makePlan({ system, cut, ...counters, stores, processes })
}

export function catalogConformance(api: CatalogTestApi, newBench: () => Promise<CatalogBench>): void {
  const rule = (name: string, body: (bench: CatalogBench) => Promise<void>) =>
    api.test(name, async () => {
      const bench = await newBench()
      try {
        await body(bench)
      } finally {
        await bench.stop()
      }
    })
  countersRules(rule)
  cutRules(rule)
  restoreRules(rule)
  cacheRules(rule)
}

type Rule = (name: string, body: (bench: CatalogBench) => Promise<void>) => void

function countersRules(rule: Rule): void {
  rule('K2 only one operation of a system is under way; another system is free', async (bench) => {
    const [one, other] = [await bench.open(), await bench.open()]
    const lease = await one.begin(system, holder)
    await mustFail(one.begin(system, holder), 'system_busy', 'a second operation of the same client')
    await mustFail(other.begin(system, holder), 'system_busy', 'a second operation of another client')
    const elsewhere = await other.begin('shop', holder)
    await elsewhere.end()
    await lease.end()
    await lease.end()
    await (await other.begin(system, holder)).end()
  })

  rule('K3 each operation has a greater token, over restarts, and an ended one still counts', async (bench) => {
    let last = 0
    for (let round = 0; round < 4; round += 1) {
      const catalog = await bench.open()
      const lease = await catalog.begin(system, holder)
      check(lease.fencing > last, `token ${lease.fencing} after ${last}`)
      last = lease.fencing
      await lease.end()
      await catalog.close()
    }
    const counters = await (await bench.open()).counters(system)
    check(counters.fencing === last, `the catalog says ${counters.fencing}, the last token was ${last}`)
  })

  rule('K3 an operation that was superseded writes nothing', async (bench) => {
    const catalog = await bench.open()
    const old = await catalog.begin(system, holder)
    const plan = planOf({ ...(await old.nextEpoch()), fencing: old.fencing })
    await old.openCut(plan)
    await old.end()
    const current = await catalog.begin(system, holder)
    await mustFail(old.nextEpoch(), 'operation_superseded', 'an epoch')
    await mustFail(old.recordCut(plan.cut, ['1']), 'operation_superseded', 'a record')
    await mustFail(old.closeCut(plan.cut, { outcome: 'aborted', reason: '' }), 'operation_superseded', 'an outcome')
    const begin = { restore: 'r1', snapshot: 's1', ownTargets: true, stores: [] }
    await mustFail(old.beginRestore(begin), 'operation_superseded', 'a restore')
    check((await catalog.openCuts(system)).length === 1, 'the cut is not as it was')
    await current.end()
  })

  rule('K4 an epoch is handed out once and only grows, over restarts and restores', async (bench) => {
    let last = 0
    for (let round = 0; round < 3; round += 1) {
      const catalog = await bench.open()
      const lease = await catalog.begin(system, holder)
      for (let attempt = 0; attempt < 3; attempt += 1) {
        const { epoch } = await lease.nextEpoch()
        check(epoch > last, `epoch ${epoch} after ${last}`)
        last = epoch
      }
      await lease.beginRestore({ restore: `r${round}`, snapshot: 's', ownTargets: true, stores: [] })
      const offer = await lease.switchRestore(`r${round}`, [])
      check(offer.epoch > last, `the restore's epoch ${offer.epoch} after ${last}`)
      last = offer.epoch
      await lease.end()
      await catalog.close()
    }
  })

  rule('K4 K5 raise only raises, and remembers which repository it was', async (bench) => {
    const catalog = await bench.open()
    check(!(await catalog.isRebuilt(system, 'repo-1')), 'rebuilt before it was')
    await catalog.raise(system, { generation: 3, epoch: 40, fencing: 7 }, 'repo-1')
    await catalog.raise(system, { generation: 2, epoch: 39, fencing: 6 })
    await catalog.raise(system, { epoch: 41 })
    const counters = await (await bench.open()).counters(system)
    check(
      counters.generation === 3 && counters.epoch === 41 && counters.fencing === 7,
      `raised to ${JSON.stringify(counters)}`,
    )
    check(await catalog.isRebuilt(system, 'repo-1'), 'not rebuilt after it was')
    check(!(await catalog.isRebuilt(system, 'repo-2')), 'rebuilt from another repository')
    const lease = await catalog.begin(system, holder)
    check(lease.fencing > 7, `the token ${lease.fencing} is not greater than the raised one`)
    const { epoch, generation } = await lease.nextEpoch()
    check(epoch === 42 && generation === 3, `epoch ${epoch} of generation ${generation}`)
    await lease.end()
  })
}

function cutRules(rule: Rule): void {
  rule('K1 a cut and its records are there after a restart, in order', async (bench) => {
    const catalog = await bench.open()
    const lease = await catalog.begin(system, holder)
    const plan = planOf({ ...(await lease.nextEpoch()), fencing: lease.fencing })
    await lease.openCut(plan)
    await lease.recordCut(plan.cut, ['{"n":1}', '{"n":2}'])
    await lease.recordCut(plan.cut, [])
    await lease.recordCut(plan.cut, ['{"n":3}'])
    const other = await bench.open()
    const records = await other.cutRecords(system, plan.cut)
    check(records.join() === '{"n":1},{"n":2},{"n":3}', `records: ${records.join()}`)
    const [open] = await other.openCuts(system)
    check(open !== undefined && open.cut === plan.cut && open.epoch === plan.epoch, 'the open cut is not found')
    check(open.fencing === lease.fencing && open.generation === plan.generation, 'its ref is not as it was')
    check(open.processes.join() === 'orders', `its processes: ${open.processes.join()}`)
    await lease.end()
  })

  rule('C6 a cut has one outcome', async (bench) => {
    const catalog = await bench.open()
    const lease = await catalog.begin(system, holder)
    const plan = planOf({ ...(await lease.nextEpoch()), fencing: lease.fencing })
    await lease.openCut(plan)
    await lease.closeCut(plan.cut, { outcome: 'sealed', snapshot: 's1' })
    await mustFail(lease.closeCut(plan.cut, { outcome: 'aborted', reason: 'x' }), 'cut_closed', 'a second outcome')
    await mustFail(lease.closeCut('no' as CutId, { outcome: 'aborted', reason: 'x' }), 'cut_closed', 'an unknown cut')
    check((await catalog.openCuts(system)).length === 0, 'the cut is open still')
    await lease.end()
  })
}

function restoreRules(rule: Rule): void {
  rule('K1 what a restore has replaced is known after a crash', async (bench) => {
    const catalog = await bench.open()
    const lease = await catalog.begin(system, holder)
    const stores = ['a', 'b', 'c'].map(participantName)
    await lease.beginRestore({ restore: 'r1', snapshot: 's1', ownTargets: true, stores })
    await lease.markTarget('r1', participantName('a'), 'begun')
    await lease.markTarget('r1', participantName('a'), 'replaced')
    await lease.markTarget('r1', participantName('b'), 'begun')
    const [found] = await (await bench.open()).openRestores(system)
    check(found !== undefined && found.snapshot === 's1' && found.ownTargets, 'the restore is not found')
    check(found.stores.toSorted().join() === 'a,b,c', `stores ${found.stores.join()}`)
    check(found.begun.toSorted().join() === 'a,b' && found.replaced.join() === 'a', 'the targets are not as marked')
    await lease.closeRestore('r1', 'given up')
    check((await catalog.openRestores(system)).length === 0, 'closed, and open still')
    await mustFail(lease.switchRestore('r1', []), 'restore_closed', 'a switch after the close')
    check((await catalog.counters(system)).generation === 1, 'K5 the generation grew without a switch')
    await lease.end()
  })

  rule('C9 a switch is a new generation and an offer for each process, until it has been through it', async (bench) => {
    const catalog = await bench.open()
    const lease = await catalog.begin(system, holder)
    await lease.beginRestore({ restore: 'r1', snapshot: 's1', ownTargets: true, stores: [] })
    const offer = await lease.switchRestore('r1', [orders, payments])
    check(offer.generation === 2 && offer.snapshot === 's1' && offer.restore === 'r1', `offer ${JSON.stringify(offer)}`)
    await lease.beginRestore({ restore: 'r2', snapshot: 's2', ownTargets: true, stores: [] })
    const second = await lease.switchRestore('r2', [orders])
    const other = await bench.open()
    await other.completeRestore(system, orders, 'r1')
    const pending = await other.pendingRestores(system)
    check(pending.length === 2, `${pending.length} pending restores`)
    check(
      JSON.stringify(pending[0]) === JSON.stringify({ participant: orders, offer: second }),
      'the newer offer did not take the place of the older one, or an older answer removed it',
    )
    await other.completeRestore(system, orders, 'r2')
    await other.completeRestore(system, orders, 'r2')
    check((await catalog.pendingRestores(system)).length === 1, 'the restored process is pending still')
    check((await catalog.counters(system)).generation === 3, 'two switches are two generations')
    await lease.end()
  })
}

function cacheRules(rule: Rule): void {
  rule('K1 schedules and cached snapshots are kept until they are removed', async (bench) => {
    const catalog = await bench.open()
    await catalog.putSchedule(system, { name: 'every', everyMs: 1000, nextAtMs: 5 })
    await catalog.putSchedule(system, { name: 'every', everyMs: 2000, nextAtMs: 6 })
    await catalog.cacheSnapshot(system, 's1', '{"a":1}')
    await catalog.cacheSnapshot(system, 's1', '{"a":2}')
    await catalog.cacheSnapshot(system, 's2', '{}')
    const other = await bench.open()
    check(
      JSON.stringify(await other.schedules(system)) === '[{"name":"every","everyMs":2000,"nextAtMs":6}]',
      'schedule',
    )
    check((await other.cachedSnapshots(system)).get('s1') === '{"a":2}', 'the cached summary')
    await other.dropCachedSnapshots(system, ['s1', 'absent'])
    await other.removeSchedule(system, 'every')
    check([...(await catalog.cachedSnapshots(system)).keys()].join() === 's2', 'the dropped summary')
    check((await catalog.schedules(system)).length === 0, 'the removed schedule')
  })
}
