import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createBitSet } from './bit-set.ts'

test('agrees with a set', () => {
  const number = fc.oneof(fc.nat(70), fc.constantFrom(31, 32, 63, 64, 4095, 4096, 100_000))
  const action = fc.record({ number, what: fc.constantFrom('add', 'add', 'remove', 'has') })
  fc.assert(
    fc.property(fc.array(action, { maxLength: 200 }), fc.constantFrom(0, 40, 5000), (actions, expected) => {
      const bits = createBitSet(expected)
      const model = new Set<number>()
      for (const { number: one, what } of actions) {
        if (what === 'add') {
          expect(bits.add(one)).toBe(!model.has(one))
          model.add(one)
        } else if (what === 'remove') {
          bits.remove(one)
          model.delete(one)
        } else expect(bits.has(one)).toBe(model.has(one))
        expect(bits.size).toBe(model.size)
      }
      const found: number[] = []
      bits.each((one) => found.push(one))
      expect(found).toEqual([...model].sort((one, other) => one - other))
      expect(bits.has(-1)).toBe(false)
    }),
  )
})
