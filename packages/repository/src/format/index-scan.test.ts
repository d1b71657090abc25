import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { seeded } from '../testing/world.ts'
import { DamageError } from './damage.ts'
import { sha256 } from './ids.ts'
import { columnsOf, decodeIndexBytes, encodeIndex, type IndexedPack, readIndexColumns } from './index-file.ts'
import { type IndexColumns, scanIndex } from './index-scan.ts'
import type { PackEntry } from './pack.ts'

const id = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString('hex'))
const uint32 = fc.oneof(fc.integer({ min: 0, max: 0xffff_ffff }), fc.constantFrom(0, 9, 10, 0xffff_ffff))
const entry: fc.Arbitrary<PackEntry> = fc.record({
  id,
  type: fc.constantFrom('data', 'tree'),
  offset: uint32,
  length: uint32.map((value) => Math.max(32, value)),
  plainBytes: fc.option(
    uint32.map((value) => value || 1),
    { nil: undefined },
  ),
})
const packs = fc.array(fc.record({ id, entries: fc.array(entry, { maxLength: 6 }) }), { maxLength: 6 }).map(
  // What is read is branded; what is made up here has the form of it.
  (list) => list as unknown as readonly IndexedPack[],
)

/** What the columns say, as the parser of objects would. */
function packsIn(columns: IndexColumns): unknown {
  const idAt = (at = 0) => columns.bytes.toString('latin1', at, at + 64)
  let blob = 0
  return Array.from({ length: columns.packs }, (_, pack) => {
    const entries = []
    for (; blob < (columns.packEnd[pack] ?? 0); blob += 1) {
      const [offset, length, plain] = [columns.offset[blob], columns.length[blob], columns.plain[blob]]
      const type = columns.isTree[blob] === 1 ? 'tree' : 'data'
      entries.push({ id: idAt(columns.idAt[blob]), type, offset, length, plainBytes: plain === 0 ? undefined : plain })
    }
    return { id: idAt(columns.packIdAt[pack]), entries }
  })
}

/** Fields in another order, white space, fields that we do not know: the same document to any parser. */
function unusual(list: readonly IndexedPack[]): string {
  const blobs = (entries: readonly PackEntry[]) =>
    entries.map(({ id: blob, type, offset, length, plainBytes }) => ({
      length,
      offset,
      ...(plainBytes === undefined ? {} : { uncompressed_length: plainBytes }),
      type,
      id: blob,
      unknown: { id: 3 },
    }))
  return JSON.stringify({ packs: list.map((pack) => ({ blobs: blobs(pack.entries), id: pack.id })) }, undefined, 2)
}

describe('an index document', () => {
  test('is scanned as it was written, by us and by restic', () => {
    fc.assert(
      fc.property(packs, fc.array(id, { maxLength: 3 }), (list, superseded) => {
        const json = encodeIndex(list)
        const names = superseded.map((name) => `"${name}"`).join(',')
        // restic's encoder ends with a newline, and names the indexes that one has replaced.
        for (const text of [json, `${json}\n`, `{"supersedes":[${names}],${json.slice(1)}`]) {
          if (text.includes('[],"packs"')) continue
          const columns = scanIndex(Buffer.from(text))
          expect(columns === undefined ? undefined : packsIn(columns)).toEqual(list)
          expect(decodeIndexBytes(Buffer.from(text))).toEqual(list)
        }
        expect(packsIn(columnsOf(list))).toEqual(list)
      }),
    )
  })

  test('is read whatever the order of its fields', () => {
    fc.assert(
      fc.property(packs, (list) => {
        const bytes = Buffer.from(unusual(list))
        if (list.some(({ entries }) => entries.length > 0)) expect(scanIndex(bytes)).toBeUndefined()
        expect(packsIn(readIndexColumns(bytes))).toEqual(list)
        expect(decodeIndexBytes(bytes)).toEqual(list)
      }),
    )
  })

  test('an empty one has no packs', () => {
    for (const text of ['{"packs":[]}', '{"packs":[]}\n', '{"packs":null}']) {
      expect(readIndexColumns(Buffer.from(text)).packs).toBe(0)
    }
    expect(columnsOf([]).blobs).toBe(0)
  })

  const blob = (fields: string) =>
    `{"packs":[{"id":"${sha256(Buffer.of(1))}","blobs":[{"id":"${sha256(Buffer.of(2))}",${fields}}]}]}`

  test.each([
    ['a length below that of an empty blob', blob('"type":"data","offset":0,"length":31')],
    ['a number above 32 bits', blob('"type":"data","offset":4294967296,"length":40')],
    [
      'a number of many digits',
      blob('"type":"data","offset":0,"length":40,"uncompressed_length":99999999999999999999'),
    ],
    ['a negative number', blob('"type":"data","offset":-1,"length":40')],
    ['a fraction', blob('"type":"data","offset":0.5,"length":40')],
    ['a leading zero', blob('"type":"data","offset":01,"length":40')],
    ['an unknown type', blob('"type":"date","offset":0,"length":40')],
    ['a missing field', blob('"type":"data","length":40')],
    ['an id in capitals', blob('"type":"data","offset":0,"length":40').replace(/"id":"./, '"id":"A')],
    ['an id that is too short', blob('"type":"data","offset":0,"length":40').replace(/"id":"./, '"id":"')],
    ['an end in the middle', blob('"type":"data","offset":0,"length":40').slice(0, -3)],
    ['something after its end', `${blob('"type":"data","offset":0,"length":40')}]`],
    ['nothing', ''],
  ])('with %s is damaged', (_, text) => {
    expect(scanIndex(Buffer.from(text))).toBeUndefined()
    expect(() => readIndexColumns(Buffer.from(text))).toThrow(DamageError)
  })
})

test('of 5000 mutated documents, each is read as a JSON parser reads it, or is damaged', () => {
  const random = seeded(20)
  const entryOf = (number: number): PackEntry => ({
    id: sha256(Buffer.of(number)),
    type: number % 3 === 0 ? 'tree' : 'data',
    offset: number * 1000,
    length: 1000,
    plainBytes: number % 2 === 0 ? undefined : 3000,
  })
  const list = [0, 1].map((pack) => ({
    id: sha256(Buffer.of(100 + pack)),
    entries: [0, 1, 2].map((at) => entryOf(pack * 3 + at)),
  })) as unknown as readonly IndexedPack[]
  const json = Buffer.from(encodeIndex(list))
  let scanned = 0
  let damaged = 0
  for (let turn = 0; turn < 5000; turn += 1) {
    const bytes = Buffer.from(json)
    const at = random.below(bytes.length)
    // Mostly what could stand there, so that many are well-formed.
    const alphabet = '0123456789abcdef{}[],:" \n'
    bytes[at] = turn % 4 === 0 ? random.below(256) : alphabet.charCodeAt(random.below(alphabet.length))
    const cut = turn % 7 === 0 ? bytes.subarray(0, random.below(bytes.length)) : bytes
    const columns = scanIndex(cut)
    if (columns !== undefined) {
      scanned += 1
      // Invariant 1: what the scanner accepts means the same to a parser.
      const parsed = JSON.parse(cut.toString('utf8')) as { packs: { id: string; blobs: Record<string, unknown>[] }[] }
      const expected = parsed.packs.map((pack) => ({
        id: pack.id,
        entries: pack.blobs.map(({ uncompressed_length, ...rest }) => ({
          ...rest,
          plainBytes: uncompressed_length === 0 ? undefined : uncompressed_length,
        })),
      }))
      expect(packsIn(columns)).toEqual(expected)
      continue
    }
    try {
      readIndexColumns(cut)
    } catch (error) {
      expect(error).toBeInstanceOf(DamageError)
      damaged += 1
    }
  }
  expect(scanned).toBeGreaterThan(500)
  expect(damaged).toBeGreaterThan(500)
})
