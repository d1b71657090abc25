import { newerResticName, restics } from '@stillpoint/testbed'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { timestampFromMs } from '../format/timestamp.ts'
import { listSnapshots } from '../load/snapshots.ts'
import { newRepository, newVault, resticOf, scratch } from '../testing/testbed.ts'
import { applyRetention, type RetentionPolicy, retentionPeriods } from './retention.ts'
import { isZeroSpan, parseSpan, type RetentionSpan, spanBefore, spanText } from './retention-span.ts'

const at = (iso: string, tags: readonly string[] = []) => ({ time: timestampFromMs(Date.parse(iso)), tags })
const now = timestampFromMs(Date.parse('2026-01-01T00:00:00Z'))
const kept = (snapshots: readonly ReturnType<typeof at>[], policy: RetentionPolicy) =>
  applyRetention(snapshots, policy, now).keep.map(({ snapshot, reasons }) => [
    new Date(Number(snapshot.time / 1_000_000n)).toISOString().slice(0, 16),
    ...reasons,
  ])

describe('spans', () => {
  test.each(['2y', '5m', '1y5m7d2h', '7d', '100h'])('%s is read and written', (text) => {
    expect(spanText(parseSpan(text))).toBe(text)
  })
  test.each(['', '5', 'y', '1x', '-1d', '1.5d', '1d ', '9999999y', '1d5'])('%j is none', (text) => {
    expect(() => parseSpan(text)).toThrow('is not a span of time')
  })
  test('months end where the calendar carries them', () => {
    const before = (iso: string, span: string) =>
      new Date(Number(spanBefore(timestampFromMs(Date.parse(iso)), 0, parseSpan(span)) / 1_000_000n)).toISOString()
    expect(before('2024-03-31T10:00:00Z', '1m')).toBe('2024-03-02T10:00:00.000Z')
    expect(before('2024-02-29T10:00:00Z', '1y')).toBe('2023-03-01T10:00:00.000Z')
    expect(before('2024-01-01T01:00:00Z', '2h')).toBe('2023-12-31T23:00:00.000Z')
    expect(before('0050-01-01T01:00:00Z', '1d')).toBe('0049-12-31T01:00:00.000Z')
  })
})

describe('a policy', () => {
  test('that is empty keeps everything', () => {
    const decision = applyRetention([at('2025-01-01T00:00:00Z')], { last: 0, tags: [] }, now)
    expect(decision.keep.map(({ reasons }) => reasons)).toEqual([['policy is empty']])
  })

  test('keeps the newest of each period', () => {
    const snapshots = [
      at('2025-03-02T10:00:00Z'),
      at('2025-03-02T09:59:00Z'),
      at('2025-03-01T10:00:00Z'),
      at('2025-01-01T10:00:00Z'),
      at('2024-12-31T10:00:00Z'),
    ]
    expect(kept(snapshots, { counts: { daily: 2 } })).toEqual([
      ['2025-03-02T10:00', 'daily snapshot'],
      ['2025-03-01T10:00', 'daily snapshot'],
    ])
    expect(kept(snapshots, { counts: { weekly: 'unlimited' } })).toEqual([
      ['2025-03-02T10:00', 'weekly snapshot'],
      ['2025-01-01T10:00', 'weekly snapshot'],
      ['2024-12-31T10:00', 'oldest weekly snapshot'],
    ])
    expect(kept(snapshots, { counts: { weekly: 5 }, keepOldest: false })).toEqual([
      ['2025-03-02T10:00', 'weekly snapshot'],
      ['2025-01-01T10:00', 'weekly snapshot'],
    ])
  })

  test('of tags needs all of one list', () => {
    const snapshots = [at('2025-03-02T10:00:00Z', ['a']), at('2025-03-01T10:00:00Z', ['b', 'a'])]
    expect(kept(snapshots, { tags: [['a', 'b'], ['c']] })).toEqual([['2025-03-01T10:00', 'has tags [a, b]']])
  })

  test('of spans counts back from the latest that is not in the future', () => {
    const snapshots = [at('2030-01-01T00:00:00Z'), at('2025-03-02T10:00:00Z'), at('2025-03-01T10:00:00Z')]
    expect(kept(snapshots, { within: parseSpan('1d') })).toEqual([
      ['2030-01-01T00:00', 'within 1d'],
      ['2025-03-02T10:00', 'within 1d'],
    ])
    expect(kept(snapshots, { withinPeriods: { yearly: parseSpan('2d') } }).map(([time]) => time)).toEqual([
      '2030-01-01T00:00',
      '2025-03-02T10:00',
      '2025-03-01T10:00',
    ])
  })

  test('goes by the days of the place where a snapshot was taken', () => {
    const utcOffsetMinutes = 120
    const late = { ...at('2025-01-01T21:30:00Z'), utcOffsetMinutes }
    const later = { ...at('2025-01-01T22:30:00Z'), utcOffsetMinutes }
    const { keep } = applyRetention([late, later], { counts: { daily: 2 }, keepOldest: false }, now)
    expect(keep).toHaveLength(2)
  })
})

/** The same rules, dumb: for each period, the newest snapshot of each label, by text. */
function model(times: readonly string[], policy: RetentionPolicy): ReadonlySet<number> {
  const label = (period: string, iso: string) => {
    if (period === 'hourly') return iso.slice(0, 13)
    if (period === 'daily') return iso.slice(0, 10)
    if (period === 'monthly') return iso.slice(0, 7)
    if (period === 'yearly') return iso.slice(0, 4)
    const monday = new Date(iso)
    while (monday.getUTCDay() !== 1) monday.setUTCDate(monday.getUTCDate() - 1)
    return monday.toISOString().slice(0, 10)
  }
  const order = times
    .map((_, index) => index)
    .sort((left, right) => ((times[left] ?? '') < (times[right] ?? '') ? 1 : -1))
  const keep = new Set<number>()
  const representatives = (period: string, among: readonly number[]) => {
    const byLabel = new Map<string, number>()
    for (const index of [...among].reverse()) byLabel.set(label(period, times[index] ?? ''), index)
    return among.filter((index) => byLabel.get(label(period, times[index] ?? '')) === index)
  }
  const limit = (count: number | 'unlimited' | undefined) => (count === 'unlimited' ? 1e9 : (count ?? 0))
  for (const index of order.slice(0, limit(policy.last))) keep.add(index)
  for (const period of retentionPeriods) {
    for (const index of representatives(period, order).slice(0, limit(policy.counts?.[period]))) keep.add(index)
    const span = policy.withinPeriods?.[period]
    if (span === undefined || isZeroSpan(span)) continue
    for (const index of representatives(period, newer(times, order, span))) keep.add(index)
  }
  if (policy.within !== undefined && !isZeroSpan(policy.within)) {
    for (const index of newer(times, order, policy.within)) keep.add(index)
  }
  return keep
}

function newer(times: readonly string[], order: readonly number[], span: RetentionSpan): readonly number[] {
  const from = new Date(times[order[0] ?? 0] ?? '')
  from.setUTCFullYear(
    from.getUTCFullYear() - span.years,
    from.getUTCMonth() - span.months,
    from.getUTCDate() - span.days,
  )
  from.setUTCHours(from.getUTCHours() - span.hours)
  return order.filter((index) => (times[index] ?? '') > from.toISOString())
}

const spans = fc.record({ years: fc.nat(2), months: fc.nat(4), days: fc.nat(9), hours: fc.nat(30) })
const counts = fc.oneof(fc.nat(4), fc.constant('unlimited' as const))
const perPeriod = <T>(value: fc.Arbitrary<T>) =>
  fc.record({ hourly: value, daily: value, weekly: value, monthly: value, yearly: value }, { requiredKeys: [] })
const policies = fc.record(
  { last: counts, counts: perPeriod(counts), within: spans, withinPeriods: perPeriod(spans) },
  { requiredKeys: [] },
)
const instants = fc
  .uniqueArray(fc.oneof(fc.integer({ min: 0, max: 3000 }), fc.integer({ min: 0, max: 120_000 })), { maxLength: 40 })
  .map((minutes) => minutes.map((minute) => new Date(Date.UTC(2022, 10, 3) + minute * 13 * 60_000).toISOString()))

test('keeps what the dumb model keeps', () => {
  fc.assert(
    fc.property(instants, policies, (times, policy) => {
      const snapshots = times.map((iso, index) => ({ ...at(iso), index }))
      const decision = applyRetention(snapshots, { ...policy, keepOldest: false }, now)
      const indexes = decision.keep.map(({ snapshot }) => snapshot.index).sort((left, right) => left - right)
      expect(decision.keep.every(({ reasons }) => reasons.length > 0)).toBe(true)
      expect(decision.keep.length + decision.remove.length).toBe(times.length)
      if (decision.keep[0]?.reasons[0] === 'policy is empty') return
      expect(indexes).toEqual([...model(times, policy)].sort((left, right) => left - right))
      // With the oldest kept too, one more at most.
      const more = applyRetention(snapshots, policy, now).keep.map(({ snapshot }) => snapshot.index)
      const added = more.filter((index) => !indexes.includes(index))
      const oldest = [...times].sort()[0]
      expect(added.every((index) => times[index] === oldest)).toBe(true)
      expect(indexes.every((index) => more.includes(index))).toBe(true)
    }),
    { numRuns: 400 },
  )
})

for (const program of restics)
  describe.skipIf(!program.isHere)(`the real ${program.name} [needs ${program.name}]`, () => {
    const restic = resticOf(program)
    // Restic 0.14 does not keep the oldest while a count is not used up.
    const keepOldest = program.name === newerResticName
    test('decides the same, for the same reasons', async () => {
      const home = await scratch()
      const path = `${home}/repository`
      const repository = await newRepository(path)
      const save = await repository.startSave()
      const tree = await save.saveTree([])
      await save.finish()
      const base = Date.UTC(2023, 11, 20)
      for (let turn = 0; turn < 60; turn += 1) {
        const ms = base + ((turn * turn * 3_700_000) % (500 * 86_400_000)) + turn * 1_234_567
        const tags = [turn % 3 === 0 ? 'three' : 'other', turn % 5 === 0 ? 'five' : 'rest']
        await repository.seal({ time: BigInt(ms) * 1_000_000n, paths: ['/a'], hostname: 'h', username: '', tree, tags })
      }
      const snapshots = await listSnapshots(await newVault(path))
      const wall = timestampFromMs(Date.now())
      const cases: readonly (readonly [readonly string[], RetentionPolicy])[] = [
        [['--keep-last', '3', '--keep-daily', '5'], { last: 3, counts: { daily: 5 } }],
        [['--keep-hourly', '7', '--keep-weekly', '100'], { counts: { hourly: 7, weekly: 100 } }],
        [['--keep-monthly', '4', '--keep-yearly', '9'], { counts: { monthly: 4, yearly: 9 } }],
        [
          ['--keep-within', '1m3d5h', '--keep-tag', 'three,five'],
          { within: parseSpan('1m3d5h'), tags: [['three', 'five']] },
        ],
        [
          ['--keep-within-hourly', '20d', '--keep-within-weekly', '4m', '--keep-within-yearly', '3y'],
          { withinPeriods: { hourly: parseSpan('20d'), weekly: parseSpan('4m'), yearly: parseSpan('3y') } },
        ],
        [
          ['--keep-within-daily', '30d', '--keep-within-monthly', '1y', '--keep-tag', 'five', '--keep-tag', 'none'],
          { withinPeriods: { daily: parseSpan('30d'), monthly: parseSpan('1y') }, tags: [['five'], ['none']] },
        ],
      ]
      for (const [args, policy] of cases) {
        const [group] = JSON.parse(await restic(path, 'forget', '--dry-run', '--json', '--no-lock', ...args)) as {
          keep: { id: string }[]
          remove: { id: string }[]
          reasons: { matches: string[] }[]
        }[]
        if (group === undefined) throw new Error('no group')
        const ours = applyRetention(snapshots, { ...policy, keepOldest }, wall)
        expect(ours.keep.map(({ snapshot }) => snapshot.id)).toEqual(group.keep.map(({ id }) => id))
        expect(ours.remove.map(({ id }) => id)).toEqual(group.remove.map(({ id }) => id))
        expect(ours.keep.map(({ reasons }) => reasons)).toEqual(group.reasons.map(({ matches }) => matches))
      }
    })
  })
