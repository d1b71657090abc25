/** Owns doing a bounded number of things at a time. */

/** Resolves when all are done. After the first failure nothing new begins; it rejects when what had begun has ended. */
export async function eachOf<T>(items: Iterable<T>, limit: number, action: (item: T) => Promise<void>): Promise<void> {
  const iterator = items[Symbol.iterator]()
  let failed: { readonly error: unknown } | undefined
  async function worker(): Promise<void> {
    while (failed === undefined) {
      const next = iterator.next()
      if (next.done === true) return
      try {
        await action(next.value)
      } catch (error) {
        failed ??= { error }
      }
    }
  }
  await Promise.all(Array.from({ length: limit }, worker))
  if (failed !== undefined) throw failed.error
}
