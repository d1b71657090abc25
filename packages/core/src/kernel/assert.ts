/**
 * Assertions: for our own bugs only, and they stay on in production.
 * What comes from outside (files, networks, users) is validated and answered with a `Failure`, never asserted.
 */
export class AssertionError extends Error {
  override readonly name = 'AssertionError'
}

export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message)
}

/** Closes a `switch` over a union: a new member is then a type error here, and a crash if it comes from nowhere. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${JSON.stringify(value)}`)
}

/** The value, which by our own invariants is there. */
export function defined<T>(value: T | undefined | null, what: string): T {
  if (value === undefined || value === null) throw new AssertionError(`${what} is not there`)
  return value
}
