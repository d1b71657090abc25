import { createCipheriv } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { entropy } from '../testing/testbed.ts'
import { decodeDocument, encodeDocument } from './compression.ts'
import { decodeConfig, encodeConfig } from './config.ts'
import { type CryptKeys, generateKeys, seal, sealOverheadBytes, unseal } from './crypto.ts'
import { DamageError } from './damage.ts'
import { blobId, isId, sha256 } from './ids.ts'
import { decodeIndex, encodeIndex } from './index-file.ts'
import { jsonString } from './json.ts'
import { decodeKeyFile, encodeKeyFile, openKeyFile } from './key-file.ts'
import { decodeLock, encodeLock } from './lock-file.ts'
import { bytesFromName, nameFromBytes, quoteName, unquoteName } from './node-name.ts'
import { decodePackHeader, encodePackHeader, type PackEntry, packBytes } from './pack.ts'
import { generatePolynomial, isIrreducible } from './polynomial.ts'
import { decodeSnapshot, encodeSnapshot } from './snapshot.ts'
import { formatTimestamp, parseTimestamp } from './timestamp.ts'
import { decodeTree, encodeTree, type TreeNode } from './tree.ts'

const id = fc.uint8Array({ minLength: 4, maxLength: 4 }).map((bytes) => sha256(bytes))

describe('sealing', () => {
  const keys = generateKeys(entropy)

  test('what is sealed opens; a flipped bit anywhere, other keys, a missing end do not', () => {
    const plaintext = Buffer.from('the quick brown fox')
    const sealed = seal(keys, plaintext, entropy)
    expect(sealed.length).toBe(plaintext.length + sealOverheadBytes)
    expect(unseal(keys, sealed)).toEqual(plaintext)
    for (let bit = 0; bit < sealed.length * 8; bit += 1) {
      const flipped = Buffer.from(sealed)
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(() => unseal(keys, flipped)).toThrow(DamageError)
    }
    for (let length = 0; length < sealed.length; length += 1) {
      expect(() => unseal(keys, sealed.subarray(0, length))).toThrow(DamageError)
    }
    expect(() => unseal(generateKeys(entropy), sealed)).toThrow(DamageError)
    expect(seal(keys, plaintext, entropy)).not.toEqual(sealed)
  })

  test('the MAC is Poly1305-AES as in its paper, appendix B', () => {
    // Vector: r, k, nonce, message f3f6 and its authenticator. The message is our ciphertext.
    const vector: CryptKeys = {
      encrypt: new Uint8Array(32),
      macR: Buffer.from('851fc40c3467ac0be05cc20404f3f700', 'hex'),
      macK: Buffer.from('ec074c835580741701425b623235add6', 'hex'),
    }
    const nonce = Buffer.from('fb447350c4e868c52ac3275cf9d4327e', 'hex')
    const ciphertext = Buffer.from('f3f6', 'hex')
    const mac = Buffer.from('f4c633c3044fc145f84f335cb81953de', 'hex')
    const plaintext = createCipheriv('aes-256-ctr', vector.encrypt, nonce).update(ciphertext)
    expect(unseal(vector, Buffer.concat([nonce, ciphertext, mac]))).toEqual(plaintext)
    expect(seal(vector, plaintext, { fill: (target) => target.set(nonce) }).subarray(-16)).toEqual(mac)
  })
})

describe('names', () => {
  test('any bytes survive, in memory and in trees', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const name = nameFromBytes(bytes)
        expect(bytesFromName(name)).toEqual(Buffer.from(bytes))
        expect(unquoteName(quoteName(name))).toBe(name)
      }),
      { numRuns: 2000 },
    )
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (name) => unquoteName(quoteName(name)) === name))
  })

  test('are quoted as Go quotes', () => {
    const cases: readonly [string, string][] = [
      ['plain name.txt', 'plain name.txt'],
      ['a"b\\c', 'a\\"b\\\\c'],
      ['\x00\x07\b\f\n\r\t\v\x1b\x7f', '\\x00\\a\\b\\f\\n\\r\\t\\v\\x1b\\x7f'],
      ['é\u2028\u00a0\u{1f600}\u{e0001}', 'é\\u2028\\u00a0\u{1f600}\\U000e0001'],
      [nameFromBytes(Buffer.from([0x61, 0xff, 0xed, 0xa0, 0x80])), 'a\\xff\\xed\\xa0\\x80'],
    ]
    for (const [name, quoted] of cases) {
      expect(quoteName(name)).toBe(quoted)
      expect(unquoteName(quoted)).toBe(name)
    }
    expect(unquoteName('\\101\\u0041\\U00000041')).toBe('AAA')
    for (const bad of ['a"b', '\\', '\\q', '\\x1', '\\400', '\\ud800', '\\U00110000', 'a\nb']) {
      expect(() => unquoteName(bad)).toThrow(DamageError)
    }
  })

  test('JSON strings are escaped as Go escapes', () => {
    expect(jsonString('<&>\u2028\b\f\n\t"\\b\x01')).toBe(
      '"\\u003c\\u0026\\u003e\\u2028\\u0008\\u000c\\n\\t\\"\\\\b\\u0001"',
    )
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => JSON.parse(jsonString(text)) === text.toWellFormed()),
    )
  })
})

describe('times', () => {
  test('survive to the nanosecond, with any offset', () => {
    const range = { min: -62_000_000_000_000_000_000n, max: 253_000_000_000_000_000_000n }
    fc.assert(fc.property(fc.bigInt(range), (time) => parseTimestamp(formatTimestamp(time)) === time))
    expect(formatTimestamp(1_500_000_000n)).toBe('1970-01-01T00:00:01.5Z')
    expect(formatTimestamp(-1n)).toBe('1969-12-31T23:59:59.999999999Z')
    expect(parseTimestamp('2015-01-02T18:10:50.895208559+01:00')).toBe(1_420_218_650_895_208_559n)
    expect(parseTimestamp('0001-01-01T00:00:00Z')).toBe(-62_135_596_800_000_000_000n)
    expect(formatTimestamp(10n ** 30n)).toBe('9999-12-31T23:59:59Z')
    for (const bad of ['', 'now', '2015-13-02T18:10:50Z', '2015-01-02', '2015-01-02T18:10:50']) {
      expect(() => parseTimestamp(bad)).toThrow(DamageError)
    }
  })

  test('are read the same whether the last one was of the same day or not', () => {
    const read = (text: string, before: string) => {
      parseTimestamp(before)
      try {
        return parseTimestamp(text)
      } catch (error) {
        expect(error).toBeInstanceOf(DamageError)
        return 'not a time'
      }
    }
    const [sameDay, otherDay] = ['2026-11-21T00:00:01Z', '1999-01-01T00:00:01Z']
    const part = fc.constantFrom('', '.', ':', 'Z', 'T', '+01:00', '0', '5', '24', '60', '999999999', '1234567890', 'é')
    const usual = fc.date({ noInvalidDate: true }).map((date) => date.toISOString().slice(11, -1))
    const time = fc.tuple(fc.oneof(usual, part), part, part, fc.constantFrom('Z', '')).map((parts) => parts.join(''))
    fc.assert(
      fc.property(time, (of) => read(`2026-11-21T${of}`, sameDay) === read(`2026-11-21T${of}`, otherDay)),
      { numRuns: 2000 },
    )
    expect(read('2026-11-21T23:59:59.000000001Z', '2026-11-21T24:00:00Z')).toBe(1_795_305_599_000_000_001n)
  })
})

describe('packs and indexes', () => {
  const lengths = fc.integer({ min: sealOverheadBytes, max: 2 ** 32 - 1 })
  const entry = fc.record({
    id,
    type: fc.constantFrom('data' as const, 'tree' as const),
    length: lengths,
    plainBytes: fc.option(fc.integer({ min: 1, max: 2 ** 32 - 1 }), { nil: undefined }),
  })
  const entriesOf = (list: readonly Omit<PackEntry, 'offset'>[]) => {
    let offset = 0
    return list.map(({ id: name, type, length, plainBytes }) => {
      const placed = { id: name, type, offset, length, plainBytes }
      offset += length
      return placed
    })
  }

  test('headers survive', () => {
    fc.assert(
      fc.property(fc.array(entry), (list) => {
        const entries = entriesOf(list)
        const header = encodePackHeader(entries)
        expect(decodePackHeader(header)).toEqual(entries)
        const blobs = entries.reduce((sum, one) => sum + one.length, 0)
        expect(packBytes(entries)).toBe(blobs + header.length + sealOverheadBytes + 4)
      }),
    )
    expect(() => decodePackHeader(Buffer.from([7]))).toThrow(DamageError)
    expect(() => decodePackHeader(Buffer.alloc(36))).toThrow(DamageError)
  })

  test('indexes survive', () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 5 }), id, (list, pack) => {
        const entries = entriesOf(list).filter((one) => one.offset < 2 ** 32)
        const packs = decodeIndex(encodeIndex([{ id: pack as never, entries }]))
        expect(packs).toEqual([{ id: pack, entries }])
      }),
    )
    for (const bad of ['', '[]', '{}', '{"packs":3}', '{"packs":[{"id":"x","blobs":[]}]}', '{"packs":[null]}']) {
      expect(() => decodeIndex(bad)).toThrow(DamageError)
    }
    expect(decodeIndex('{"packs":null}')).toEqual([])
  })
})

describe('documents', () => {
  test('are compressed, and read plain too', async () => {
    expect((await encodeDocument('{"a":1}'))[0]).toBe(2)
    expect(await decodeDocument(await encodeDocument('{"a":1}'))).toBe('{"a":1}')
    expect(await decodeDocument(Buffer.from('[1]'))).toBe('[1]')
    await expect(decodeDocument(Buffer.from([3, 1]))).rejects.toThrow(DamageError)
    await expect(decodeDocument(Buffer.from([2, 1]))).rejects.toThrow(DamageError)
    await expect(decodeDocument(Buffer.alloc(0))).rejects.toThrow(DamageError)
  })

  test('snapshots and locks survive', () => {
    const snapshot = {
      time: 1_700_000_000_123_456_789n,
      tree: sha256(Buffer.from('t')) as never,
      paths: ['/a <b>', 'é'],
      hostname: 'host',
      username: 'user',
      uid: 1000,
      gid: 0,
      excludes: [],
      tags: ['x'],
      parent: sha256(Buffer.from('p')) as never,
      programVersion: 'test',
    }
    expect(decodeSnapshot(encodeSnapshot(snapshot))).toEqual(snapshot)
    const lock = { time: 5n, exclusive: true, hostname: 'h', username: 'u', pid: 7, uid: 0, gid: 3 }
    expect(decodeLock(encodeLock(lock))).toEqual(lock)
    for (const bad of ['{}', '{"time":"x"}', '3', '{"time":"2015-01-02T18:10:50Z","tree":null,"exclusive":1}']) {
      expect(() => decodeSnapshot(bad)).toThrow(DamageError)
      expect(() => decodeLock(bad)).toThrow(DamageError)
    }
  })

  test('configs: the polynomial is irreducible, other versions are refused', () => {
    const chunkerPolynomial = generatePolynomial(entropy)
    expect(isIrreducible(chunkerPolynomial)).toBe(true)
    // From the design document, and a multiple of x + 1.
    expect(isIrreducible(0x25b468838dcb75n)).toBe(true)
    expect(isIrreducible(0x25b468838dcb75n ^ 2n)).toBe(false)
    const config = { id: 'ab'.repeat(32), chunkerPolynomial }
    expect(decodeConfig(encodeConfig(config))).toEqual(config)
    for (const version of [1, 3]) {
      const decode = () => decodeConfig(Buffer.from(`{"version":${version}}`))
      expect(decode).toThrow(expect.objectContaining({ code: 'repository_version_unsupported' }))
    }
  })

  test('key files open with their password only, and cannot ask for all memory', async () => {
    const master = generateKeys(entropy)
    const owner = { username: 'u', hostname: 'h', created: 0n }
    const cost = { n: 1024, r: 8, p: 1 }
    const password = Buffer.from('secret')
    const file = await encodeKeyFile({ master, password, owner, entropy, cost })
    const opened = await openKeyFile(decodeKeyFile(file), password)
    expect(Buffer.from(opened?.encrypt ?? [])).toEqual(Buffer.from(master.encrypt))
    expect(await openKeyFile(decodeKeyFile(file), Buffer.from('secret\n'))).toBeUndefined()
    const greedy = file.toString().replace('"N":1024', '"N":1073741824')
    expect(() => decodeKeyFile(Buffer.from(greedy))).toThrow(DamageError)
  })
})

describe('trees', () => {
  const base = {
    permissions: 0o644,
    mtime: 1n,
    atime: 1n,
    ctime: 1n,
    uid: 0,
    gid: 0,
    user: '',
    group: '',
    inode: 0n,
    deviceId: 0n,
    links: 1n,
    extendedAttributes: [],
  }
  const file = (name: string): TreeNode => ({ ...base, name, type: 'file', bytes: 0, content: [] })

  test('inodes keep all 64 bits', () => {
    const node: TreeNode = { ...file('a'), inode: (1n << 64n) - 1n, deviceId: (1n << 60n) + 1n }
    expect(decodeTree(encodeTree([node]))).toEqual([node])
  })

  test('are sorted by bytes, whatever the order of the entries', () => {
    const names = ['b', 'a', 'Z', 'é', '\u{1f600}', '\ue000', nameFromBytes(Buffer.from([0xff]))]
    const sorted = decodeTree(encodeTree(names.map(file))).map((node) => node.name)
    expect(sorted).toEqual([...names].sort((left, right) => Buffer.compare(bytesFromName(left), bytesFromName(right))))
  })

  test('cannot be written with names that lead astray', () => {
    for (const name of ['', '.', '..', 'a/b', '/', 'a\0b']) {
      expect(() => encodeTree([file(name)])).toThrow(expect.objectContaining({ code: 'tree_unsafe' }))
    }
    expect(() => encodeTree([file('a'), file('b'), file('a')])).toThrow(
      expect.objectContaining({ code: 'tree_unsafe' }),
    )
  })

  test('hostile documents are damage, not crashes', () => {
    const bad = [
      '',
      'null',
      '[]',
      '{"nodes":[{}]}',
      '{"nodes":[{"name":"a","type":"dir","subtree":5}]}',
      '{"nodes":{"length":1}}',
    ]
    for (const json of bad) expect(() => decodeTree(Buffer.from(json))).toThrow(DamageError)
    fc.assert(
      fc.property(fc.json(), (json) => {
        try {
          decodeTree(Buffer.from(`{"nodes":[${json}]}`))
        } catch (error) {
          expect(error).toBeInstanceOf(DamageError)
        }
      }),
    )
  })

  test('special modes and links with any target survive', () => {
    const odd: TreeNode = {
      ...base,
      name: 'l',
      type: 'symlink',
      target: nameFromBytes(Buffer.from([0x61, 0xff, 0x3c])),
    }
    const sticky: TreeNode = {
      ...base,
      name: 'd',
      type: 'dir',
      subtree: sha256(Buffer.of(1)) as never,
      permissions: 0o7777,
    }
    const device: TreeNode = { ...base, name: 'c', type: 'chardev', device: 259n }
    expect(decodeTree(encodeTree([odd, sticky, device]))).toEqual([device, sticky, odd])
  })

  test('ids are 64 lower-case digits', () => {
    expect(isId('A'.repeat(64))).toBe(false)
    expect(() => blobId('0'.repeat(63))).toThrow(DamageError)
  })
})
