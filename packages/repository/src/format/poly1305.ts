/**
 * Owns the choice of a Poly1305 (RFC 8439, section 2.5): OpenSSL's where it can be called, else libsodium's where
 * `sodium-native` has a build for the platform, half as fast, otherwise that of `@noble/ciphers` in JavaScript, about a
 * hundred times slower. All give the same bytes; a test holds them to it.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { assert } from '@stillpoint/core/kernel'
import { libCrypto } from '../native/native-calls.ts'

/** Writes the 16 bytes of the code for `body` into `mac`. `key`: r (16, clamped here) ‖ s (16), for one message only. */
export type Poly1305 = (mac: Uint8Array, body: Uint8Array, key: Uint8Array) => void

const macBytes = 16
const keyBytes = 32
const require = createRequire(import.meta.url)

/** The library is loaded at the first call: hardly any platform needs it. */
export const portablePoly1305: Poly1305 = (mac, body, key) => {
  portable ??= require('@noble/ciphers/_poly1305.js') as PortableLibrary
  mac.set(portable.poly1305(body, key))
}

type PortableLibrary = typeof import('@noble/ciphers/_poly1305.js')
let portable: PortableLibrary | undefined

/** Undefined where the library has no build for this platform. */
export function nativePoly1305(): Poly1305 | undefined {
  let library: unknown
  try {
    library = loadNative()
  } catch {
    // Whatever keeps it from loading (another libc, another processor): the portable one does the same, slower.
    return undefined
  }
  if (typeof library !== 'object' || library === null || !('crypto_onetimeauth' in library)) return undefined
  const { crypto_onetimeauth: authenticate } = library
  if (typeof authenticate !== 'function') return undefined
  return (mac, body, key) => {
    assert(mac.length === macBytes && key.length === keyBytes, 'what the binary writes and reads is there')
    authenticate(mac, body, key)
  }
}

/**
 * The package finds its prebuilt binary by way of twenty modules, which every process and every thread would load: it is
 * taken from where this version of the package has it.
 */
function loadNative(): unknown {
  const { platform, arch } = process
  // As the package itself sees Alpine, for whose libc it has no build.
  if (platform !== 'linux' || !existsSync('/etc/alpine-release')) {
    try {
      return require(`sodium-native/prebuilds/${platform}-${arch}/sodium-native.node`)
    } catch {
      // There is none, or it does not load: the package knows whether there is another way.
    }
  }
  return require('sodium-native')
}

export const poly1305Into: Poly1305 = libCrypto()?.poly1305 ?? nativePoly1305() ?? portablePoly1305
