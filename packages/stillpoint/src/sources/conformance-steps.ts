/** The steps that the conformance checks are made of: a mark, a cut, and what a restore of it looks like. */
import { type MemoryParts, MemorySink } from './memory-parts.ts'
import type { SourceSession } from './source.ts'
import { type ConformanceFeatures, check, newCut, type Workbench, within } from './workbench.ts'

export const never: AbortSignal = new AbortController().signal

/** What the checks share: one store for the whole suite, wiped before each check; sessions closed after it. */
export interface Conformance {
  readonly features: Required<ConformanceFeatures>
  /** Declares a check. It gets the wiped store, and `open` for sessions that are closed for it. */
  check(name: string, body: (bench: Workbench, open: () => Promise<SourceSession>) => Promise<void>): void
}

/** A lease that does not end while a check waits: what goes on must go on because of the resume. */
export function longLeaseMs(patienceMs: number): number {
  return patienceMs * 3
}

/** Quiesce (where the source can), mark, digest in the hold, resume. */
export async function takeMark(session: SourceSession, bench: Workbench, features: Required<ConformanceFeatures>) {
  const cut = newCut()
  const leaseMs = longLeaseMs(features.patienceMs)
  await session.prepare(cut, never)
  if (features.hold === 'writes') await within(session.quiesce(cut, leaseMs, never), features.patienceMs, 'quiesce')
  const mark = await within(session.mark(cut, never), features.patienceMs, 'mark')
  const digest = await within(bench.digest(), features.patienceMs, 'a read during the hold')
  const report = features.hold === 'writes' ? await session.resume(cut) : undefined
  return { cut, mark, digest, report }
}

export async function takeCut(
  session: SourceSession,
  bench: Workbench,
  features: Required<ConformanceFeatures>,
): Promise<{ parts: MemoryParts; digest: string }> {
  const { cut, digest, report } = await takeMark(session, bench, features)
  check(report?.unbroken !== false, `a hold that nothing broke was called broken: ${report?.detail}`)
  const sink = new MemorySink()
  const captured = await session.capture(cut, sink, never)
  check(captured.torn.length === 0, `torn without a change: ${captured.torn.join(', ')}`)
  await session.release(cut)
  return { parts: sink.parts(), digest }
}

/** Restores the parts into an empty target and answers its digest. */
export async function digestOf(bench: Workbench, parts: MemoryParts): Promise<string> {
  const target = await bench.openEmptyTarget()
  try {
    await target.session.checkTarget(parts, { replace: false }, never)
    await target.session.restore(parts, { replace: false }, never)
    return await target.digest()
  } finally {
    await target.close()
  }
}
