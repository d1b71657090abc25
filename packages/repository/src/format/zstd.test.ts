import { randomBytes } from 'node:crypto'
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DamageError } from './damage.ts'
import { createScratch } from './scratch.ts'
import { compressIn, decompressIn } from './zstd.ts'
import { compressedBytesMax, createFrameCoders, type FrameCoders } from './zstd-contexts.ts'
import { isOneFrame } from './zstd-frame.ts'

const memory = createScratch()

function requireCoders(): FrameCoders {
  const coders = createFrameCoders()
  if (coders === undefined) throw new Error('the zstd handle of this Node is not as expected')
  return coders
}

/** Frames as others make them: with a checksum, without the length of the content. */
const checksummed = (bytes: Uint8Array) =>
  zstdCompressSync(bytes, { params: { [constants.ZSTD_c_checksumFlag]: 1 }, pledgedSrcSize: bytes.length })
const unpledged = (bytes: Uint8Array) => zstdCompressSync(bytes, { params: { [constants.ZSTD_c_contentSizeFlag]: 0 } })

/** Text, noise and zeros, from nothing to more than a block. */
const contents = fc
  .tuple(fc.constantFrom('text', 'noise', 'zeros'), fc.oneof(fc.nat(40), fc.nat(5_000), fc.nat(300_000)))
  .map(([kind, length]) => {
    if (kind === 'noise') return randomBytes(length)
    return Buffer.alloc(length, kind === 'text' ? 'insert into accounts values (17, 4711);\n' : 0)
  })

describe('contexts that are kept', () => {
  test('do frame after frame as those that are made for each', () => {
    const { compressorOf, decompress } = requireCoders()
    fc.assert(
      fc.property(fc.array(contents, { maxLength: 4 }), fc.constantFrom(1, 2, 3), (all, level) => {
        for (const plaintext of all) {
          const target = Buffer.alloc(compressedBytesMax(plaintext.length))
          const frame = target.subarray(0, compressorOf(level)(plaintext, target))
          expect(zstdDecompressSync(frame).equals(plaintext)).toBe(true)
          expect(isOneFrame(frame, plaintext.length) || frame.length < 18).toBe(true)
          const back = Buffer.alloc(plaintext.length)
          expect(decompress(frame, back)).toBe(plaintext.length)
          expect(back.equals(plaintext)).toBe(true)
        }
      }),
      { numRuns: 60 },
    )
  })

  test('read and write memory that threads share', () => {
    const { compressorOf, decompress } = requireCoders()
    const shared = (bytes: number) => Buffer.from(new SharedArrayBuffer(bytes))
    const plaintext = shared(10_000).fill('shared ')
    const target = shared(compressedBytesMax(10_000))
    const frame = target.subarray(0, compressorOf(2)(plaintext, target))
    const back = shared(10_000)
    expect(decompress(frame, back)).toBe(10_000)
    expect(back.equals(plaintext)).toBe(true)
  })

  test('are not used again after a damaged frame', () => {
    const { decompress } = requireCoders()
    const plaintext = Buffer.alloc(300_000, 'some text, ')
    const frame = checksummed(plaintext)
    const back = Buffer.alloc(plaintext.length)
    const damaged = Buffer.from(frame).fill(0xff, 20, 40)
    for (const bad of [damaged, randomBytes(100), Buffer.from(frame).fill(0, frame.length - 4)]) {
      const isGiven = decompress(bad, back) === plaintext.length && back.equals(plaintext)
      expect(isGiven).toBe(false)
      expect(decompress(frame, back)).toBe(plaintext.length)
      expect(back.equals(plaintext)).toBe(true)
    }
  })
})

describe('one blob', () => {
  test('unfolds whoever has made its frame, and however', () => {
    const makers = [checksummed, unpledged, zstdCompressSync, (bytes: Uint8Array) => compressIn(memory, bytes, 2)]
    fc.assert(
      fc.property(contents, fc.constantFrom(...makers), (plaintext, make) => {
        const frame = Buffer.from(make(plaintext))
        expect(Buffer.from(decompressIn(memory, frame, plaintext.length)).equals(plaintext)).toBe(true)
      }),
      { numRuns: 100 },
    )
  })

  test('that is cut short, longer, or promises otherwise is damage, and the next is none', () => {
    const plaintext = Buffer.alloc(200_000, 'some text, ')
    for (const make of [checksummed, unpledged, zstdCompressSync]) {
      const frame = make(plaintext)
      for (let cut = 1; cut < frame.length; cut += 1) {
        expect(() => decompressIn(memory, frame.subarray(0, cut), plaintext.length)).toThrow(DamageError)
        if (cut % 7 === 0) expect(Buffer.compare(decompressIn(memory, frame, plaintext.length), plaintext)).toBe(0)
      }
      for (const length of [0, 1, 199_999, 200_001]) {
        expect(() => decompressIn(memory, frame, length)).toThrow(DamageError)
      }
    }
    expect(() => decompressIn(memory, checksummed(plaintext), 2 ** 30)).toThrow('it claims to unfold')
  })

  test('never unfolds to more than it promises, whatever was done to it', () => {
    const plaintext = Buffer.alloc(3_000, 'some text, ')
    const frame = checksummed(plaintext)
    fc.assert(
      fc.property(fc.nat(frame.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const mutant = Buffer.from(frame)
        mutant[at] = (mutant[at] ?? 0) ^ flip
        try {
          expect(decompressIn(memory, mutant, plaintext.length)).toHaveLength(plaintext.length)
        } catch (error) {
          expect(error).toBeInstanceOf(DamageError)
        }
        expect(Buffer.compare(decompressIn(memory, frame, plaintext.length), plaintext)).toBe(0)
      }),
      { numRuns: 300 },
    )
  })
})
