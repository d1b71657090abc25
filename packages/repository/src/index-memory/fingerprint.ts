/**
 * Owns the short form in which the index remembers ids: 12 of the 32 bytes of an id would do for chance, but not against
 * somebody who chooses what is saved and searches for two contents with the same 12 bytes: what the index takes for
 * known is not stored. So it is a keyed hash, under a key that is drawn for each index and never leaves the memory of the
 * process.
 *
 * The hash is simple tabulation (Zobrist 1970; Pătraşcu and Thorup, "The Power of Simple Tabulation Hashing", STOC 2011):
 * for each of the 64 digits of the id and for the type a table of random 96-bit words, of which those that apply are
 * added without carry. Two different ids have the same fingerprint with a chance of exactly 2^-96, whatever the ids are
 * and however much was computed to find them: whoever does not know the tables cannot do better than to try. With 2^33
 * blobs and as many questions the chance that any answer is wrong is 2^-30; a search for 24 equal bytes of SHA-256,
 * which takes twice the memory, would take 2^96 steps and be certain then.
 *
 * Invariant: the tables come from `Entropy`, never from `Random`.
 */
import { assert, type Entropy } from '@stillpoint/core/kernel'
import { type BlobType, idBytes } from '../format/ids.ts'

export const fingerprintWords = 3

/** Words of the fingerprint that was made last. One object, lest each costs an allocation. */
export interface Fingerprint {
  a: number
  b: number
  c: number
}

export interface Fingerprinter {
  readonly last: Fingerprint
  /** Of an id of 64 lower-case hexadecimal digits, into `last`. */
  ofText(id: string, type: BlobType): void
  /** The same, of digits that lie in `bytes` and were validated before. */
  ofDigits(bytes: Uint8Array, at: number, isTree: boolean): void
}

const digits = idBytes * 2
/** Words from one digit's entry to the next: three and one that is not used, so that the index is a shift. */
const stride = 4
const typeAt = digits * 16 * stride

export function createFingerprinter(entropy: Entropy): Fingerprinter {
  const tables = new Uint32Array(typeAt + stride)
  entropy.fill(new Uint8Array(tables.buffer))
  const last: Fingerprint = { a: 0, b: 0, c: 0 }

  function begin(isTree: boolean): void {
    last.a = isTree ? (tables[typeAt] ?? 0) : 0
    last.b = isTree ? (tables[typeAt + 1] ?? 0) : 0
    last.c = isTree ? (tables[typeAt + 2] ?? 0) : 0
  }

  return {
    last,
    ofText(id, type) {
      assert(id.length === digits, 'an id has 64 hexadecimal digits')
      begin(type === 'tree')
      let { a, b, c } = last
      for (let at = 0; at < digits; at += 1) {
        const code = id.charCodeAt(at)
        assert((code >= 0x30 && code <= 0x39) || (code >= 0x61 && code <= 0x66), 'an id has 64 hexadecimal digits')
        const entry = ((at << 4) | digitOf(code)) << 2
        a ^= tables[entry] ?? 0
        b ^= tables[entry + 1] ?? 0
        c ^= tables[entry + 2] ?? 0
      }
      last.a = a >>> 0
      last.b = b >>> 0
      last.c = c >>> 0
    },
    ofDigits(bytes, from, isTree) {
      begin(isTree)
      let { a, b, c } = last
      for (let at = 0; at < digits; at += 1) {
        const entry = ((at << 4) | digitOf(bytes[from + at] ?? 0)) << 2
        a ^= tables[entry] ?? 0
        b ^= tables[entry + 1] ?? 0
        c ^= tables[entry + 2] ?? 0
      }
      last.a = a >>> 0
      last.b = b >>> 0
      last.c = c >>> 0
    },
  }
}

/** Value of a hexadecimal digit: 0-9 are 0x30-0x39, a-f are 0x61-0x66. */
export const digitOf = (code: number): number => (code & 15) + 9 * (code >> 6)
