import { zstdCompressSync } from 'node:zlib'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decompress } from './compression.ts'
import { promisedBytes } from './zstd-frame.ts'

test('the length that a frame promises is the one that was pledged', () => {
  for (const length of [20, 255, 256, 257, 65_791, 65_792, 70_000, 3_000_000]) {
    const bytes = Buffer.alloc(length, 'some text ')
    expect(promisedBytes(zstdCompressSync(bytes, { pledgedSrcSize: length }))).toBe(length)
    expect(promisedBytes(Buffer.concat([zstdCompressSync(bytes, { pledgedSrcSize: length }), bytes]))).toBe(length)
  }
})

test('what is no frame promises nothing', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => promisedBytes(bytes) === undefined))
  expect(promisedBytes(zstdCompressSync(Buffer.alloc(1000)).subarray(0, 9))).toBeUndefined()
})

test('a promise that is not kept is damage or is not needed, whatever it says', async () => {
  const plaintext = Buffer.from(Array.from({ length: 300_000 }, (_, at) => (at * at) >>> 3))
  const frame = zstdCompressSync(plaintext, { pledgedSrcSize: plaintext.length })
  expect(await decompress(frame, 300_000)).toEqual(plaintext)
  await expect(decompress(frame, 299_999)).rejects.toThrow('it does not decompress')
  for (const lie of [0, 299_999, 300_001, 0xffff_ffff]) {
    const lying = Buffer.from(frame)
    lying.writeUInt32LE(lie, lying.indexOf(Buffer.from(Uint32Array.of(300_000).buffer), 4))
    expect(promisedBytes(lying)).toBe(lie)
    await expect(decompress(lying, 1 << 29)).rejects.toThrow('it does not decompress')
  }
  // Without a pledge, as streams are written.
  expect(await decompress(zstdCompressSync(plaintext), 300_000)).toEqual(plaintext)
})
