/**
 * Owns the sealing of bytes: AES-256-CTR and Poly1305-AES, laid out as IV (16) ‖ ciphertext ‖ MAC (16), as in restic's
 * design document, section "Keys, Encryption and MAC"; the MAC as in D. J. Bernstein, "The Poly1305-AES
 * message-authentication code", 2005. Does not own where keys come from.
 *
 * Invariants: 1. every sealing takes a fresh random IV from `Entropy`. 2. Nothing is decrypted before its MAC holds.
 */
import { type Cipheriv, createCipheriv, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto'
import { assert, type Entropy } from '@stillpoint/core/kernel'
import { copyBytes } from './copy-bytes.ts'
import { sound } from './damage.ts'
import { poly1305Into } from './poly1305.ts'

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
  target.set(iv)
  applyKeyStream(keys, iv, plaintext, (piece, at) => copyBytes(piece, target, ivBytes + at))
  authenticate(keys, target.subarray(0, end), target.subarray(end, end + macBytes))
  return end + macBytes
}

/** @throws DamageError where the bytes are too short or the MAC does not hold (also: other keys) */
export function unseal(keys: CryptKeys, sealed: Uint8Array): Buffer {
  const body = authentic(keys, sealed)
  const plaintext = Buffer.allocUnsafeSlow(body.length)
  applyKeyStream(keys, sealed.subarray(0, ivBytes), body, (piece, at) => copyBytes(piece, plaintext, at))
  return plaintext
}

/** As `unseal`, into memory of the caller's, which may be shared. Returns the length. @throws DamageError */
export function unsealInto(keys: CryptKeys, sealed: Uint8Array, target: Uint8Array): number {
  const body = authentic(keys, sealed)
  assert(target.length >= body.length, 'what is unsealed fits')
  applyKeyStream(keys, sealed.subarray(0, ivBytes), body, (piece, at) => copyBytes(piece, target, at))
  return body.length
}

/** Whether unsealing gives these bytes, without keeping them. @throws DamageError as `unseal` */
export function unsealsTo(keys: CryptKeys, sealed: Uint8Array, plaintext: Uint8Array): boolean {
  const body = authentic(keys, sealed)
  let equal = body.length === plaintext.length
  if (!equal) return false
  applyKeyStream(keys, sealed.subarray(0, ivBytes), body, (piece, at) => {
    equal &&= piece.equals(plaintext.subarray(at, at + piece.length))
  })
  return equal
}

/** The ciphertext, once its code holds. */
function authentic(keys: CryptKeys, sealed: Uint8Array): Uint8Array {
  sound(sealed.length >= sealOverheadBytes, `${sealed.length} bytes are too short for a sealed object`)
  const end = sealed.length - macBytes
  const mac = new Uint8Array(macBytes)
  authenticate(keys, sealed.subarray(0, end), mac)
  sound(timingSafeEqual(mac, sealed.subarray(end)), 'the authentication code does not match')
  return sealed.subarray(ivBytes, end)
}

/** The two AES keys in use. ECB has no state from block to block, so one cipher serves all messages. */
interface AesKeys {
  readonly encrypt: KeyObject
  readonly blocks: Cipheriv
  readonly nonces: Cipheriv
}

const aesKeys = new WeakMap<CryptKeys, AesKeys>()

/** A cipher made of a key's bytes takes Node 15 µs, of a key object 3: given bytes, Node 24 throws and catches twice. */
function aesKeysOf(keys: CryptKeys): AesKeys {
  const known = aesKeys.get(keys)
  if (known !== undefined) return known
  const encrypt = createSecretKey(keys.encrypt)
  const made = {
    encrypt,
    blocks: createCipheriv('aes-256-ecb', encrypt, null).setAutoPadding(false),
    nonces: createCipheriv('aes-128-ecb', keys.macK, null).setAutoPadding(false),
  }
  aesKeys.set(keys, made)
  return made
}

/** `covered`: IV ‖ ciphertext. The code is over the ciphertext, its nonce the IV. */
function authenticate(keys: CryptKeys, covered: Uint8Array, mac: Uint8Array): void {
  const oneTimeKey = new Uint8Array(32)
  oneTimeKey.set(keys.macR, 0)
  oneTimeKey.set(aesKeysOf(keys).nonces.update(covered.subarray(0, ivBytes)), 16)
  poly1305Into(mac, covered.subarray(ivBytes), oneTimeKey)
}

/** Node can encrypt only into memory of its own: pieces that stay in the processor's cache until they are taken. */
const pieceBytes = 256 << 10
/** Below it, a CTR cipher of its own costs more than a key stream that is made out of single blocks: 2 µs at 64 bytes. */
const shortBytes = 2 << 10
const blockBytes = 16

/**
 * Gives out `text` under the key stream of CTR mode (NIST SP 800-38A, 6.5), piece by piece; pieces are valid only
 * during the call.
 */
function applyKeyStream(
  keys: CryptKeys,
  iv: Uint8Array,
  text: Uint8Array,
  take: (piece: Buffer, at: number) => void,
): void {
  if (text.length <= shortBytes && text.length > 0) {
    const short = applyShortKeyStream(keys, iv, text)
    if (short !== undefined) return take(short, 0)
  }
  const cipher = createCipheriv('aes-256-ctr', aesKeysOf(keys).encrypt, iv)
  for (let at = 0; at < text.length; at += pieceBytes) {
    const piece = cipher.update(text.subarray(at, at + pieceBytes))
    assert(piece.length === Math.min(pieceBytes, text.length - at), 'CTR mode keeps the length')
    take(piece, at)
    giveBack(piece)
  }
}

const counters = Buffer.alloc(shortBytes)
const counterView = new DataView(counters.buffer, counters.byteOffset)
const words = new Uint32Array(shortBytes / 4)
const wordBytes = Buffer.from(words.buffer)

/** Undefined where the counter's last 32 bits would run over. */
function applyShortKeyStream(keys: CryptKeys, iv: Uint8Array, text: Uint8Array): Buffer | undefined {
  const blocks = Math.ceil(text.length / blockBytes)
  counters.set(iv)
  const [first, second, third] = [counterView.getUint32(0), counterView.getUint32(4), counterView.getUint32(8)]
  const low = counterView.getUint32(12)
  if (low + blocks > 0xffff_ffff) return undefined
  for (let block = 1, at = blockBytes; block < blocks; block += 1, at += blockBytes) {
    counterView.setUint32(at, first)
    counterView.setUint32(at + 4, second)
    counterView.setUint32(at + 8, third)
    counterView.setUint32(at + 12, low + block)
  }
  const stream = aesKeysOf(keys).blocks.update(counters.subarray(0, blocks * blockBytes))
  copyBytes(text, wordBytes, 0)
  const streamWords = new Uint32Array(stream.buffer, stream.byteOffset, blocks * 4)
  for (let at = 0; at < streamWords.length; at += 1) words[at] = (words[at] ?? 0) ^ (streamWords[at] ?? 0)
  giveBack(stream)
  return wordBytes.subarray(0, text.length)
}

/** Node takes small buffers out of memory that they share; larger ones have their own. */
const ownBytesMin = 128 << 10

/** Frees memory now, not when it is collected: the next piece then takes the same, which needs no page faults. */
export function giveBack(bytes: Buffer): void {
  const { buffer, byteOffset, length } = bytes
  if (!(buffer instanceof ArrayBuffer) || byteOffset !== 0) return
  if (buffer.byteLength === length || buffer.byteLength >= ownBytesMin) buffer.transfer(0)
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
