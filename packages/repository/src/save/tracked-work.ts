/** Owns the count of what is under way, and what the first failure does to the rest. */

export interface TrackedWork {
  /** Aborted with the first failure. */
  readonly signal: AbortSignal
  /** Resolves when the work has ended, however it did; a failure of it poisons all. */
  track(work: Promise<void>): Promise<void>
  poison(error: unknown): void
  throwIfPoisoned(): void
  /** Resolves when no work is under way. */
  idle(): Promise<void>
}

export function createTrackedWork(): TrackedWork {
  const working = new Set<Promise<void>>()
  const abort = new AbortController()
  let poisoned: { readonly error: unknown } | undefined

  function poison(error: unknown): void {
    if (poisoned !== undefined) return
    poisoned = { error }
    abort.abort(error)
  }

  return {
    signal: abort.signal,
    poison,
    track(work) {
      const tracked = work.catch(poison).finally(() => {
        working.delete(tracked)
      })
      working.add(tracked)
      return tracked
    },
    throwIfPoisoned() {
      if (poisoned !== undefined) throw poisoned.error
    },
    async idle() {
      while (working.size > 0) await Promise.all(working)
    },
  }
}
