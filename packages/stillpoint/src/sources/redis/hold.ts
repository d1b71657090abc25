/**
 * Holding a server's writers by CLIENT PAUSE … WRITE. The server ends the pause by itself at its time (S2, C5), and
 * meanwhile expires and evicts no key.
 *
 * Owns: the pause, and the evidence that nothing was written in it. Does not own: the mark (save.ts).
 *
 * Invariant: `unbroken` is said only when the same run of the server, over the same connection, before the lease was
 * spent, has counted not a single change of its data. The count of changes is what is relied upon, for anybody may end a
 * pause (CLIENT UNPAUSE), and the replication offset stands still where nothing replicates.
 */
import { type Clock, Failure, isFailure } from '@stillpoint/core/kernel'
import type { HoldReport } from '../source.ts'
import type { Connection } from './client.ts'
import { type Info, readInfo } from './info.ts'

export interface ServerHold {
  readonly endsAtMs: number
  /** Why it is no longer one, by what INFO now says; undefined while it holds. */
  broken(now: Info): string | undefined
  /** Without asking the server. */
  spent(): string | undefined
  /** Idempotent. */
  end(): Promise<HoldReport>
}

export interface HoldOptions {
  readonly clock: Clock
  readonly leaseMs: number
  readonly signal: AbortSignal
}

const endTimeoutMs = 5_000

/** @throws Failure `hold_unavailable` when another save runs for as long as the lease */
export async function acquireHold(connection: Connection, options: HoldOptions): Promise<ServerHold> {
  const { clock, leaseMs, signal } = options
  const deadlineMs = clock.monotonicMs() + leaseMs
  for (;;) {
    const before = await readInfo(connection, signal)
    if (before.forked === undefined) {
      const askedMs = clock.monotonicMs()
      await connection.call(signal, 'CLIENT', 'PAUSE', Math.ceil(leaseMs), 'WRITE')
      const base = await readInfo(connection, signal)
      // Seen under the pause: none has begun in between.
      if (base.forked === undefined) return hold(connection, { clock, base, endsAtMs: askedMs + leaseMs })
      await connection.call(signal, 'CLIENT', 'UNPAUSE')
    }
    if (clock.monotonicMs() > deadlineMs) {
      throw new Failure({
        code: 'hold_unavailable',
        message: `${before.forked ?? 'a save'} of the server has been running for ${leaseMs} ms: no save of ours can begin`,
        hint: 'Take the snapshot when it has ended.',
        retry: 'later',
      })
    }
    await sleep(clock, 20, signal)
  }
}

interface Held {
  readonly clock: Clock
  readonly base: Info
  readonly endsAtMs: number
}

function hold(connection: Connection, { clock, base, endsAtMs }: Held): ServerHold {
  let report: Promise<HoldReport> | undefined
  const spent = () => {
    if (connection.lost !== undefined) return connection.lost.message
    return clock.monotonicMs() >= endsAtMs ? 'the lease was spent' : undefined
  }
  const broken = (now: Info) => {
    if (now.runId !== base.runId) return 'the server was started anew'
    const expected = changesExpected(base, now)
    if (now.changes !== expected) return `${Math.abs(now.changes - expected)} changes were made during the hold`
    return undefined
  }
  const finish = async (): Promise<HoldReport> => {
    const before = spent()
    if (before !== undefined) return { unbroken: false, detail: before }
    const timeout = AbortSignal.timeout(endTimeoutMs)
    try {
      const why = broken(await readInfo(connection, timeout))
      return why === undefined ? { unbroken: true } : { unbroken: false, detail: why }
    } catch (error) {
      return { unbroken: false, detail: error instanceof Error ? error.message : String(error) }
    } finally {
      await unpause(connection, timeout)
    }
  }
  return {
    endsAtMs,
    broken,
    spent,
    end() {
      report ??= finish()
      return report
    },
  }
}

/** A save that succeeds takes off what had been counted when it began. Every save since `base` began in the hold. */
function changesExpected(base: Info, now: Info): number {
  const ended = now.saves - base.saves - (now.saving ? 1 : 0)
  return ended > 0 && now.lastSaveOk ? 0 : base.changes
}

/** Lets the writers go. Where that fails, the server does it at the lease. */
export async function unpause(connection: Connection, signal: AbortSignal): Promise<void> {
  try {
    await connection.call(signal, 'CLIENT', 'UNPAUSE')
  } catch (error) {
    // The connection is lost or the server hangs: nobody can end the pause sooner than the server, by its lease.
    if (!isFailure(error) && !signal.aborted) throw error
  }
}

export function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted()
    const abort = () => {
      cancel()
      reject(signal.reason)
    }
    const cancel = clock.after(ms, () => {
      signal.removeEventListener('abort', abort)
      resolve()
    })
    signal.addEventListener('abort', abort, { once: true })
  })
}
