/**
 * Owns the choice of `chunker_polynomial`: an irreducible polynomial of degree 53 over GF(2), which the format requires
 * in `config` and restic's own chunker uses. Ours does not. Tested by Rabin's criterion (M. O. Rabin, "Probabilistic
 * algorithms in finite fields", 1980): for prime degree n, f is irreducible when x^(2^n) ≡ x and gcd(x² − x, f) = 1.
 */
import type { Entropy } from '@stillpoint/core/kernel'

const degree = 53
const x = 2n

/** As an integer whose bits are the coefficients. */
export function generatePolynomial(entropy: Entropy): bigint {
  const bytes = Buffer.alloc(8)
  for (;;) {
    entropy.fill(bytes)
    const candidate = (bytes.readBigUInt64BE() & ((1n << 53n) - 1n)) | (1n << 53n) | 1n
    if (isIrreducible(candidate)) return candidate
  }
}

/** Whether a polynomial of degree 53 is irreducible. */
export function isIrreducible(polynomial: bigint): boolean {
  if (polynomial >> BigInt(degree) !== 1n) return false
  let power = x
  for (let step = 0; step < degree; step += 1) power = squareModulo(power, polynomial)
  return power === x && greatestCommonDivisor((x << 1n) ^ x, polynomial) === 1n
}

function squareModulo(value: bigint, modulus: bigint): bigint {
  let square = 0n
  for (let bit = 0n; value >> bit > 0n; bit += 1n) if ((value >> bit) & 1n) square |= 1n << (2n * bit)
  return remainder(square, modulus)
}

function remainder(value: bigint, modulus: bigint): bigint {
  const modulusBits = modulus.toString(2).length
  let rest = value
  for (let bits = rest.toString(2).length; bits >= modulusBits && rest !== 0n; bits = rest.toString(2).length) {
    rest ^= modulus << BigInt(bits - modulusBits)
  }
  return rest
}

function greatestCommonDivisor(left: bigint, right: bigint): bigint {
  return right === 0n ? left : greatestCommonDivisor(right, remainder(left, right))
}
