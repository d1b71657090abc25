/** That what is stored is read back first, with memory that really fails; and that who does not want it does without. */
import { describe, expect, test } from 'vitest'
import type { CryptKeys } from '../format/crypto.ts'
import { sha256 } from '../format/ids.ts'
import { entropy, seeded } from '../testing/testbed.ts'
import { sealBlob } from './blob-coder.ts'
import { buildPack } from './pack-builder.ts'
import { filledPart, newRegion } from './pack-region.ts'
import { sealBlobs } from './seal-blobs.ts'

const random = seeded(5)
const keys: CryptKeys = { encrypt: random.bytes(32), macK: random.bytes(16), macR: random.bytes(16) }

/** Memory in which the 30th byte of the pack is another one whenever somebody looks. */
class FailingMemory extends Uint8Array<SharedArrayBuffer> {
  override subarray(from?: number, to?: number): Uint8Array<SharedArrayBuffer> {
    const place = new Uint8Array(this.buffer, newRegion(0).length + 30, 1)
    place[0] = (place[0] ?? 0) + 1
    return super.subarray(from, to)
  }
}

function sealed(text: Uint8Array, { selfCheck, broken }: { readonly selfCheck: boolean; readonly broken: boolean }) {
  const memory = newRegion(1 << 20)
  const region = broken ? new FailingMemory(memory.buffer) : memory
  const places = Uint32Array.of(0, text.length, 0)
  const input = { type: 'data', compression: 'auto', selfCheck, window: text, places, ivs: random.bytes(16) } as const
  sealBlobs({ ...input, regions: [region] }, { keys, gear: new Uint32Array(256) })
  return filledPart(region).length
}

describe.each([
  ['random', random.bytes(10_000)],
  ['text', Buffer.from('one line\n'.repeat(1000))],
])('a blob of %s', (_, text) => {
  test('is not handed out when it is not what it was', () => {
    expect(() => sealed(text, { selfCheck: true, broken: true })).toThrow(
      expect.objectContaining({ code: 'self_check_failed' }),
    )
    expect(sealed(text, { selfCheck: true, broken: false })).toBeGreaterThan(0)
  })

  test('is not looked at when nobody wants that', () => {
    expect(sealed(text, { selfCheck: false, broken: true })).toBeGreaterThan(0)
  })

  test('is found when it goes into another pack', async () => {
    const blob = { id: sha256(text), type: 'data', plaintext: text } as const
    const whole = await sealBlob(blob, { keys, entropy, compression: 'auto' })
    const damaged = { ...whole, sealed: Uint8Array.from(whole.sealed) }
    damaged.sealed[40] = (damaged.sealed[40] ?? 0) ^ 4
    await expect(buildPack([damaged], { keys, entropy, selfCheck: true })).rejects.toMatchObject({
      code: 'self_check_failed',
    })
    expect((await buildPack([whole], { keys, entropy, selfCheck: true })).entries).toHaveLength(1)
    expect((await buildPack([damaged], { keys, entropy, selfCheck: false })).entries).toHaveLength(1)
  })
})
