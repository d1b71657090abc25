/**
 * Owns the sealing of bytes: AES-256-CTR and Poly1305-AES, laid out as IV (16) ‖ ciphertext ‖ MAC (16), as in restic's
 * design document, section "Keys, Encryption and MAC"; the MAC as in D. J. Bernstein, "The Poly1305-AES
 * message-authentication code", 2005. Does not own where keys come from.
 *
 * Invariants: 1. every sealing takes a fresh random IV from `Entropy`. 2. Nothing is decrypted before its MAC holds.
 */
import { timingSafeEqual } from 'node:crypto'
import { assert, type Entropy } from '@stillpoint/core/kernel'
import type { KeyStream } from '../native/libcrypto.ts'
import { libCrypto } from '../native/native-calls.ts'
import { sound } from './damage.ts'
import { poly1305Into } from './poly1305.ts'
import { portableBlockCipher, portableKeyStream } from './portable-ciphers.ts'

export interface CryptKeys {
  /** 32 bytes: AES-256. */
  readonly encrypt: Uint8Array
  /** 16 bytes: the AES key that turns a nonce into Poly1305's `s`. */
  readonly macK: Uint8Array
  /** 16 bytes: Poly1305's `r`, masked when used. */
  readonly macR: Uint8Array
}

export const ivBytes = 16
const macBytes = 16
/** What sealing adds to the length of its input. */
export const sealOverheadBytes = ivBytes + macBytes

export function seal(keys: CryptKeys, plaintext: Uint8Array, entropy: Entropy): Buffer<ArrayBuffer> {
  const iv = new Uint8Array(ivBytes)
  entropy.fill(iv)
  const sealed = Buffer.allocUnsafeSlow(plaintext.length + sealOverheadBytes)
  sealInto({ keys, plaintext, iv, target: sealed })
  return sealed
}

/** As `seal`, into memory of the caller's, which may be shared. Returns the bytes that were written. */
export function sealInto(sealing: {
  readonly keys: CryptKeys
  readonly plaintext: Uint8Array
  /** 16 fresh random bytes: invariant 1 is the caller's here. */
  readonly iv: Uint8Array
  /** At least `sealOverheadBytes` longer than the plaintext; not overlapping it. */
  readonly target: Uint8Array
}): number {
  const { keys, plaintext, iv, target } = sealing
  const end = ivBytes + plaintext.length
  assert(iv.length === ivBytes && target.length >= end + macBytes, 'what is sealed fits')
  const { stream, authenticate } = ciphersOf(keys)
  target.set(iv)
  const ciphertext = target.subarray(ivBytes, end)
  stream.begin(iv)
  stream.next(plaintext, ciphertext)
  authenticate(iv, ciphertext, target.subarray(end, end + macBytes))
  return end + macBytes
}

/** @throws DamageError where the bytes are too short or the MAC does not hold (also: other keys) */
export function unseal(keys: CryptKeys, sealed: Uint8Array): Buffer {
  const plaintext = Buffer.allocUnsafeSlow(Math.max(0, sealed.length - sealOverheadBytes))
  unsealInto(keys, sealed, plaintext)
  return plaintext
}

/** As `unseal`, into memory of the caller's, which may be shared. Returns the length. @throws DamageError */
export function unsealInto(keys: CryptKeys, sealed: Uint8Array, target: Uint8Array): number {
  const { body, stream } = begunAuthentic(keys, sealed)
  assert(target.length >= body.length, 'what is unsealed fits')
  stream.next(body, target)
  return body.length
}

/** Fits into the processor's cache. */
const pieceBytes = 128 << 10
const piece = Buffer.alloc(pieceBytes)

/** Whether unsealing gives these bytes, without keeping them. @throws DamageError as `unseal` */
export function unsealsTo(keys: CryptKeys, sealed: Uint8Array, plaintext: Uint8Array): boolean {
  const { body, stream } = begunAuthentic(keys, sealed)
  let isEqual = body.length === plaintext.length
  for (let at = 0; isEqual && at < body.length; at += pieceBytes) {
    const source = body.subarray(at, at + pieceBytes)
    stream.next(source, piece)
    isEqual = piece.compare(plaintext, at, at + source.length, 0, source.length) === 0
  }
  return isEqual
}

/** The ciphertext, once its code holds, and the key stream at its beginning. */
function begunAuthentic(
  keys: CryptKeys,
  sealed: Uint8Array,
): { readonly body: Uint8Array; readonly stream: KeyStream } {
  sound(sealed.length >= sealOverheadBytes, `${sealed.length} bytes are too short for a sealed object`)
  const { stream, authenticate } = ciphersOf(keys)
  const end = sealed.length - macBytes
  const iv = sealed.subarray(0, ivBytes)
  const body = sealed.subarray(ivBytes, end)
  authenticate(iv, body, computed)
  sound(timingSafeEqual(computed, sealed.subarray(end)), 'the authentication code does not match')
  stream.begin(iv)
  return { body, stream }
}

const computed = Buffer.alloc(macBytes)

/** What has been set up for keys: once for all messages. */
interface Ciphers {
  readonly stream: KeyStream
  /** The code is over the ciphertext, its nonce the IV. */
  authenticate(iv: Uint8Array, ciphertext: Uint8Array, mac: Uint8Array): void
}

const ciphers = new WeakMap<CryptKeys, Ciphers>()

function ciphersOf(keys: CryptKeys): Ciphers {
  let known = ciphers.get(keys)
  if (known === undefined) {
    known = makeCiphers(keys)
    ciphers.set(keys, known)
  }
  return known
}

function makeCiphers({ encrypt, macK, macR }: CryptKeys): Ciphers {
  const library = libCrypto()
  const encryptNonce = library?.createBlockCipher(macK) ?? portableBlockCipher(macK)
  const oneTimeKey = Buffer.alloc(macBytes * 2)
  oneTimeKey.set(macR)
  const nonceCode = oneTimeKey.subarray(macBytes)
  return {
    stream: library?.createKeyStream(encrypt) ?? portableKeyStream(encrypt),
    authenticate(iv, ciphertext, mac) {
      encryptNonce(iv, nonceCode)
      poly1305Into(mac, ciphertext, oneTimeKey)
    },
  }
}

/** Fresh keys. */
export function generateKeys(entropy: Entropy): CryptKeys {
  const bytes = new Uint8Array(64)
  entropy.fill(bytes)
  return keysFromBytes(bytes)
}

/** 64 bytes: encryption key, then the MAC's `k` and `r`, the order in which scrypt's output is used. */
export function keysFromBytes(bytes: Uint8Array): CryptKeys {
  assert(bytes.length === 64, 'keys are made of 64 bytes')
  return { encrypt: bytes.slice(0, 32), macK: bytes.slice(32, 48), macR: bytes.slice(48, 64) }
}
