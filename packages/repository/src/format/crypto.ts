/**
 * Owns the sealing of bytes: AES-256-CTR and Poly1305-AES, laid out as IV (16) ‖ ciphertext ‖ MAC (16), as in restic's
 * design document, section "Keys, Encryption and MAC"; the MAC as in D. J. Bernstein, "The Poly1305-AES
 * message-authentication code", 2005. Does not own where keys come from.
 *
 * Invariants: 1. every sealing takes a fresh random IV from `Entropy`. 2. Nothing is decrypted before its MAC holds.
 */
import { createCipheriv, createDecipheriv, timingSafeEqual } from 'node:crypto'
import { poly1305 } from '@noble/ciphers/_poly1305.js'
import { assert, type Entropy } from '@stillpoint/core/kernel'
import { sound } from './damage.ts'

export interface CryptKeys {
  /** 32 bytes: AES-256. */
  readonly encrypt: Uint8Array
  /** 16 bytes: the AES key that turns a nonce into Poly1305's `s`. */
  readonly macK: Uint8Array
  /** 16 bytes: Poly1305's `r`, masked when used. */
  readonly macR: Uint8Array
}

const ivBytes = 16
const macBytes = 16
/** What sealing adds to the length of its input. */
export const sealOverheadBytes = ivBytes + macBytes

export function seal(keys: CryptKeys, plaintext: Uint8Array, entropy: Entropy): Buffer<ArrayBuffer> {
  const sealed = Buffer.allocUnsafeSlow(plaintext.length + sealOverheadBytes)
  const iv = sealed.subarray(0, ivBytes)
  entropy.fill(iv)
  const cipher = createCipheriv('aes-256-ctr', keys.encrypt, iv)
  const body = cipher.update(plaintext)
  assert(body.length === plaintext.length && cipher.final().length === 0, 'CTR mode keeps the length')
  sealed.set(body, ivBytes)
  sealed.set(authenticate(keys, iv, sealed.subarray(ivBytes, ivBytes + body.length)), ivBytes + body.length)
  return sealed
}

/** @throws DamageError where the bytes are too short or the MAC does not hold (also: other keys) */
export function unseal(keys: CryptKeys, sealed: Uint8Array): Buffer {
  sound(sealed.length >= sealOverheadBytes, `${sealed.length} bytes are too short for a sealed object`)
  const iv = sealed.subarray(0, ivBytes)
  const body = sealed.subarray(ivBytes, sealed.length - macBytes)
  const mac = sealed.subarray(sealed.length - macBytes)
  sound(timingSafeEqual(authenticate(keys, iv, body), mac), 'the authentication code does not match')
  return createDecipheriv('aes-256-ctr', keys.encrypt, iv).update(body)
}

function authenticate(keys: CryptKeys, nonce: Uint8Array, body: Uint8Array): Uint8Array {
  const aes = createCipheriv('aes-128-ecb', keys.macK, null).setAutoPadding(false)
  const oneTimeKey = new Uint8Array(32)
  oneTimeKey.set(keys.macR, 0)
  oneTimeKey.set(aes.update(nonce), 16)
  return poly1305(body, oneTimeKey)
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
