/**
 * Owns the choice of a Poly1305 (RFC 8439, section 2.5): libsodium where `sodium-native` has a build for the platform,
 * otherwise `@noble/ciphers` in JavaScript, about a hundred times slower. Both give the same bytes; a test holds them
 * to it.
 */
import { createRequire } from 'node:module'
import { poly1305 } from '@noble/ciphers/_poly1305.js'

/** Writes the 16 bytes of the code for `body` into `mac`. `key`: r (16, clamped here) ‖ s (16), for one message only. */
export type Poly1305 = (mac: Uint8Array, body: Uint8Array, key: Uint8Array) => void

export const portablePoly1305: Poly1305 = (mac, body, key) => mac.set(poly1305(body, key))

/** Undefined where the library has no build for this platform. */
export function nativePoly1305(): Poly1305 | undefined {
  let library: unknown
  try {
    library = createRequire(import.meta.url)('sodium-native')
  } catch {
    // Whatever keeps it from loading (another libc, another processor): the portable one does the same, slower.
    return undefined
  }
  if (typeof library !== 'object' || library === null || !('crypto_onetimeauth' in library)) return undefined
  const { crypto_onetimeauth: authenticate } = library
  if (typeof authenticate !== 'function') return undefined
  return (mac, body, key) => void authenticate(mac, body, key)
}

export const poly1305Into: Poly1305 = nativePoly1305() ?? portablePoly1305
