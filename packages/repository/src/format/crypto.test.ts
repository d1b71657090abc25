/** Sealing against Node's own CTR mode, and the two Poly1305s against RFC 8439 and each other. */
import { createCipheriv, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { entropy } from '../testing/world.ts'
import { generateKeys, ivBytes, seal, sealInto, sealOverheadBytes, unseal, unsealInto, unsealsTo } from './crypto.ts'
import { DamageError } from './damage.ts'
import { nativePoly1305, type Poly1305, poly1305Into, portablePoly1305 } from './poly1305.ts'

const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ''), 'hex')
const ietf =
  'Any submission to the IETF intended by the Contributor for publication as all or part of an IETF Internet-Draft or ' +
  'RFC and any statement made within the context of an IETF activity is considered an "IETF Contribution". Such ' +
  'statements include oral statements in IETF sessions, as well as written and electronic communications made at any ' +
  'time or place, which are addressed to'

/** RFC 8439: section 2.5.2, then appendix A.3, test vectors 2, 3 and 7 to 10: the corners of the arithmetic. */
const vectors = [
  {
    key: '85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b',
    text: Buffer.from('Cryptographic Forum Research Group').toString('hex'),
    mac: 'a8061dc1305136c6c22b8baf0c0127a9',
  },
  {
    key: '0000000000000000000000000000000036e5f6b5c5e06070f0efca96227a863e',
    text: Buffer.from(ietf).toString('hex'),
    mac: '36e5f6b5c5e06070f0efca96227a863e',
  },
  {
    key: '36e5f6b5c5e06070f0efca96227a863e00000000000000000000000000000000',
    text: Buffer.from(ietf).toString('hex'),
    mac: 'f3477e7cd95417af89a6b8794c310cf0',
  },
  { key: `02${'00'.repeat(31)}`, text: 'ff'.repeat(16), mac: `03${'00'.repeat(15)}` },
  { key: `02${'00'.repeat(15)}${'ff'.repeat(16)}`, text: `02${'00'.repeat(15)}`, mac: `03${'00'.repeat(15)}` },
  {
    key: `01${'00'.repeat(31)}`,
    text: `${'ff'.repeat(16)}f0${'ff'.repeat(15)}11${'00'.repeat(15)}`,
    mac: `05${'00'.repeat(15)}`,
  },
  {
    key: `01${'00'.repeat(31)}`,
    text: `${'ff'.repeat(16)}fb${'fe'.repeat(15)}${'01'.repeat(16)}`,
    mac: '00'.repeat(16),
  },
  { key: `02${'00'.repeat(31)}`, text: `fd${'ff'.repeat(15)}`, mac: `fa${'ff'.repeat(15)}` },
]

function macOf(authenticate: Poly1305, text: Buffer, key: Buffer): Buffer {
  const mac = Buffer.alloc(16)
  authenticate(mac, text, key)
  return mac
}

describe('Poly1305', () => {
  const native = nativePoly1305()
  const all = [portablePoly1305, poly1305Into, ...(native === undefined ? [] : [native])]

  test('gives what RFC 8439 says', () => {
    for (const { key, text, mac } of vectors) {
      for (const authenticate of all) expect(macOf(authenticate, hex(text), hex(key)).toString('hex')).toBe(mac)
    }
  })

  test.runIf(native !== undefined)('in libsodium is the one in JavaScript', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.uint8Array({ maxLength: 300 }), (key, text) => {
        const [left, right] = [native ?? portablePoly1305, portablePoly1305]
        expect(macOf(left, Buffer.from(text), Buffer.from(key))).toEqual(
          macOf(right, Buffer.from(text), Buffer.from(key)),
        )
      }),
    )
  })

  test('on a platform that the library supports is the fast one', () => {
    const supported = ['linux', 'darwin', 'win32'].includes(process.platform) && ['x64', 'arm64'].includes(process.arch)
    const isMusl = process.platform === 'linux' && !JSON.stringify(process.report.getReport()).includes('glibcVersion')
    if (supported && !isMusl) expect(native).toBeDefined()
  })
})

describe('the key stream', () => {
  const keys = generateKeys(entropy)

  /** What Node's CTR mode makes of it. */
  const expected = (iv: Uint8Array, plaintext: Uint8Array) =>
    createCipheriv('aes-256-ctr', keys.encrypt, iv).update(plaintext)

  test.each([0, 1, 15, 16, 17, 4096, 16_383, 16_384, 16_385, 1 << 20, (1 << 20) + 1, 3_000_000])(
    'of %d bytes is that of CTR mode, into private and shared memory',
    (length) => {
      const plaintext = randomBytes(length)
      const sealed = seal(keys, plaintext, entropy)
      const iv = sealed.subarray(0, ivBytes)
      expect(sealed.subarray(ivBytes, -16).equals(expected(iv, plaintext))).toBe(true)
      const shared = Buffer.from(new SharedArrayBuffer(length + sealOverheadBytes + 5))
      expect(sealInto({ keys, plaintext, iv, target: shared.subarray(5) })).toBe(sealed.length)
      expect(shared.subarray(5).equals(sealed)).toBe(true)
      expect(unseal(keys, shared.subarray(5)).equals(plaintext)).toBe(true)
      const opened = Buffer.from(new SharedArrayBuffer(length))
      expect(unsealInto(keys, sealed, opened)).toBe(length)
      expect(opened.equals(plaintext)).toBe(true)
    },
  )

  test('runs over the end of its 32-bit words as CTR mode does', () => {
    const plaintext = randomBytes(200)
    for (const end of ['fffffffe', 'ffffffff', 'fffffff0', '00000000']) {
      for (const start of ['00', 'ff', '7f']) {
        const iv = hex(`${start.repeat(12)}${end}`)
        const sealed = Buffer.alloc(plaintext.length + sealOverheadBytes)
        sealInto({ keys, plaintext, iv, target: sealed })
        expect(sealed.subarray(ivBytes, -16)).toEqual(expected(iv, plaintext))
      }
    }
  })

  test('is compared without being kept: any other byte is told', () => {
    for (const length of [0, 40, 2_000_000]) {
      const plaintext = randomBytes(length)
      const sealed = seal(keys, plaintext, entropy)
      expect(unsealsTo(keys, sealed, plaintext)).toBe(true)
      expect(unsealsTo(keys, sealed, Buffer.concat([plaintext, Buffer.alloc(1)]))).toBe(false)
      if (length === 0) continue
      plaintext[length - 1] = (plaintext[length - 1] ?? 0) ^ 1
      expect(unsealsTo(keys, sealed, plaintext)).toBe(false)
      sealed[20] = (sealed[20] ?? 0) ^ 1
      expect(() => unsealsTo(keys, sealed, plaintext)).toThrow(DamageError)
    }
  })
})
