import { createCipheriv, randomBytes } from 'node:crypto'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { portablePoly1305 } from '../format/poly1305.ts'
import { portableBlockCipher, portableKeyStream } from '../format/portable-ciphers.ts'
import type { LibCrypto } from './libcrypto.ts'
import { libCrypto } from './native-calls.ts'

function known(): LibCrypto {
  const library = libCrypto()
  if (library === undefined) throw new Error('Node exports its OpenSSL')
  return library
}

const library = known()
const shared = (bytes: number) => Buffer.from(new SharedArrayBuffer(bytes))
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })

/** A text in one array with others, so that it begins and ends anywhere. */
function inMiddle(text: Uint8Array, isShared: boolean): Uint8Array {
  const around = isShared ? shared(text.length + 20) : Buffer.alloc(text.length + 20)
  around.set(text, 7)
  return around.subarray(7, 7 + text.length)
}

test('AES-256-CTR is that of Node, in pieces of any length, in shared memory, where the counter runs over', () => {
  const iv = fc.oneof(
    bytes(16),
    fc.nat(64).map((low) => Buffer.from(`${'ff'.repeat(15)}${(255 - low).toString(16)}`, 'hex')),
  )
  const text = fc.uint8Array({ maxLength: 5000 })
  fc.assert(
    fc.property(
      bytes(32),
      iv,
      text,
      fc.array(fc.nat(2000)),
      fc.boolean(),
      (key, counter, plaintext, cuts, isShared) => {
        const wanted = createCipheriv('aes-256-ctr', key, counter).update(plaintext)
        for (const stream of [library.createKeyStream(key), portableKeyStream(key)]) {
          // Begun twice: what was before must not tell.
          for (const beginning of [randomBytes(16), counter]) stream.begin(beginning)
          const source = inMiddle(plaintext, isShared)
          const target = isShared ? shared(plaintext.length) : Buffer.alloc(plaintext.length)
          let at = 0
          for (const cut of [...cuts, plaintext.length]) {
            const end = Math.min(plaintext.length, at + cut)
            stream.next(source.subarray(at, end), target.subarray(at, end))
            at = end
          }
          expect(target.equals(wanted)).toBe(true)
        }
      },
    ),
  )
})

test('two keys at a time do not know of each other', () => {
  const [one, other, iv] = [randomBytes(32), randomBytes(32), randomBytes(16)]
  const [first, second] = [library.createKeyStream(one), library.createKeyStream(other)]
  const text = Buffer.alloc(1000, 'text')
  const targets = [Buffer.alloc(1000), Buffer.alloc(1000)] as const
  first.begin(iv)
  first.next(text.subarray(0, 300), targets[0])
  second.begin(iv)
  second.next(text, targets[1])
  first.next(text.subarray(300), targets[0].subarray(300))
  expect(targets[0].equals(createCipheriv('aes-256-ctr', one, iv).update(text))).toBe(true)
  expect(targets[1].equals(createCipheriv('aes-256-ctr', other, iv).update(text))).toBe(true)
})

test('blocks of AES-128, and codes, are those of the portable ones', () => {
  const text = fc.uint8Array({ maxLength: 700 })
  fc.assert(
    fc.property(bytes(16), bytes(16), bytes(32), text, (key, block, macKey, body) => {
      const targets = [Buffer.alloc(16), Buffer.alloc(16)] as const
      library.createBlockCipher(key)(block, targets[0])
      portableBlockCipher(key)(block, targets[1])
      expect(targets[0].equals(targets[1])).toBe(true)
      library.poly1305(targets[0], inMiddle(body, true), macKey)
      portablePoly1305(targets[1], body, macKey)
      expect(targets[0].equals(targets[1])).toBe(true)
    }),
  )
})

test('what would be written or read beyond its end is refused', () => {
  const stream = library.createKeyStream(randomBytes(32))
  expect(() => library.createKeyStream(randomBytes(31))).toThrow('AES-256')
  expect(() => library.createBlockCipher(randomBytes(15))).toThrow('AES-128')
  expect(() => library.createBlockCipher(randomBytes(16))(randomBytes(15), Buffer.alloc(16))).toThrow('a block')
  expect(() => library.createBlockCipher(randomBytes(16))(randomBytes(16), Buffer.alloc(15))).toThrow('written to')
  expect(() => stream.begin(randomBytes(15))).toThrow('counter')
  stream.begin(randomBytes(16))
  expect(() => stream.next(Buffer.alloc(10), Buffer.alloc(9))).toThrow('written to')
  expect(() => library.poly1305(Buffer.alloc(15), Buffer.alloc(1), Buffer.alloc(32))).toThrow('there')
  expect(() => library.poly1305(Buffer.alloc(16), Buffer.alloc(1), Buffer.alloc(31))).toThrow('there')
})

test('ciphers that are no longer used are freed', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const before = process.memoryUsage.rss()
  for (let round = 0; round < 10; round += 1) {
    for (let at = 0; at < 100_000; at += 1) library.createBlockCipher(Buffer.alloc(16, at))
    collect()
    await new Promise(setImmediate)
  }
  // Each takes 700 bytes at least.
  expect(process.memoryUsage.rss() - before).toBeLessThan(350 << 20)
})
