/**
 * The suite that every source passes: rules S1 to S6 of source.ts, shown on a running store.
 *
 * Owns: the checks. Does not own: the store (workbench.ts), nor a test framework: it takes the functions it needs, so it
 * also runs for users (`runConformance`, behind `stillpoint source verify`) against a scratch store of theirs.
 * Each check's name begins with its rule. For each rule a source that breaks it is known to fail here
 * (conformance.test.ts).
 */
import { cancelChecks, deathChecks } from './conformance-faults.ts'
import { holdChecks } from './conformance-hold.ts'
import { type Conformance, digestOf, never, takeCut, takeMark } from './conformance-steps.ts'
import { MemorySink } from './memory-parts.ts'
import type { SourceSession } from './source.ts'
import {
  type ConformanceFeatures,
  check,
  mustFail,
  newCut,
  sleep,
  type TestApi,
  until,
  type Workbench,
  within,
} from './workbench.ts'

export type * from './workbench.ts'

const defaults = { leaseMs: 1000, patienceMs: 10_000, stableBytes: true }

export function sourceConformance(
  api: TestApi,
  kind: string,
  start: () => Promise<Workbench>,
  features: ConformanceFeatures,
): void {
  const known = { ...defaults, ...features }
  // Enough for the slowest check to fail by its own words before the framework's time is up.
  const timeoutMs = known.patienceMs * 6 + known.leaseMs * 4
  api.describe(`source ${kind} keeps the rules of a source`, () => {
    let starting: Promise<Workbench> | undefined
    api.afterAll(async () => {
      if (starting !== undefined) await (await starting).stop()
    }, timeoutMs)
    const suite: Conformance = {
      features: known,
      check(name, body) {
        api.test(name, () => runCheck(() => (starting ??= start()), known.patienceMs, body), timeoutMs)
      },
    }
    traitChecks(suite)
    holdChecks(suite)
    markChecks(suite)
    idempotenceChecks(suite)
    restoreChecks(suite)
    cancelChecks(suite)
    deathChecks(suite)
  })
}

async function runCheck(
  start: () => Promise<Workbench>,
  patienceMs: number,
  body: (bench: Workbench, open: () => Promise<SourceSession>) => Promise<void>,
): Promise<void> {
  const bench = await start()
  const sessions: SourceSession[] = []
  await within(bench.wipe(), patienceMs, 'wiping the store before the check')
  try {
    await body(bench, async () => {
      const session = await within(bench.open(), patienceMs, 'open')
      sessions.push(session)
      return session
    })
  } finally {
    for (const session of sessions) await within(session.close(), patienceMs, 'close')
  }
}

export interface CheckResult {
  readonly name: string
  readonly error?: unknown
}

/** Runs the suite without a test framework, one check after the other. */
export async function runConformance(
  kind: string,
  start: () => Promise<Workbench>,
  features: ConformanceFeatures,
  options: { readonly report?: (result: CheckResult) => void; readonly only?: (name: string) => boolean } = {},
): Promise<readonly CheckResult[]> {
  const bodies: { name: string; body: () => Promise<void> }[] = []
  const ends: (() => Promise<void>)[] = []
  const api: TestApi = {
    describe: (_, body) => body(),
    test(name, body) {
      if (options.only?.(name) !== false) bodies.push({ name, body })
    },
    afterAll: (body) => ends.push(body),
  }
  sourceConformance(api, kind, start, features)
  const results: CheckResult[] = []
  try {
    for (const { name, body } of bodies) {
      let result: CheckResult = { name }
      try {
        await body()
      } catch (error) {
        result = { name, error }
      }
      results.push(result)
      options.report?.(result)
    }
  } finally {
    for (const end of ends) await end()
  }
  return results
}

function traitChecks({ check: declare, features }: Conformance): void {
  declare('S0 the source says of itself what the suite was told, and what it needs', async (bench, open) => {
    const session = await open()
    check(session.traits.hold === features.hold, `traits.hold is ${session.traits.hold}`)
    check(session.traits.mark === features.mark, `traits.mark is ${session.traits.mark}`)
    await bench.write(20)
    const readiness = await session.prepare(newCut(), never)
    check(readiness.version !== '', 'prepare answers no version')
    check(readiness.estimateBytes > 0, 'prepare estimates no bytes for a store with content')
  })
}

function markChecks({ check: declare, features }: Conformance): void {
  if (features.hold === 'writes') {
    declare('S3 a capture under load restores the state of the mark', async (bench, open) => {
      const session = await open()
      await bench.write(50)
      const load = await bench.startLoad()
      try {
        await until(() => load.acknowledged().length >= 3, features.patienceMs, 'writes before the hold')
        const { cut, digest, report } = await takeMark(session, bench, features)
        check(report?.unbroken === true, `the hold was broken: ${report?.detail}`)
        const before = load.acknowledged().length
        await until(() => load.acknowledged().length >= before + 3, features.patienceMs, 'writes after the resume')
        const sink = new MemorySink()
        const captured = await session.capture(cut, sink, never)
        check((await bench.digest()) !== digest, 'the load changed nothing: the check is void')
        // A scan may lose what changed after it, and says so. An exact mark loses nothing.
        if (captured.torn.length > 0 && features.mark === 'scan') return
        check(captured.torn.length === 0, `an exact mark was torn: ${captured.torn.join(', ')}`)
        check((await digestOf(bench, sink.parts())) === digest, 'what was captured is not the state at the mark')
      } finally {
        await load.stop()
      }
    })
  }

  declare('S3 what is written after the mark is not in the capture, or is reported as torn', async (bench, open) => {
    const session = await open()
    await bench.write(30)
    const { cut, digest } = await takeMark(session, bench, features)
    await bench.write(7)
    const sink = new MemorySink()
    const report = await session.capture(cut, sink, never)
    if (features.mark === 'exact') check(report.torn.length === 0, `an exact mark was torn: ${report.torn.join(', ')}`)
    if (report.torn.length > 0) return
    check((await digestOf(bench, sink.parts())) === digest, 'the capture holds what was written after its mark')
  })

  declare('S3 an exact mark outlives the deletion of everything', async (bench, open) => {
    if (features.mark !== 'exact') return
    const session = await open()
    await bench.write(30)
    const { cut, digest } = await takeMark(session, bench, features)
    await within(bench.wipe(), features.patienceMs, 'deleting everything while a mark is held')
    const sink = new MemorySink()
    await session.capture(cut, sink, never)
    check((await digestOf(bench, sink.parts())) === digest, 'what was captured is not the state at the mark')
  })
}

function idempotenceChecks({ check: declare, features }: Conformance): void {
  declare('S4 the mark of a cut does not move', async (bench, open) => {
    const session = await open()
    await bench.write(10)
    const { cut, mark } = await takeMark(session, bench, features)
    await bench.write(5)
    const again = await session.mark(cut, never)
    check(
      JSON.stringify(again.position) === JSON.stringify(mark.position),
      `the position of one cut was ${JSON.stringify(mark.position)}, then ${JSON.stringify(again.position)}`,
    )
    const other = await takeMark(session, bench, features)
    check(
      JSON.stringify(other.mark.position) !== JSON.stringify(mark.position),
      `two cuts with writes between them have one position: ${JSON.stringify(mark.position)}`,
    )
  })

  declare('S4 two captures of one mark are equal', async (bench, open) => {
    const session = await open()
    await bench.write(25)
    const { cut } = await takeMark(session, bench, features)
    if (features.mark === 'exact') await bench.write(5)
    const [first, second] = [new MemorySink(), new MemorySink()]
    await session.capture(cut, first, never)
    await session.capture(cut, second, never)
    if (features.stableBytes) check(first.parts().digest() === second.parts().digest(), 'the bytes differ')
    const digests = [await digestOf(bench, first.parts()), await digestOf(bench, second.parts())]
    check(digests[0] === digests[1], 'the captures restore different states')
  })

  declare('S4 resume, release and close are safe without, before and after what they undo', async (bench, open) => {
    const session = await open()
    const [cut, other] = [newCut(), newCut()]
    check(!(await session.resume(cut)).unbroken, 'a resume without a hold says that there was one')
    await session.release(cut)
    await session.release(cut)
    const taken = await takeMark(session, bench, features)
    if (taken.report !== undefined) {
      const again = await session.resume(taken.cut)
      check(again.unbroken === taken.report.unbroken, 'a second resume answers something else')
    }
    await session.release(other)
    await session.release(taken.cut)
    await session.release(taken.cut)
    await mustFail(session.capture(taken.cut, new MemorySink(), never), 'a capture of a released mark')
    await session.close()
    await session.close()
    await within(bench.write(1), features.patienceMs, 'a write after close')
  })
}

function restoreChecks({ check: declare, features }: Conformance): void {
  declare('S6 a restore into an empty target is equal, and verify passes', async (bench, open) => {
    const session = await open()
    await bench.write(40)
    const { parts, digest } = await takeCut(session, bench, features)
    const target = await bench.openEmptyTarget()
    try {
      await target.session.checkTarget(parts, { replace: false }, never)
      await target.session.restore(parts, { replace: false }, never)
      check((await target.digest()) === digest, 'the target differs from the state at the mark')
      const { checks } = await target.session.verify(parts, never)
      check(checks.length > 0, 'verify checks nothing')
      for (const found of checks) check(found.passed, `verify: ${found.name}: ${found.detail}`)
    } finally {
      await target.close()
    }
  })

  declare('S6 a target with content is refused and stays, and replaced when asked', async (bench, open) => {
    const session = await open()
    await bench.write(12)
    const first = await takeCut(session, bench, features)
    await bench.wipe()
    // A file system's clock ticks every few milliseconds: two generations of content must not share a tick.
    await sleep(20)
    await bench.write(31)
    const second = await takeCut(session, bench, features)
    check(first.digest !== second.digest, 'the workbench wrote the same twice: the check is void')
    const target = await bench.openEmptyTarget()
    try {
      await target.session.restore(first.parts, { replace: false }, never)
      const refused = { replace: false }
      await mustFail(target.session.checkTarget(second.parts, refused, never), 'checkTarget', 'target_not_empty')
      await mustFail(target.session.restore(second.parts, refused, never), 'restore', 'target_not_empty')
      check((await target.digest()) === first.digest, 'a refused restore changed the target')
      const verified = await target.session.verify(second.parts, never)
      check(
        verified.checks.some((found) => !found.passed),
        'verify finds no difference between two states',
      )
      await target.session.checkTarget(second.parts, { replace: true }, never)
      await target.session.restore(second.parts, { replace: true }, never)
      check((await target.digest()) === second.digest, 'replaced, the target is not what was restored')
    } finally {
      await target.close()
    }
  })
}
