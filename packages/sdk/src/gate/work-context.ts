/**
 * Which piece of work the running code belongs to, by AsyncLocalStorage.
 *
 * Invariant W1: a piece of work has not ended while a sending that it began waits for room. Its effects on the state
 * are then never marked without its sendings being counted (C2).
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { ItemId } from '@stillpoint/core'

export interface Work {
  readonly item: ItemId
  /** How many restores this process had been through when it began; after another one its sendings are refused (C9). */
  readonly restores: number
  /** Sendings that wait to be taken into a channel's buffer. */
  readonly pending: Set<Promise<unknown>>
  ended: boolean
}

const storage = new AsyncLocalStorage<Work>()

/** The running piece of work; `null` outside of any, and in code that has outlived its own (a timer it has set). */
export function currentWork(): Work | null {
  const work = storage.getStore()
  return work === undefined || work.ended ? null : work
}

export function runAs<T>(work: Work, body: () => T): T {
  return storage.run(work, body)
}

/** Ends a piece of work once its sendings are in their buffers. */
export async function settlePending(work: Work): Promise<void> {
  while (work.pending.size > 0) await Promise.allSettled([...work.pending])
}
