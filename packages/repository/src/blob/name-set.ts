/**
 * Owns a set of names of objects, for lists of millions: 17 bytes for each, where a set of texts takes more than 100.
 *
 * A name is kept as its first 96 bits. It is a SHA-256, so that of a million names two are taken for one with a chance
 * below 2^-56; and whoever could make names alike is who answers the lists, and could leave one out.
 */
import { isId } from '../format/ids.ts'
import { createFingerprintTable } from '../index-memory/fingerprint-table.ts'

export interface NameSet {
  /** Adds it where it is not there yet. Returns whether it was added. */
  add(name: string): boolean
}

export function createNameSet(): NameSet {
  const begins = createFingerprintTable()
  /** Such as `config`. */
  const others = new Set<string>()
  const anyRow = () => true
  return {
    add(name) {
      if (!isId(name)) {
        if (others.has(name)) return false
        others.add(name)
        return true
      }
      const word = (at: number) => Number.parseInt(name.slice(at, at + 8), 16)
      const begin = { a: word(0), b: word(8), c: word(16) }
      if (begins.find(begin, anyRow) >= 0) return false
      begins.add(begin)
      return true
    },
  }
}
