/**
 * In the child: the hold. `BEGIN IMMEDIATE` takes SQLite's one write lock: nobody else can commit, everybody can read.
 *
 * Invariants:
 * - The lock is let go at the lease by this process's own timer, which nothing here delays: no call of a holding child
 *   takes long (C5).
 * - `unbroken` is true only while the transaction is still open, the lease unspent by this process's monotonic clock,
 *   and the path still names the file that is locked.
 */

import { ChildFailure, isBusy } from './child-database.ts'
import type { ChildMark } from './child-mark.ts'
import type { Answer, AskOf } from './messages.ts'

const retryMs = 1

type State =
  | { readonly name: 'free' }
  | { readonly name: 'held'; readonly untilMs: number }
  | { readonly name: 'ended'; readonly detail: string }

export class ChildHold {
  readonly #file: ChildMark
  #state: State = { name: 'free' }

  constructor(file: ChildMark) {
    this.#file = file
  }

  async take(ask: AskOf<'hold'>): Promise<Answer<'hold'>> {
    const startMs = performance.now()
    const { database } = this.#file
    // We wait ourselves: SQLite's own waiting blocks the thread, and sleeps up to 100 ms while writers take turns.
    database.exec('PRAGMA busy_timeout = 0')
    for (;;) {
      try {
        database.exec('BEGIN IMMEDIATE')
        break
      } catch (error) {
        if (!isBusy(error)) throw error
      }
      if (performance.now() - startMs >= ask.waitMs) throw unavailable(this.#file.path, ask.waitMs)
      await new Promise((wake) => setTimeout(wake, retryMs))
    }
    const moved = this.#file.moved()
    if (moved !== undefined) {
      database.exec('ROLLBACK')
      throw new ChildFailure('store_unreachable', moved, {
        hint: 'It was replaced while it was open; try again.',
        retry: 'later',
      })
    }
    this.#state = { name: 'held', untilMs: performance.now() + ask.leaseMs }
    setTimeout(() => this.#expire(ask.leaseMs), ask.leaseMs)
    return { waitedMs: performance.now() - startMs }
  }

  resume(): Answer<'resume'> {
    const state = this.#state
    if (state.name === 'free') return { unbroken: false, detail: 'there was no hold' }
    if (state.name === 'ended') return { unbroken: false, detail: state.detail }
    const { database } = this.#file
    const open = database.isTransaction
    const inTime = performance.now() < state.untilMs
    const moved = this.#file.moved()
    if (open) database.exec('ROLLBACK')
    this.#state = { name: 'ended', detail: 'it was resumed already' }
    if (!open) return { unbroken: false, detail: 'SQLite had ended the transaction that held the lock' }
    if (!inTime) return { unbroken: false, detail: 'the lease was spent' }
    return moved === undefined ? { unbroken: true } : { unbroken: false, detail: moved }
  }

  #expire(leaseMs: number): void {
    if (this.#state.name !== 'held') return
    this.#state = { name: 'ended', detail: `the lease of ${leaseMs} ms was spent` }
    try {
      this.#file.database.exec('ROLLBACK')
    } catch {
      // A lock that cannot be given back goes with the process.
      process.kill(process.pid, 'SIGKILL')
    }
  }
}

function unavailable(path: string, waitedMs: number): ChildFailure {
  return new ChildFailure('hold_unavailable', `no write lock on ${path} within ${waitedMs} ms: writers hold it`, {
    hint: 'A transaction is open for long in another process. End it, or give a longer lease.',
    retry: 'later',
  })
}
