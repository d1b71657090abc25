/** S1 and S2 of the conformance suite: the hold holds, blocks nothing else, and ends by itself. */
import { spawnSync } from 'node:child_process'
import { type Conformance, longLeaseMs, never } from './conformance-steps.ts'
import { check, mustFail, newCut, sleep, until, within } from './workbench.ts'

/** How long a write is watched that must not be acknowledged. */
const watchMs = 250

export function holdChecks(suite: Conformance): void {
  if (suite.features.hold === 'none') {
    suite.check('S1 a source that cannot hold says so', async (_, open) => {
      const session = await open()
      const cut = newCut()
      await mustFail(session.quiesce(cut, 1000, never), 'quiesce', 'hold_unavailable')
      check(!(await session.resume(cut)).unbroken, 'a hold that never was is called unbroken')
    })
    return
  }
  blockingChecks(suite)
  leaseChecks(suite)
}

function blockingChecks({ check: declare, features }: Conformance): void {
  const { patienceMs } = features
  declare('S1 the hold blocks a write until the resume, and no read', async (bench, open) => {
    const session = await open()
    await bench.write(5)
    const cut = newCut()
    await session.prepare(cut, never)
    await within(session.quiesce(cut, longLeaseMs(patienceMs), never), patienceMs, 'quiesce')
    const before = await within(bench.digest(), patienceMs, 'a read during the hold')
    let acknowledged = false
    const writing = bench.write(2).then(() => {
      acknowledged = true
    })
    // Awaited below; until then a refusal must not count as unhandled.
    writing.catch(() => undefined)
    await sleep(watchMs)
    check(!acknowledged, 'a write was acknowledged during the hold')
    const during = await within(bench.digest(), patienceMs, 'a read during the hold')
    check(during === before, 'the content changed during the hold')
    const report = await session.resume(cut)
    check(report.unbroken, `a hold that nothing broke was called broken: ${report.detail}`)
    await within(writing, patienceMs, 'the write that waited for the resume')
    check((await bench.digest()) !== before, 'the write that waited changed nothing')
  })

  declare('S1 under load no write that began in the hold is acknowledged in it', async (bench, open) => {
    const session = await open()
    const cut = newCut()
    const load = await bench.startLoad()
    try {
      await until(() => load.acknowledged().length >= 3, patienceMs, 'writes before the hold')
      await session.prepare(cut, never)
      await within(session.quiesce(cut, longLeaseMs(patienceMs), never), patienceMs, 'quiesce under load')
      const heldMs = performance.now()
      const first = await within(bench.digest(), patienceMs, 'a read during the hold')
      await sleep(watchMs)
      const second = await within(bench.digest(), patienceMs, 'a read during the hold')
      const resumedMs = performance.now()
      const report = await session.resume(cut)
      check(report.unbroken, `a hold that nothing broke was called broken: ${report.detail}`)
      check(first === second, 'the content changed during the hold')
      const inside = load.acknowledged().filter((w) => w.startedMs >= heldMs && w.acknowledgedMs <= resumedMs)
      check(inside.length === 0, `${inside.length} writes began and were acknowledged during the hold`)
      const count = load.acknowledged().length
      await until(() => load.acknowledged().length >= count + 3, patienceMs, 'writes after the resume')
    } finally {
      await load.stop()
    }
  })

  declare('S4 a second quiesce of one cut is the same hold, and one resume ends it', async (bench, open) => {
    const session = await open()
    const cut = newCut()
    const first = await session.quiesce(cut, longLeaseMs(patienceMs), never)
    const second = await session.quiesce(cut, longLeaseMs(patienceMs), never)
    check(second.endsAtMs <= first.endsAtMs, 'a second quiesce made the hold longer than its lease')
    check((await session.resume(cut)).unbroken, 'the hold was called broken')
    await within(bench.write(1), patienceMs, 'a write after the resume')
  })

  declare('S4 close ends a hold', async (bench, open) => {
    const session = await open()
    await session.quiesce(newCut(), longLeaseMs(patienceMs), never)
    await session.close()
    await within(bench.write(1), patienceMs, 'a write after close')
  })

  declare('S1 one session holds again and again', async (bench, open) => {
    const session = await open()
    for (let round = 0; round < 3; round += 1) {
      const cut = newCut()
      await session.quiesce(cut, longLeaseMs(patienceMs), never)
      const report = await session.resume(cut)
      check(report.unbroken, `round ${round}: ${report.detail}`)
      await within(bench.write(1), patienceMs, 'a write between two holds')
    }
  })
}

function leaseChecks({ check: declare, features }: Conformance): void {
  const { leaseMs, patienceMs } = features
  declare('S2 a hold that nobody resumes ends at its lease, and the resume says so', async (bench, open) => {
    const session = await open()
    const cut = newCut()
    const askedMs = performance.now()
    await session.quiesce(cut, leaseMs, never)
    await within(bench.write(1), leaseMs + patienceMs, 'a write after the lease')
    const heldMs = performance.now() - askedMs
    check(heldMs >= leaseMs * 0.5, `the hold ended after ${Math.round(heldMs)} ms of its ${leaseMs} ms`)
    const report = await session.resume(cut)
    check(!report.unbroken, 'a hold that had ended was called unbroken')
    check(report.detail !== undefined, 'the resume does not say why the hold was broken')
    const next = newCut()
    await session.quiesce(next, longLeaseMs(patienceMs), never)
    check((await session.resume(next)).unbroken, 'after a lease that ended, the next hold was broken')
  })

  declare('S2 the hold ends at its lease while this process is frozen', async (bench, open) => {
    if (bench.outsideWrite === undefined) return
    const session = await open()
    const cut = newCut()
    await session.quiesce(cut, leaseMs, never)
    // Synchronous: no timer of this process fires until the command has ended.
    const { program, parameters } = bench.outsideWrite
    const outside = spawnSync(program, parameters, { timeout: leaseMs + patienceMs / 2, encoding: 'utf8' })
    check(outside.status === 0, `no write was acknowledged after the lease: ${outside.stderr}${outside.error ?? ''}`)
    check(!(await session.resume(cut)).unbroken, 'a hold that had ended was called unbroken')
  })
}
