/**
 * Owns the word for "these bytes are not what they must be". Format code knows bytes, not where they came from:
 * it throws `DamageError`, and who read the object turns it into a `Failure` that names type, id and path.
 */
export class DamageError extends Error {
  override readonly name = 'DamageError'
}

/** @throws DamageError when the condition does not hold */
export function sound(condition: boolean, reason: string): asserts condition {
  if (!condition) throw new DamageError(reason)
}
