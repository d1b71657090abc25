/**
 * Owns how the use of an opened repository ends: what runs is aborted, what comes later is refused, and then nothing of
 * it is left in this process: no lock, no thread, no save.
 *
 * Invariants: 1. a lock is given back only when what ran under it has ended. 2. From the moment of closing nothing is read
 * or written. Looking whether something is there, and deleting, go on: what a save has stored and nothing names is
 * removed.
 */
import { Failure } from '@stillpoint/core/kernel'
import type { BlobStore } from './blob/blob-store.ts'
import type { Save } from './save/save.ts'

export function repositoryClosed(): Failure {
  const hint = 'Open it again, or close it later: when all that was begun has ended.'
  return new Failure({ code: 'repository_closed', message: 'the repository has been closed', hint })
}

export interface Closing {
  /** Aborted when closing begins, with Failure `repository_closed`. */
  readonly signal: AbortSignal
  /** The store, as long as the repository is open. */
  guard(store: BlobStore): BlobStore
  /** A save that is discarded if it has not ended by then. */
  track(save: Save): Save
  /** Idempotent. @param rest what is to end when all saves have */
  close(rest: () => Promise<void>): Promise<void>
}

export function createClosing(): Closing {
  const controller = new AbortController()
  const { signal } = controller
  const saves = new Set<Save>()
  let ended: Promise<void> | undefined

  const whileOpen =
    <A extends unknown[], R>(action: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      signal.throwIfAborted()
      return action(...args)
    }

  async function close(rest: () => Promise<void>): Promise<void> {
    controller.abort(repositoryClosed())
    const discarded = await Promise.allSettled([...saves].map((save) => save.discard()))
    await rest()
    for (const result of discarded) if (result.status === 'rejected') throw result.reason
  }

  return {
    signal,
    guard: (store) => ({
      ...store,
      put: whileOpen((object, bytes) => store.put(object, bytes)),
      get: whileOpen((object, range) => store.get(object, range)),
      async *list(kind) {
        signal.throwIfAborted()
        for await (const batch of store.list(kind)) {
          yield batch
          signal.throwIfAborted()
        }
      },
    }),
    track(save) {
      const tracked: Save = {
        ...save,
        finish: () => save.finish().finally(() => saves.delete(tracked)),
        discard: () => save.discard().finally(() => saves.delete(tracked)),
      }
      saves.add(tracked)
      return tracked
    },
    close(rest) {
      ended ??= close(rest)
      return ended
    },
  }
}
