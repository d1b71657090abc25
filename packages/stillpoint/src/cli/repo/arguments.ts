/** Checks on what stands in the command line of `stillpoint repo`. */
import { Failure } from '@stillpoint/core/kernel'
import type { KeepCount, UnusedLimit } from '@stillpoint/repository'
import { InvalidArgumentError } from 'commander'

const powers: Readonly<Record<string, number>> = { '': 0, b: 0, k: 1, m: 2, g: 3, t: 4 }

/** Here and not from the repository's package, which only commands that open one should load. */
function parseBytes(text: string): number | undefined {
  const [, digits, suffix = ''] = /^(\d{1,15})([bkmgt]?)$/i.exec(text) ?? []
  const power = powers[suffix.toLowerCase()]
  if (digits === undefined || power === undefined) return undefined
  const bytes = Number(digits) * 1024 ** power
  return Number.isSafeInteger(bytes) ? bytes : undefined
}

export function count(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('Give a whole number.')
}

export function keepCount(text: string): KeepCount {
  return text === 'unlimited' || text === '-1' ? 'unlimited' : count(text)
}

export function size(text: string): number {
  const bytes = parseBytes(text)
  if (bytes !== undefined) return bytes
  throw new InvalidArgumentError('Give a size: bytes, or with k, m, g or t.')
}

export function unusedLimit(text: string): UnusedLimit {
  if (text === 'unlimited') return { kind: 'unlimited' }
  const [, percent] = /^(\d{1,3}(?:\.\d+)?)%$/.exec(text) ?? []
  if (percent !== undefined && Number(percent) <= 100) return { kind: 'percent', percent: Number(percent) }
  const bytes = parseBytes(text)
  if (bytes !== undefined) return { kind: 'bytes', bytes }
  throw new InvalidArgumentError('Give a share such as 5%, a size such as 500m, or "unlimited".')
}

/** KiB per second. */
export function rate(text: string): number {
  const kib = count(text)
  if (kib > 0) return kib
  throw new InvalidArgumentError('Give a number of KiB per second above 0.')
}

/** `2026-11-21 08:00:00` where we are; in milliseconds since 1970. @throws Failure `usage` */
export function localTime(text: string): number {
  const [, date, day, clock] = /^(\d{4}-\d\d-(\d\d)) (\d\d:\d\d:\d\d)$/.exec(text) ?? []
  const time = new Date(date === undefined ? 'none' : `${date}T${clock}`)
  // A thirtieth of February would be taken for one of March.
  if (time.getDate() === Number(day)) return time.getTime()
  throw new Failure({ code: 'usage', message: `${JSON.stringify(text)} is no time; write 2026-11-21 08:00:00` })
}

const someTime =
  /^(?:(\d{4})-(\d\d)-(\d\d)|(\d\d)\.(\d\d)\.(\d{4}))(?:[ T](\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?)(?: ?(Z|UTC|GMT|[+-]\d\d:?\d\d))?)?$/

/**
 * A day or a moment as restic's `find` takes it: `2026-11-21`, `21.11.2026 08:00`, with `+0100` or `UTC`; without, where we
 * are. In milliseconds since 1970.
 */
export function moment(text: string): number {
  const [, y1, m1, d1, d2, m2, y2, clock = '00:00', zone = ''] = someTime.exec(text) ?? []
  const [year = '', month = '', day = ''] = y1 === undefined ? [y2, m2, d2] : [y1, m1, d1]
  const offset = /^[UGZ]/.test(zone) ? 'Z' : zone.replace(/^(...)(\d\d)$/, '$1:$2')
  const ms = Date.parse(`${year}-${month}-${day}T${clock}${offset}`)
  // A thirtieth of February would be taken for one of March.
  const days = new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate()
  if (!Number.isNaN(ms) && Number(day) <= days) return ms
  throw new InvalidArgumentError('Give a time such as 2026-11-21, 2026-11-21 08:00:00 or 2026-11-21 08:00:00 +0100.')
}

/** `30s`, `5m`, `1h30m`, as Go writes durations; in milliseconds. */
export function duration(text: string): number {
  const units: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1 }
  if (text === '0') return 0
  if (!/^(?:\d{1,6}(?:\.\d{1,3})?(?:h|ms|m|s))+$/.test(text))
    throw new InvalidArgumentError('Give a time such as 30s or 5m.')
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s)/g)]
  return parts.reduce((sum, [, amount, unit = '']) => sum + Number(amount) * (units[unit] ?? 0), 0)
}
