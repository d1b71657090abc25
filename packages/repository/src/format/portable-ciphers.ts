/**
 * Owns AES by way of `node:crypto`, for platforms where OpenSSL cannot be called (libcrypto.ts). Node encrypts only into
 * memory of its own, which it allocates for each piece.
 */
import { type Cipheriv, createCipheriv, createSecretKey } from 'node:crypto'
import { assert } from '@stillpoint/core/kernel'
import type { KeyStream, LibCrypto } from '../native/libcrypto.ts'
import { copyBytes } from './copy-bytes.ts'
import { giveBack } from './give-back.ts'

/** Stays in the processor's cache until it is copied. */
const pieceBytes = 256 << 10

/** AES-256 in CTR mode. */
export function portableKeyStream(keyBytes: Uint8Array): KeyStream {
  // A cipher made of a key's bytes takes 15 µs, of a key object 3: given bytes, Node 24 throws and catches twice.
  const key = createSecretKey(keyBytes)
  let cipher: Cipheriv | undefined
  return {
    begin(iv) {
      cipher = createCipheriv('aes-256-ctr', key, iv)
    },
    next(source, target) {
      for (let at = 0; at < source.length; at += pieceBytes) {
        const text = source.subarray(at, at + pieceBytes)
        const piece = cipher?.update(text)
        assert(piece?.length === text.length, 'CTR mode keeps the length')
        copyBytes(piece, target, at)
        giveBack(piece)
      }
    },
  }
}

/** AES-128 of single blocks. ECB has no state from block to block, so one cipher serves all. */
export function portableBlockCipher(key: Uint8Array): ReturnType<LibCrypto['createBlockCipher']> {
  const cipher = createCipheriv('aes-128-ecb', key, null).setAutoPadding(false)
  return (block, target) => target.set(cipher.update(block))
}
