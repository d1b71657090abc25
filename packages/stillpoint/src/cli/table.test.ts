import fc from 'fast-check'
import { expect, test } from 'vitest'
import { cutTo, tableLines, wrapped } from './table.ts'

const columns = [
  { title: 'NAME', shrinkTo: 6 },
  { title: 'SIZE', align: 'right' },
  { title: 'POSITION', shrinkTo: 8 },
] as const
const rows = [
  ['orders-database', '1.5 GiB', 'lsn 0/16B3748'],
  ['redis', '812 B', 'offset 42'],
]

test('columns are as wide as they need', () => {
  expect(tableLines(columns, rows)).toEqual([
    'NAME                SIZE  POSITION',
    'orders-database  1.5 GiB  lsn 0/16B3748',
    'redis              812 B  offset 42',
  ])
})

test('on a narrow terminal the widest column gives way first, down to its least width', () => {
  expect(tableLines(columns, rows, { width: 32, indent: 2 })).toEqual([
    '  NAME          SIZE  POSITION',
    '  orders-d…  1.5 GiB  lsn 0/16B…',
    '  redis        812 B  offset 42',
  ])
})

test('what cannot give way is not cut', () => {
  expect(tableLines(columns, rows, { width: 5 })).toEqual([
    'NAME       SIZE  POSITION',
    'order…  1.5 GiB  lsn 0/1…',
    'redis     812 B  offset …',
  ])
})

test('control characters and newlines do not break the columns', () => {
  expect(tableLines([{ title: 'A' }, { title: 'B' }], [['x\ny\u001b[1m', 'z']])).toEqual(['A        B', 'x y�[1m  z'])
})

test('no line is wider than the terminal where every column may shrink', () => {
  const cell = fc.string({ maxLength: 30, unit: 'grapheme-ascii' })
  const sizes = fc.integer({ min: 12, max: 60 })
  fc.assert(
    fc.property(fc.array(fc.tuple(cell, cell)), sizes, (cells, width) => {
      const shrinking = [
        { title: 'A', shrinkTo: 3 },
        { title: 'B', shrinkTo: 3, align: 'right' },
      ] as const
      for (const line of tableLines(shrinking, cells, { width })) expect([...line].length).toBeLessThanOrEqual(width)
    }),
  )
})

test('cutting counts characters', () => {
  expect(cutTo('a→b→c', 4)).toBe('a→b…')
  expect(cutTo('abc', 3)).toBe('abc')
})

test('words are wrapped, long ones have a line of their own', () => {
  expect(wrapped('one two three extraordinarily four', 9)).toEqual(['one two', 'three', 'extraordinarily', 'four'])
  expect(wrapped('one two', undefined)).toEqual(['one two'])
  expect(wrapped('a\nb', 10)).toEqual(['a', 'b'])
})
