/** S5 and the store's death, of the conformance suite: whatever is cut short leaves a store that works. */
import { type Conformance, digestOf, longLeaseMs, never, takeCut } from './conformance-steps.ts'
import { MemorySink } from './memory-parts.ts'
import type { SourceSession } from './source.ts'
import { check, namedFailure, newCut, sleep, type Workbench, within } from './workbench.ts'

type Step = (signal: AbortSignal) => Promise<unknown>
type Phase = 'prepare' | 'quiesce' | 'mark' | 'capture'

/** Runs a cut's calls in order; `around` decides how each is made. */
async function runCut(
  session: SourceSession,
  holds: boolean,
  around: (phase: Phase, step: Step) => Promise<void>,
): Promise<void> {
  const cut = newCut()
  try {
    await around('prepare', (signal) => session.prepare(cut, signal))
    if (holds) await around('quiesce', (signal) => session.quiesce(cut, 60_000, signal))
    await around('mark', (signal) => session.mark(cut, signal))
    if (holds) await session.resume(cut)
    await around('capture', (signal) => session.capture(cut, new MemorySink(), signal))
  } finally {
    await session.resume(cut)
    await session.release(cut)
  }
}

export function cancelChecks({ check: declare, features }: Conformance): void {
  const holds = features.hold === 'writes'
  const phases: readonly Phase[] = holds ? ['prepare', 'quiesce', 'mark', 'capture'] : ['prepare', 'mark', 'capture']
  for (const phase of phases) {
    declare(`S5 ${phase} cancelled leaves nothing behind`, async (bench, open) => {
      const session = await open()
      await bench.write(15)
      for (const delayMs of [undefined, 0, 3, 12]) {
        await cancelAt(session, { phase, delayMs, holds, patienceMs: features.patienceMs })
        await within(bench.write(1), features.patienceMs, `a write after a cancelled ${phase}`)
      }
      const { parts, digest } = await takeCut(session, bench, features)
      check((await digestOf(bench, parts)) === digest, `the cut after a cancelled ${phase} is wrong`)
    })
  }

  declare('S5 a cancelled restore leaves a target that can be restored into', async (bench, open) => {
    const session = await open()
    await bench.write(15)
    const { parts, digest } = await takeCut(session, bench, features)
    for (const delayMs of [undefined, 0, 5]) {
      const target = await bench.openEmptyTarget()
      try {
        const controller = cancelAfter(delayMs)
        const restoring = target.session.restore(parts, { replace: false }, controller.signal)
        await within(settled(restoring), features.patienceMs, 'a cancelled restore')
        await target.session.restore(parts, { replace: true }, never)
        check((await target.digest()) === digest, 'the restore after a cancelled one is wrong')
      } finally {
        await target.close()
      }
    }
  })
}

async function cancelAt(
  session: SourceSession,
  at: { phase: Phase; delayMs: number | undefined; holds: boolean; patienceMs: number },
): Promise<void> {
  class Cancelled extends Error {}
  try {
    await runCut(session, at.holds, async (phase, step) => {
      if (phase !== at.phase) {
        await step(never)
        return
      }
      const result = await within(settled(step(cancelAfter(at.delayMs).signal)), at.patienceMs, `${phase}, cancelled`)
      // Cancelled before it began: it must not have been done as if nothing had been said.
      check(at.delayMs !== undefined || result === 'failed', `${phase} ignores a signal that is aborted already`)
      throw new Cancelled()
    })
  } catch (error) {
    if (!(error instanceof Cancelled)) throw error
  }
}

function cancelAfter(delayMs: number | undefined): AbortController {
  const controller = new AbortController()
  if (delayMs === undefined) controller.abort(new Error('cancelled by the suite'))
  else setTimeout(() => controller.abort(new Error('cancelled by the suite')), delayMs)
  return controller
}

async function settled(promise: Promise<unknown>): Promise<'done' | 'failed'> {
  return promise.then(
    () => 'done',
    () => 'failed',
  )
}

export function deathChecks({ check: declare, features }: Conformance): void {
  const holds = features.hold === 'writes'
  const phases: readonly Phase[] = holds ? ['prepare', 'quiesce', 'mark', 'capture'] : ['prepare', 'mark', 'capture']
  for (const phase of phases) {
    declare(
      `S5 a store that dies before ${phase} is a named failure, and works when it is back`,
      async (bench, open) => {
        const session = await open()
        await bench.write(15)
        let killed = false
        try {
          await runCut(session, holds, async (now, step) => {
            if (now === phase) {
              await bench.kill()
              killed = true
            }
            // A mark may outlive its store (an open file does). Then what it yields is right; other checks show that.
            await within(step(never), features.patienceMs, `${now} on a store that is gone`).catch((error: unknown) => {
              throw killed ? namedFailure(error, `${now} on a store that died before ${phase}`) : error
            })
          })
        } catch (error) {
          if (!killed) throw error
          namedFailure(error, `a cut of a store that died before ${phase}`)
        } finally {
          if (killed) await bench.revive()
        }
        await within(session.close(), features.patienceMs, 'close after the store died')
        await works(bench, open, features)
      },
    )
  }

  if (!holds) return
  declare('S1 a hold whose store died is called broken', async (bench, open) => {
    const session = await open()
    const cut = newCut()
    await bench.write(5)
    await session.quiesce(cut, longLeaseMs(features.patienceMs), never)
    await bench.kill()
    await sleep(50)
    try {
      const report = await within(session.resume(cut), features.patienceMs, 'resume on a store that is gone')
      check(!report.unbroken, 'the hold of a store that died was called unbroken')
    } finally {
      await bench.revive()
    }
    await session.close()
    await works(bench, open, features)
  })
}

async function works(bench: Workbench, open: () => Promise<SourceSession>, features: Conformance['features']) {
  const session = await open()
  await within(bench.write(1), features.patienceMs, 'a write after the store is back')
  const { parts, digest } = await takeCut(session, bench, features)
  check((await digestOf(bench, parts)) === digest, 'the cut after the store is back is wrong')
}
