/**
 * Owns AES and Poly1305 of the OpenSSL that Node is linked with, from memory of the caller's into memory of the caller's:
 * Node's own interface allocates what it writes to, for each call, which takes longer than encrypting a mebibyte.
 *
 * Invariants: 1. OpenSSL is given pointers only with lengths that were compared with the memory behind them. 2. Nothing is
 * given out before it has agreed with Node's own AES and with RFC 8439: where it does not, there is no such library.
 */
import { createCipheriv } from 'node:crypto'
import { assert } from '@stillpoint/core/kernel'
import type { CLibrary } from './c-library.ts'

export interface KeyStream {
  /** Begins with this counter block of 16 bytes. */
  begin(iv: Uint8Array): void
  /** What comes next of a text, encrypted or decrypted into as much memory elsewhere. */
  next(source: Uint8Array, target: Uint8Array): void
}

export interface LibCrypto {
  /** AES-256 in CTR mode (NIST SP 800-38A, 6.5). */
  createKeyStream(key: Uint8Array): KeyStream
  /** AES-128 of single blocks of 16 bytes. */
  createBlockCipher(key: Uint8Array): (block: Uint8Array, target: Uint8Array) => void
  /** Writes the 16 bytes of the code. `key`: 32 bytes. */
  poly1305(mac: Uint8Array, body: Uint8Array, key: Uint8Array): void
}

/** Undefined where Node has another library. */
export function loadLibCrypto(library: CLibrary): LibCrypto | undefined {
  try {
    const made = bind(library)
    return agrees(made) ? made : undefined
  } catch {
    return undefined
  }
}

const blockBytes = 16
const macBytes = 16
const macKeyBytes = 32
/** Lengths are of type `int`. */
const bytesMax = 1 << 30

function bind(library: CLibrary): LibCrypto {
  const newCipher = library.declare<bigint>('void *EVP_CIPHER_CTX_new()')
  const freeCipher = library.declare<undefined>('void EVP_CIPHER_CTX_free(void *)')
  const init = library.declare<number>(
    'int EVP_EncryptInit_ex(void *, const void *, void *, const void *, const void *)',
  )
  const update = library.declare<number>('int EVP_EncryptUpdate(void *, void *, void *, const void *, int)')
  const setPadding = library.declare<number>('int EVP_CIPHER_CTX_set_padding(void *, int)')
  const aes256Ctr = present(library.declare<bigint>('const void *EVP_aes_256_ctr()')())
  const aes128Ecb = present(library.declare<bigint>('const void *EVP_aes_128_ecb()')())
  const newMac = library.declare<bigint>('void *EVP_MAC_CTX_new(void *)')
  const initMac = library.declare<number>('int EVP_MAC_init(void *, const void *, size_t, void *)')
  const updateMac = library.declare<number>('int EVP_MAC_update(void *, const void *, size_t)')
  const finalMac = library.declare<number>('int EVP_MAC_final(void *, void *, void *, size_t)')
  const poly1305Of = library.declare<bigint>('void *EVP_MAC_fetch(void *, const char *, const char *)')

  const mac = present(newMac(present(poly1305Of(null, 'POLY1305', null))))
  const written = new Int32Array(1)
  const macWritten = new BigUint64Array(1)
  const ciphers = new FinalizationRegistry<bigint>((cipher) => freeCipher(cipher))

  /** `owner`: what uses it; it is freed when that is collected. */
  function cipherFor(owner: object, algorithm: bigint, key: Uint8Array): bigint {
    const cipher = present(newCipher())
    ciphers.register(owner, cipher)
    done(init(cipher, algorithm, null, Uint8Array.from(key), null))
    done(setPadding(cipher, 0))
    return cipher
  }

  function encrypt(cipher: bigint, source: Uint8Array, target: Uint8Array): void {
    assert(source.length <= bytesMax && target.length >= source.length, 'what is written to is there')
    done(update(cipher, target, written, source, source.length))
    assert(written[0] === source.length, 'as much is written as is read')
  }

  return {
    createKeyStream(key) {
      assert(key.length === 32, 'a key of AES-256')
      const stream: KeyStream = {
        begin(iv) {
          assert(iv.length === blockBytes, 'a counter block')
          done(init(cipher, null, null, null, iv))
        },
        next: (source, target) => {
          if (source.length > 0) encrypt(cipher, source, target)
        },
      }
      const cipher = cipherFor(stream, aes256Ctr, key)
      return stream
    },
    createBlockCipher(key) {
      assert(key.length === 16, 'a key of AES-128')
      const encryptBlock = (block: Uint8Array, target: Uint8Array) => {
        assert(block.length === blockBytes, 'a block')
        encrypt(cipher, block, target)
      }
      const cipher = cipherFor(encryptBlock, aes128Ecb, key)
      return encryptBlock
    },
    poly1305(code, body, key) {
      assert(code.length === macBytes && key.length === macKeyBytes, 'what is written and read is there')
      done(initMac(mac, key, macKeyBytes, null))
      if (body.length > 0) done(updateMac(mac, body, body.length))
      done(finalMac(mac, code, macWritten, macBytes))
    },
  }
}

function present(pointer: bigint | null): bigint {
  if (pointer === null || pointer === 0n) throw new Error('OpenSSL has no such thing, or no memory')
  return pointer
}

function done(result: number): void {
  if (result !== 1) throw new Error('OpenSSL has failed')
}

/** RFC 8439, section 2.5.2. */
const example = {
  key: Buffer.from('85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b', 'hex'),
  body: Buffer.from('Cryptographic Forum Research Group'),
  code: Buffer.from('a8061dc1305136c6c22b8baf0c0127a9', 'hex'),
}

function agrees({ createKeyStream, createBlockCipher, poly1305 }: LibCrypto): boolean {
  const code = Buffer.alloc(macBytes)
  poly1305(code, example.body, example.key)
  const [key, iv] = [example.key, example.key.subarray(0, blockBytes)]
  const text = Buffer.alloc(100, 'some text')
  const [streamed, block] = [Buffer.alloc(text.length), Buffer.alloc(blockBytes)]
  const stream = createKeyStream(key)
  stream.begin(iv)
  stream.next(text.subarray(0, 33), streamed)
  stream.next(text.subarray(33), streamed.subarray(33))
  createBlockCipher(iv)(iv, block)
  const ecb = createCipheriv('aes-128-ecb', iv, null).setAutoPadding(false)
  return (
    code.equals(example.code) &&
    streamed.equals(createCipheriv('aes-256-ctr', key, iv).update(text)) &&
    block.equals(ecb.update(iv))
  )
}
