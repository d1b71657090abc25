import fc from 'fast-check'
import { expect, test } from 'vitest'
import { sha256 } from '../format/ids.ts'
import { createNameSet } from './name-set.ts'

test('has each name once, as a set of texts has', () => {
  const id = fc.nat(40).map((number) => sha256(Buffer.from(`${number}`)))
  const odd = fc.constantFrom('config', '', 'x', 'config ', '0'.repeat(63), 'A'.repeat(64))
  fc.assert(
    fc.property(fc.array(fc.oneof(id, odd)), (names) => {
      const [set, plain] = [createNameSet(), new Set<string>()]
      for (const name of names) {
        expect(set.add(name)).toBe(!plain.has(name))
        plain.add(name)
      }
    }),
  )
})

test('of many names none is taken for another', () => {
  const set = createNameSet()
  const names = Array.from({ length: 50_000 }, (_, at) => sha256(Buffer.from(`name ${at}`)))
  expect(names.filter((name) => !set.add(name))).toEqual([])
  expect(names.filter((name) => set.add(name))).toEqual([])
})
