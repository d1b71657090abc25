import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { generateKeys } from '../format/crypto.ts'
import { sha256 } from '../format/ids.ts'
import { collected, entropy, seeded } from '../testing/testbed.ts'
import { chunksOf } from './chunks.ts'
import { type Chunking, chunkBytesAverage, chunkBytesMax, chunkBytesMin, createCutter } from './cutter.ts'
import { deriveGearTable } from './gear-table.ts'

const keysOf = (byte: number) => ({
  encrypt: new Uint8Array(32).fill(byte),
  macK: new Uint8Array(16).fill(byte),
  macR: new Uint8Array(16).fill(byte),
})
const gear = deriveGearTable(keysOf(1), '00'.repeat(32))

async function chunk(pieces: Iterable<Uint8Array>, chunking: Chunking = { kind: 'content' }, table = gear) {
  const chunks: Buffer[] = []
  for await (const piece of chunksOf(pieces, createCutter(chunking, table))) chunks.push(piece)
  return chunks
}

function* pieces(bytes: Buffer, sizes: readonly number[]): Generator<Buffer> {
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1
    yield bytes.subarray(at, at + size)
    at += size
  }
}

const random = seeded(42).bytes(24 << 20)

describe('cutting by content', () => {
  test('the chunks are the stream, within the limits, about 1 MiB each', async () => {
    const chunks = await chunk([random])
    expect(Buffer.concat(chunks).equals(random)).toBe(true)
    for (const piece of chunks.slice(0, -1)) expect(piece.length).toBeGreaterThanOrEqual(chunkBytesMin)
    for (const piece of chunks) expect(piece.length).toBeLessThanOrEqual(chunkBytesMax)
    const average = random.length / chunks.length
    expect(average).toBeGreaterThan(chunkBytesAverage * 0.75)
    expect(average).toBeLessThan(chunkBytesAverage * 1.75)
  })

  test('cuts do not depend on how the stream arrives', async () => {
    const bytes = random.subarray(0, 4 << 20)
    const expected = (await chunk([bytes])).map(sha256)
    const sizes = fc.array(fc.integer({ min: 1, max: 900_000 }), { minLength: 1, maxLength: 5 })
    const large = sizes.filter((list) => list.reduce((sum, size) => sum + size) / list.length > 20_000)
    await fc.assert(
      fc.asyncProperty(large, async (list) => {
        expect((await chunk(pieces(bytes, list))).map(sha256)).toEqual(expected)
      }),
      { numRuns: 20, seed: 1 },
    )
  })

  test('after an edit the cuts fall into step again', async () => {
    const before = (await chunk([random])).map(sha256)
    for (const [at, edit] of [
      [3_000_000, Buffer.from('inserted')],
      [0, Buffer.alloc(700_000, 1)],
    ] as const) {
      const edited = Buffer.concat([random.subarray(0, at), edit, random.subarray(at)])
      const after = new Set((await chunk([edited])).map(sha256))
      const kept = before.filter((id) => after.has(id)).length
      expect(before.length - kept).toBeLessThanOrEqual(3)
    }
  })

  test('zeros are cut at the limits, not lost', async () => {
    const zeros = Buffer.alloc(20 << 20)
    const chunks = await chunk([zeros])
    expect(Buffer.concat(chunks).equals(zeros)).toBe(true)
    expect(chunks.every((piece) => piece.length <= chunkBytesMax)).toBe(true)
  })

  test('the cuts are a secret of the repository, and stay what they are', async () => {
    const own = (await chunk([random])).map((piece) => piece.length)
    const other = (await chunk([random], { kind: 'content' }, deriveGearTable(keysOf(2), '00'.repeat(32)))).map(
      (piece) => piece.length,
    )
    const moved = deriveGearTable(keysOf(1), '01'.repeat(32))
    expect(other).not.toEqual(own)
    expect(moved).not.toEqual(gear)
    expect(deriveGearTable(generateKeys(entropy), '00'.repeat(32))).not.toEqual(gear)
    // Golden: a change of these numbers would end deduplication against every repository that exists.
    expect(own.slice(0, 5)).toEqual([1_456_042, 1_093_123, 1_115_485, 1_918_633, 2_374_146])
    expect(sha256(new Uint8Array(gear.buffer))).toBe('3469bff363f84df20e57624bd3a8377451d72c58c38757b412fd930eeece8a47')
  })

  test('short streams are one chunk, empty ones none', async () => {
    expect(await chunk([])).toEqual([])
    expect(await chunk([new Uint8Array()])).toEqual([])
    expect(await chunk([Buffer.from('a'), Buffer.from('b')])).toEqual([Buffer.from('ab')])
  })
})

describe('cutting by pages', () => {
  test('chunks are whole pages, and a changed page changes one chunk', async () => {
    for (const pageBytes of [512, 4096, 8192, 65_536, 1 << 20]) {
      const bytes = Buffer.from(random.subarray(0, (3 << 20) + 100))
      const before = await chunk([bytes], { kind: 'pages', pageBytes })
      expect(Buffer.concat(before).equals(bytes)).toBe(true)
      for (const piece of before.slice(0, -1)) expect(piece.length % pageBytes).toBe(0)
      bytes[2 << 20] = (bytes[2 << 20] ?? 0) ^ 1
      const after = await chunk(pieces(bytes, [70_001]), { kind: 'pages', pageBytes })
      const known = new Set(before.map(sha256))
      expect(after.filter((piece) => !known.has(sha256(piece)))).toHaveLength(1)
    }
  })

  test('impossible pages are refused', () => {
    for (const pageBytes of [0, -1, 1.5, 511, 1 << 30, Number.NaN]) {
      const create = () => createCutter({ kind: 'pages', pageBytes }, gear)
      expect(create).toThrow(expect.objectContaining({ code: 'page_size_invalid' }))
    }
  })
})

test('a source that fails, fails the stream', async () => {
  async function* failing(): AsyncGenerator<Uint8Array> {
    yield random.subarray(0, 1 << 20)
    throw new Error('source gone')
  }
  await expect(collected(chunksOf(failing(), createCutter({ kind: 'content' }, gear)))).rejects.toThrow('source gone')
})
