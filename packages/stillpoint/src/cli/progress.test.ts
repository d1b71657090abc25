import { expect, test } from 'vitest'
import type { OperationEvent } from '../coordinator/operations.ts'
import { bytesPerSecond, noProgress, progressLines, reduceProgress } from './progress.ts'

const mib = 1024 * 1024
const at = (events: readonly (readonly [number, OperationEvent])[]) =>
  events.reduce((state, [ms, event]) => reduceProgress(state, event, ms), noProgress)
const phase = (name: 'capture' | 'quiesce', attempt = 1): OperationEvent => ({ type: 'phase', phase: name, attempt })
const progress = (participant: string, bytes: number, bytesTotal: number | null, files = 1): OperationEvent => ({
  type: 'progress',
  participant,
  bytes,
  bytesTotal,
  files,
})

test('nothing is shown before the first phase', () => {
  expect(progressLines(noProgress, 0, 80)).toEqual([])
})

const capturing = at([
  [1_000, phase('capture')],
  [1_000, progress('orders-db', 0, 100 * mib)],
  [1_000, progress('uploads', 0, null)],
  [3_000, progress('orders-db', 40 * mib, 100 * mib)],
  [3_000, progress('uploads', 3 * mib, null, 120)],
])

test('bars, rates and remaining time', () => {
  expect(progressLines(capturing, 3_000, 100)).toEqual([
    'capture  0:02',
    '  orders-db  ━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌   40 %  40.0 MiB of 100.0 MiB  20.0 MiB/s  0:03 left',
    '  uploads    3.0 MiB  120 files  1.5 MiB/s',
  ])
})

test('a narrow terminal loses the bar, then the end of the line', () => {
  expect(progressLines(capturing, 3_000, 72)).toEqual([
    'capture  0:02',
    '  orders-db  ━━╌╌╌╌   40 %  40.0 MiB of 100.0 MiB  20.0 MiB/s  0:03 left',
    '  uploads    3.0 MiB  120 files  1.5 MiB/s',
  ])
  expect(progressLines(capturing, 3_000, 40)).toEqual([
    'capture  0:02',
    '  orders-db   40 %  40.0 MiB of 100.0 M…',
    '  uploads    3.0 MiB  120 files  1.5 Mi…',
  ])
})

test('an estimate that was too low neither passes 100 % nor promises an end', () => {
  const state = at([
    [0, phase('capture')],
    [0, progress('a', 0, 10)],
    [1_000, progress('a', 30, 10)],
  ])
  expect(progressLines(state, 1_000, 60)[1]).toBe('  a  ━━━━━━━━━━━━━━━━━━━━━━━━  100 %  30 B of 10 B  30 B/s')
})

test('another attempt starts from nothing and says so', () => {
  const state = reduceProgress(capturing, phase('quiesce', 2), 4_000)
  expect(progressLines(state, 4_000, 80)).toEqual(['quiesce, attempt 2  0:00'])
})

test('many participants are counted, not listed', () => {
  const events = Array.from({ length: 20 }, (_, index) => [0, progress(`p${index}`, 1, null)] as const)
  const lines = progressLines(at([[0, phase('capture')], ...events]), 0, 80)
  expect(lines).toHaveLength(14)
  expect(lines.at(-1)).toBe('  and 8 more participants')
})

test('the rate forgets what is older than its window', () => {
  const state = at([
    [0, phase('capture')],
    [0, progress('a', 0, null)],
    [1_000, progress('a', 1_000_000, null)],
    [7_000, progress('a', 1_000_000, null)],
    [8_000, progress('a', 1_001_000, null)],
  ])
  expect(bytesPerSecond(state.participants.get('a')?.samples ?? [], 8_000)).toBe(1_000)
})
