import { expect, test } from 'vitest'
import { drawSpaceTime, type Lane } from './space-time.ts'

const lanes: readonly Lane[] = [
  {
    name: 'north',
    markedAtMs: 50,
    events: [
      { atMs: 20, kind: 'sent', message: 'm1' },
      { atMs: 80, kind: 'handled', message: 'm2' },
      { atMs: 40, kind: 'sent', message: 'm9' },
    ],
  },
  {
    name: 'south',
    markedAtMs: 60,
    events: [
      { atMs: 90, kind: 'handled', message: 'm1' },
      { atMs: 30, kind: 'sent', message: 'm2' },
    ],
  },
]
const crossings = [
  { message: 'm1', from: 'north', to: 'south', label: '12.00' },
  { message: 'm2', from: 'south', to: 'north', label: '3.50' },
]

test('a lane per process, the cut through both, and the messages that cross it', () => {
  expect(`\n${drawSpaceTime({ lanes, crossings, width: 50 }).join('\n')}\n`).toMatchInlineSnapshot(`
    "
    north  a──────────·─────┃────────────────B──────▶
                            ┗━━━━━┓
    south  ──────b────────────────┃────────────────A▶
           ┃ the cut   · sent or handled   a sent, A handled: in flight at the cut
           a north → south  12.00
           b south → north  3.50
    "
  `)
})

test('every crossing message is sent left of the cut and handled right of it', () => {
  const lines = drawSpaceTime({ lanes, crossings, width: 80 })
  for (const [line, name] of [
    [lines[0] ?? '', 'north'],
    [lines[2] ?? '', 'south'],
  ] as const) {
    const cells = line.slice(name.length)
    for (const [column, cell] of [...cells].entries()) {
      if (/[ab]/.test(cell)) expect(column).toBeLessThan(cells.indexOf('┃'))
      if (/[AB]/.test(cell)) expect(column).toBeGreaterThan(cells.indexOf('┃'))
    }
  }
})

test('no line is wider than asked for, and what is not shown is counted', () => {
  const many = Array.from({ length: 12 }, (_, index) => ({
    message: `x${index}`,
    from: 'north',
    to: 'south',
    label: '',
  }))
  const lines = drawSpaceTime({ lanes, crossings: many, width: 100 })
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(100)
  expect(lines.at(-1)).toContain('4 more in flight')
})

test('without lanes there is nothing to draw', () => {
  expect(drawSpaceTime({ lanes: [], crossings: [], width: 80 })).toEqual([])
})
