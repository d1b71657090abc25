import { assert } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { sha256 } from '../format/ids.ts'
import { entropy, seeded } from '../testing/world.ts'
import { packBytesDefault } from '../write-settings.ts'
import { createFillingPacks, type FillingPack } from './filling-packs.ts'
import { reserve } from './pack-region.ts'

const never = new AbortController().signal

/** Seals without sealing: takes the place that a blob of this sealed length would take. */
function sealInto(pack: FillingPack, sealedBytes: number) {
  const { offset } = reserve(pack.region, sealedBytes)
  return { id: sha256(Buffer.from('x')), type: pack.type, offset, length: sealedBytes, plainBytes: undefined }
}

describe('packs that are being filled', () => {
  test('get blobs at random, are given out when full and never overrun, however blobs compress', () => {
    const random = seeded(3)
    const packs = createFillingPacks(entropy, packBytesDefault)
    const full: number[] = []
    const waiting: { pack: FillingPack; plain: number }[] = []
    const order: FillingPack[] = []
    const settle = () => {
      const next = waiting.shift()
      if (next === undefined) return false
      const sealedBytes = Math.ceil(next.plain * ([1, 0.9, 0.2, 0.001][random.below(4)] ?? 1)) + 32
      const done = packs.sealed(next.pack, sealInto(next.pack, sealedBytes), next.plain)
      if (done !== undefined) {
        full.push(done.entries.reduce((sum, entry) => sum + entry.length, 0))
        done.release()
      }
      return true
    }
    for (let blob = 0; blob < 600; blob += 1) {
      const plain = 1 + random.below(blob % 5 === 0 ? 8 << 20 : 1 << 20)
      for (let pack = packs.tryAssign('data', plain); ; pack = packs.tryAssign('data', plain)) {
        if (pack !== undefined) {
          waiting.push({ pack, plain })
          order.push(pack)
          break
        }
        assert(settle(), 'memory comes back when what is under way is sealed')
      }
      while (waiting.length > 12) settle()
    }
    while (settle());
    const rest = packs.takeRest('data')
    expect(rest.length).toBeLessThanOrEqual(3)
    expect(full.length).toBeGreaterThan(20)
    for (const bytes of full) expect(bytes).toBeLessThan(25 << 20)
    // At random: of three, a neighbour is the same about every third time.
    const same = order.filter((pack, at) => pack === order[at - 1]).length
    expect(same / order.length).toBeGreaterThan(0.2)
    expect(same / order.length).toBeLessThan(0.5)
  })

  test('that many wait for are opened one after the other', async () => {
    const packs = createFillingPacks(entropy, packBytesDefault)
    const taken: FillingPack[] = []
    for (let pack = packs.tryAssign('tree', 8 << 20); pack !== undefined; pack = packs.tryAssign('tree', 8 << 20)) {
      taken.push(pack)
    }
    const opened = Promise.all([1, 2, 3].map(() => packs.openAnother('tree', never)))
    for (const pack of taken) packs.sealed(pack, sealInto(pack, (8 << 20) + 32), 8 << 20)?.release()
    await opened
    expect(packs.tryAssign('tree', 100)).toBeDefined()
    const abort = AbortSignal.abort(new Error('enough'))
    await expect(packs.openAnother('tree', abort)).rejects.toThrow('enough')
  })
})
