/**
 * One cut of one server: a connection of its own, from `prepare` to `release`.
 *
 * Invariants:
 * - K1 Each step is made once: a second call of it answers with the first one's promise, except after it has failed.
 * - K2 After `resume` no pause of ours is left, after `release` no file is open, whatever was under way.
 */
import type { FileHandle } from 'node:fs/promises'
import { type Clock, type CutId, Failure } from '@stillpoint/core/kernel'
import type { Hold, HoldReport, Mark } from '../source.ts'
import { type Connection, connect, type Login } from './client.ts'
import { acquireHold, type ServerHold, unpause } from './hold.ts'
import { type Info, readInfo } from './info.ts'
import { beginSave } from './save.ts'

export interface CutOptions {
  readonly cut: CutId
  readonly login: Login
  readonly clock: Clock
  readonly dataDir: string | undefined
}

export interface ServerMark {
  readonly mark: Mark
  readonly info: Info
  /** The file of the save, when it has ended. Rejects when it is lost. */
  readonly file: Promise<FileHandle>
}

export interface ServerCut {
  connect(signal: AbortSignal): Promise<Connection>
  quiesce(leaseMs: number, signal: AbortSignal): Promise<Hold>
  mark(signal: AbortSignal): Promise<Mark>
  /** @throws Failure `mark_lost` */
  taken(): ServerMark
  resume(): Promise<HoldReport>
  release(): Promise<void>
}

const cleanUpTimeoutMs = 5_000

export function serverCut(options: CutOptions): ServerCut {
  const { cut, clock, login, dataDir } = options
  const resumed = new AbortController()
  const released = new AbortController()
  let session: Connection | undefined
  let quiescing: Promise<ServerHold> | undefined
  let triedToHold = false
  let hold: ServerHold | undefined
  let marking: Promise<ServerMark> | undefined
  let marked: ServerMark | undefined
  let report: Promise<HoldReport> | undefined

  const sessionOf = async (signal: AbortSignal): Promise<Connection> => {
    if (session !== undefined && session.lost === undefined) return session
    const made = await connect(login, signal)
    if (released.signal.aborted) {
      made.destroy()
      throw over()
    }
    session = made
    return made
  }
  const acquire = async (leaseMs: number, signal: AbortSignal): Promise<ServerHold> => {
    const connection = await sessionOf(signal)
    triedToHold = true
    hold = await acquireHold(connection, { clock, leaseMs, signal })
    return hold
  }
  const take = async (signal: AbortSignal): Promise<ServerMark> => {
    const spent = hold?.spent()
    if (spent !== undefined) throw broken(spent)
    const connection = await sessionOf(signal)
    const begun = await beginSave(connection, { clock, dataDir }, signal)
    const why = hold?.broken(begun.info)
    if (why !== undefined) throw broken(why)
    const file = begun.pin(released.signal)
    file.catch(() => undefined) // whoever wants the file awaits it; nobody may, when the cut is given up
    const { replicationId, replicationOffset, runId, saves } = begun.info
    const position = { replicationId, replicationOffset, runId, save: saves + 1 }
    marked = { mark: { cut, position, caveats: [] }, info: begun.info, file }
    return marked
  }
  const finish = async (): Promise<HoldReport> => {
    if (hold !== undefined) {
      const said = await hold.end()
      // The pause is the server's, and outlives the connection that has ordered it.
      if (session?.lost !== undefined) await unpauseAnew(login)
      return said
    }
    resumed.abort(over())
    // A pause may have been ordered, and not been answered: it ends now, and at its lease at the latest.
    if (triedToHold) await unpauseAnew(login)
    return { unbroken: false, detail: 'the server was not held' }
  }
  return {
    connect: sessionOf,
    async quiesce(leaseMs, signal) {
      signal.throwIfAborted()
      if (report !== undefined || released.signal.aborted) throw over()
      quiescing ??= acquire(leaseMs, AbortSignal.any([signal, resumed.signal]))
      try {
        return { cut, endsAtMs: (await quiescing).endsAtMs }
      } catch (error) {
        quiescing = undefined
        throw error
      }
    },
    async mark(signal) {
      signal.throwIfAborted()
      if (released.signal.aborted) throw over()
      marking ??= take(AbortSignal.any([signal, released.signal]))
      try {
        return (await marking).mark
      } catch (error) {
        marking = undefined
        throw error
      }
    },
    taken() {
      if (marked !== undefined && !released.signal.aborted) return marked
      const message = marked === undefined ? 'this cut has no mark' : 'the mark of this cut was released'
      throw new Failure({ code: 'mark_lost', message, hint: 'Take the snapshot again.', retry: 'later' })
    },
    resume() {
      report ??= finish().finally(() => {
        if (released.signal.aborted) session?.destroy()
      })
      return report
    },
    async release() {
      if (released.signal.aborted) return
      released.abort(over())
      const file = await marked?.file.catch(() => undefined) // a save that was lost has no file to close
      await file?.close()
      // The hold is evidence of this connection: it stays until the hold is over.
      if (hold === undefined || report !== undefined) session?.destroy()
    },
  }
}

async function unpauseAnew(login: Login): Promise<void> {
  const signal = AbortSignal.timeout(cleanUpTimeoutMs)
  let connection: Connection
  try {
    connection = await connect(login, signal)
  } catch {
    return // out of reach: the server ends the pause itself, at its lease
  }
  try {
    await readInfo(connection, signal)
    await unpause(connection, signal)
  } catch {
    // as above
  } finally {
    connection.destroy()
  }
}

function over(): Failure {
  return new Failure({ code: 'cut_over', message: 'this cut is over for the server', hint: 'Take another one.' })
}

function broken(why: string): Failure {
  const hint = 'Take the snapshot again; raise the lease where it is too short.'
  return new Failure({
    code: 'hold_broken',
    message: `the hold of the server was broken: ${why}`,
    hint,
    retry: 'later',
  })
}
