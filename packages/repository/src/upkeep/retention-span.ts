/** Owns spans of the calendar, as retention policies name them: `1y5m7d2h`. Months and years have different lengths. */
import { Failure } from '@stillpoint/core/kernel'
import type { Timestamp } from '../format/timestamp.ts'

export interface RetentionSpan {
  readonly years: number
  readonly months: number
  readonly days: number
  readonly hours: number
}

const unitMax = 100_000

/**
 * Reads `2y`, `1y5m7d2h`: numbers, each with the unit y, m (months), d or h.
 * @throws Failure `options_invalid`
 */
export function parseSpan(text: string): RetentionSpan {
  const span = { y: 0, m: 0, d: 0, h: 0 }
  if (!/^(?:\d{1,6}[ymdh])+$/.test(text)) throw invalid(text)
  for (const [, count = '', unit = ''] of text.matchAll(/(\d+)([ymdh])/g)) {
    if (unit !== 'y' && unit !== 'm' && unit !== 'd' && unit !== 'h') throw invalid(text)
    span[unit] = Number(count)
    if (span[unit] > unitMax) throw invalid(text)
  }
  return { years: span.y, months: span.m, days: span.d, hours: span.h }
}

function invalid(text: string): Failure {
  return new Failure({
    code: 'options_invalid',
    message: `${JSON.stringify(text.slice(0, 40))} is not a span of time`,
    hint: 'Give years, months, days and hours such as 2y, 6m, 7d12h or 1y5m7d2h.',
  })
}

export function spanText({ years, months, days, hours }: RetentionSpan): string {
  const parts = [years === 0 ? '' : `${years}y`, months === 0 ? '' : `${months}m`]
  return [...parts, days === 0 ? '' : `${days}d`, hours === 0 ? '' : `${hours}h`].join('')
}

export function isZeroSpan({ years, months, days, hours }: RetentionSpan): boolean {
  return years === 0 && months === 0 && days === 0 && hours === 0
}

/** The moment that lies the span before `time`, by the calendar of its place: a day that does not exist is carried on. */
export function spanBefore(time: Timestamp, utcOffsetMinutes: number, span: RetentionSpan): Timestamp {
  const second = 1_000_000_000n
  const fraction = ((time % second) + second) % second
  const date = new Date(Number((time - fraction) / 1_000_000n) + utcOffsetMinutes * 60_000)
  const calendar = new Date(0)
  calendar.setUTCFullYear(
    date.getUTCFullYear() - span.years,
    date.getUTCMonth() - span.months,
    date.getUTCDate() - span.days,
  )
  calendar.setUTCHours(date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds())
  // Earlier than any date that exists: everything is after it.
  if (Number.isNaN(calendar.getTime())) return -(1n << 80n)
  const ms = calendar.getTime() - (span.hours * 60 + utcOffsetMinutes) * 60_000
  return BigInt(ms) * 1_000_000n + fraction
}
