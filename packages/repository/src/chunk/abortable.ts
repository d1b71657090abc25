/** Owns ending the wait for a source that gives nothing more. */

/**
 * The source, piece by piece, until the signal aborts: also while it is waited for.
 * @throws the signal's reason; what the source throws
 */
export async function* untilAborted<T>(
  source: AsyncIterable<T> | Iterable<T>,
  signal: AbortSignal,
): AsyncGenerator<T, void, undefined> {
  signal.throwIfAborted()
  const iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]()
  const aborted = Promise.withResolvers<never>()
  const abort = () => aborted.reject(signal.reason)
  aborted.promise.catch(() => undefined) // raced below; when nobody waits there is nobody to tell
  signal.addEventListener('abort', abort, { once: true })
  let ended = false
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), aborted.promise])
      ended = next.done === true
      if (next.done === true) return
      yield next.value
    }
  } finally {
    signal.removeEventListener('abort', abort)
    // Not awaited: a source that hangs would hang here, too. What it still has to say, nobody waits for.
    if (!ended) void Promise.resolve(iterator.return?.()).catch(() => undefined)
  }
}
