/** Owns typed arrays that grow by doubling. */

type Words = Uint32Array | Float64Array | BigInt64Array | Uint8Array

/** The array, or a longer copy of it that has at least this many elements. */
export function grown<T extends Words>(array: T, elements: number): T {
  if (elements <= array.length) return array
  const Kind = array.constructor as new (length: number) => T
  const longer = new Kind(Math.max(elements, array.length * 2))
  // All four kinds take their own.
  ;(longer.set as (from: T) => void)(array)
  return longer
}
