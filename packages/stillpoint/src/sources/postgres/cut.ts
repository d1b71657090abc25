/**
 * One cut of one database: its holding session and its marking session, from `prepare` to `release`.
 *
 * Owns: when each of the two sessions begins and ends. Does not own: what is said on them (hold.ts, mark.ts).
 *
 * Invariants:
 * - K1 Each step is made once: a second call of it answers with the first one's promise, except after it has failed.
 * - K2 After `resume` no holding session is open, and after `release` no marking session, whatever was under way.
 */
import { type Clock, type CutId, Failure } from '@stillpoint/core/kernel'
import type { Hold, HoldReport } from '../source.ts'
import { type Connection, connect, type Login } from './connection.ts'
import { acquireHold, type DatabaseHold } from './hold.ts'
import { type DatabaseMark, pinTables, takeMark } from './mark.ts'
import type { Server } from './server.ts'
import { listTables, type Table, type TableScope } from './tables.ts'

export interface CutOptions {
  readonly cut: CutId
  readonly login: Login
  readonly clock: Clock
  readonly server: Server
  readonly scope: TableScope
  readonly lockTimeoutMs: number
  readonly markBudgetMs: number
}

export interface DatabaseCut {
  /** Opens both sessions, so that hold and mark need no new ones. */
  connect(signal: AbortSignal): Promise<Connection>
  quiesce(leaseMs: number, signal: AbortSignal): Promise<Hold>
  mark(signal: AbortSignal): Promise<DatabaseMark>
  /** The mark, for copying. @throws Failure `mark_lost` */
  taken(): DatabaseMark
  resume(): Promise<HoldReport>
  release(): Promise<void>
}

/** How long the marking session may wait for its mark where no lease says so. */
const unmarkedIdleMs = 60_000

export function databaseCut(options: CutOptions): DatabaseCut {
  const { cut, clock, login, scope } = options
  const sessions: { holding?: Connection; marking?: Connection } = {}
  const resumed = new AbortController()
  const released = new AbortController()
  let holding: Promise<DatabaseHold> | undefined
  let hold: DatabaseHold | undefined
  let marking: Promise<DatabaseMark> | undefined
  let marked: DatabaseMark | undefined
  let pinned: readonly Table[] | undefined
  let report: Promise<HoldReport> | undefined

  const sessionOf = async (which: 'holding' | 'marking', signal: AbortSignal): Promise<Connection> => {
    const open = sessions[which]
    if (open !== undefined && open.lost === undefined) return open
    const made = await connect(login, signal)
    const ended = which === 'holding' ? resumed : released
    if (ended.signal.aborted) {
      made.destroy()
      throw over()
    }
    sessions[which] = made
    return made
  }
  const pin = async (tables: readonly Table[], idleMs: number, signal: AbortSignal) => {
    const session = await sessionOf('marking', signal)
    await pinTables(session, { tables, scope, idleMs }, signal)
    pinned = tables
  }
  const acquire = async (leaseMs: number, signal: AbortSignal): Promise<DatabaseHold> => {
    const session = await sessionOf('holding', signal)
    try {
      const made = await acquireHold(
        session,
        {
          cut,
          clock,
          scope,
          leaseMs,
          lockTimeoutMs: options.lockTimeoutMs,
          holdLargeObjects: options.server.mayLockLargeObjects,
          // Twice the lease: as long to get the hold as to keep it.
          beforeLock: (tables) => pin(tables, leaseMs * 2, signal),
        },
        signal,
      )
      hold = made
      return made
    } catch (error) {
      session.destroy()
      throw error
    }
  }
  const takeOnce = async (signal: AbortSignal): Promise<DatabaseMark> => {
    const why = hold?.broken()
    if (why !== undefined) throw broken(why)
    const session = await sessionOf('marking', signal)
    try {
      if (hold === undefined) await pin(await listTables(session, scope, signal), unmarkedIdleMs, signal)
      const largeObjectsHeld = hold === undefined || options.server.mayLockLargeObjects
      const made = await takeMark(
        session,
        { cut, clock, scope, pinned: pinned ?? [], budgetMs: options.markBudgetMs, largeObjectsHeld },
        signal,
      )
      marked = made
      return made
    } catch (error) {
      session.destroy() // M2: another snapshot of this transaction would be the same, and it has failed
      throw error
    }
  }
  return {
    async connect(signal) {
      const [session] = await Promise.all([sessionOf('holding', signal), sessionOf('marking', signal)])
      return session
    },
    async quiesce(leaseMs, signal) {
      signal.throwIfAborted()
      if (resumed.signal.aborted || released.signal.aborted) throw over()
      holding ??= acquire(leaseMs, AbortSignal.any([signal, resumed.signal]))
      try {
        return { cut, endsAtMs: (await holding).endsAtMs }
      } catch (error) {
        holding = undefined
        throw error
      }
    },
    async mark(signal) {
      signal.throwIfAborted()
      if (released.signal.aborted) throw over()
      marking ??= takeOnce(AbortSignal.any([signal, released.signal]))
      try {
        return await marking
      } catch (error) {
        marking = undefined
        throw error
      }
    },
    taken() {
      const lost = sessions.marking?.lost
      if (marked !== undefined && !released.signal.aborted && lost === undefined) return marked
      throw new Failure({
        code: 'mark_lost',
        message:
          marked === undefined
            ? 'this cut has no mark'
            : `the mark of this cut is gone: ${lost?.message ?? 'it was released'}`,
        hint: 'Take the snapshot again.',
        retry: 'later',
      })
    },
    resume() {
      report ??= (async () => {
        resumed.abort(over())
        if (hold !== undefined) return hold.end()
        sessions.holding?.destroy()
        return { unbroken: false, detail: 'the database was not held' }
      })()
      // Without a mark there is nothing to keep the tables pinned for.
      if (marking === undefined && marked === undefined) sessions.marking?.destroy()
      return report
    },
    async release() {
      released.abort(over())
      const session = sessions.marking
      if (session === undefined) return
      if (marked === undefined) session.destroy()
      else await session.end()
    },
  }
}

function over(): Failure {
  return new Failure({ code: 'cut_over', message: 'this cut is over for the database', hint: 'Take another one.' })
}

function broken(why: string): Failure {
  const hint = 'Take the snapshot again; raise the lease where it is too short.'
  return new Failure({
    code: 'hold_broken',
    message: `the hold of the database was broken: ${why}`,
    hint,
    retry: 'later',
  })
}
