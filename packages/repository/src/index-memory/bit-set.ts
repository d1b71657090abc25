/**
 * Owns a set of small numbers, such as rows or packs of an index: a bit for each, in an array that grows with the largest
 * number. An eighth of a megabyte for a million.
 */

export interface BitSet {
  /** Of numbers that are in it. */
  readonly size: number
  has(number: number): boolean
  /** Adds it where it is not there yet. Returns whether it was added. */
  add(number: number): boolean
  remove(number: number): void
  /** Numbers in ascending order. */
  each(visit: (number: number) => void): void
}

/** @param expected numbers below it need no growing */
export function createBitSet(expected = 0): BitSet {
  let words = new Uint32Array((expected >>> 5) + 1)
  let size = 0

  function grow(word: number): void {
    const wider = new Uint32Array(Math.max(word + 1, Math.ceil(words.length * 1.5)))
    wider.set(words)
    words = wider
  }

  return {
    get size() {
      return size
    },
    has: (number) => number >= 0 && (((words[number >>> 5] ?? 0) >>> (number & 31)) & 1) === 1,
    add(number) {
      const at = number >>> 5
      if (at >= words.length) grow(at)
      const word = words[at] ?? 0
      const bit = 1 << (number & 31)
      if ((word & bit) !== 0) return false
      words[at] = word | bit
      size += 1
      return true
    },
    remove(number) {
      const word = words[number >>> 5] ?? 0
      const bit = 1 << (number & 31)
      if ((word & bit) === 0) return
      words[number >>> 5] = word & ~bit
      size -= 1
    },
    each(visit) {
      for (let at = 0; at < words.length; at += 1) {
        let left = words[at] ?? 0
        while (left !== 0) {
          visit(at * 32 + 31 - Math.clz32(left & -left))
          left &= left - 1
        }
      }
    },
  }
}
