/** Bytes in, values out: frames of peers, stamps in headers, lines of a stream, tokens, pauses. */
import type { Stamp } from '@stillpoint/core'
import { isFailure } from '@stillpoint/core/kernel'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { exponentialBackoff } from './backoff.ts'
import { headersOf, readHeaders } from './http/stamp-headers.ts'
import { type EncodedPayload, encodePayload, payloadForRecord, payloadFromRecord } from './message.ts'
import { linesOf } from './state/restorer.ts'
import { bearerOf, sameToken } from './token.ts'
import { decodeMessage, encodeMessage } from './websocket/peer-frames.ts'

const stamp: Stamp = {
  generation: 3,
  epoch: 12,
  channel: 'a→b#http' as Stamp['channel'],
  session: 's-1' as Stamp['session'],
  seq: 7,
  message: 'zahlung-grün' as Stamp['message'],
}
const stamped = { stamp, incarnation: 'i-1' as never }

describe('messages of a channel', () => {
  test('are read as they were written', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.integer({ min: 1, max: 2 ** 40 }), fc.nat(), (bytes, seq, epoch) => {
        const header = { seq, epoch, message: stamp.message, type: 'bytes' } as const
        const read = decodeMessage(encodeMessage(header, { type: 'bytes', bytes }))
        expect(read.header).toEqual(header)
        expect([...read.payload.bytes]).toEqual([...bytes])
      }),
    )
  })

  test('made of anything else are refused, never misread', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decodeMessage(bytes)
        } catch (error) {
          expect(isFailure(error, 'frame_invalid')).toBe(true)
          return
        }
        expect.unreachable('random bytes were taken for a message')
      }),
    )
  })

  test('survive a snapshot, also texts that are no UTF-8', () => {
    const there = (payload: EncodedPayload): number[] => [
      ...payloadFromRecord(payloadForRecord(payload), payload.type).bytes,
    ]
    fc.assert(
      fc.property(fc.uint8Array(), fc.constantFrom('text', 'bytes', 'json'), (bytes, type) => {
        expect(there({ type, bytes })).toEqual([...bytes])
      }),
    )
  })

  test('keep their bytes although the sender writes on into its buffer', () => {
    const buffer = new Uint8Array([1, 2])
    const { bytes } = encodePayload(buffer, 10)
    buffer[0] = 9
    expect([...bytes]).toEqual([1, 2])
  })
})

describe('stamps in headers', () => {
  const get = (headers: Readonly<Record<string, string>>) => (name: string) => headers[name]

  test('are read as they were written, in ASCII', () => {
    const headers = headersOf('request', stamped, 'token')
    for (const value of Object.values(headers)) expect(value).toMatch(/^[\x21-\x7e]+$/)
    expect(readHeaders('request', get(headers), 'token')).toEqual(stamped)
    expect(readHeaders('request', get({}), 'token')).toBeNull()
  })

  test('with one field changed, of another kind or by another token are refused', () => {
    const headers = headersOf('request', stamped, 'token')
    for (const name of Object.keys(headers)) {
      const forged = { ...headers, [name]: name.endsWith('channel') ? 'a%E2%86%92c%23http' : '8' }
      expect(() => readHeaders('request', get(forged), 'token'), name).toThrow('refused')
    }
    expect(() => readHeaders('reply', get(headers), 'token')).toThrow('signature')
    expect(() => readHeaders('request', get(headers), 'other')).toThrow('signature')
  })
})

test('lines are the same however the stream is cut into chunks', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ unit: 'grapheme' }).map((text) => text.replaceAll('\n', ''))),
      fc.integer({ min: 1, max: 7 }),
      async (lines, size) => {
        const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''))
        async function* chunks(): AsyncGenerator<Uint8Array> {
          for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size)
        }
        const read: string[] = []
        for await (const line of linesOf(chunks())) read.push(line)
        expect(read).toEqual(lines)
      },
    ),
  )
})

test('tokens are equal only when they are', () => {
  expect(sameToken('abc', 'abc')).toBe(true)
  expect(sameToken('abc', 'abcd')).toBe(false)
  expect(sameToken('', 'abc')).toBe(false)
  expect(bearerOf('Bearer abc')).toBe('abc')
  expect(bearerOf('Basic abc')).toBeNull()
  expect(bearerOf(undefined)).toBeNull()
})

test('pauses grow to their bound, and begin anew after a success', () => {
  const values = [0, 2 ** 32 - 1]
  for (const value of values) {
    const backoff = exponentialBackoff({ firstMs: 100, lastMs: 1_000, random: { uint32: () => value } })
    const pauses = Array.from({ length: 8 }, () => backoff.next())
    expect(pauses[0]).toBeLessThanOrEqual(100)
    expect(pauses[0]).toBeGreaterThanOrEqual(50)
    expect(pauses.at(-1)).toBeLessThanOrEqual(1_000)
    expect(pauses.at(-1)).toBeGreaterThanOrEqual(500)
    backoff.reset()
    expect(backoff.next()).toBe(pauses[0])
  }
})
