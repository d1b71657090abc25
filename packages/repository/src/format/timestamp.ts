/**
 * Owns points in time as the format writes them: RFC 3339 with up to nine decimals, trailing zeros removed.
 * In memory: nanoseconds since 1970 (UTC) as a bigint. What we write is in UTC; what we read may have any offset.
 */
import { DamageError } from './damage.ts'

/** Nanoseconds since 1970-01-01T00:00:00Z. */
export type Timestamp = bigint

const second = 1_000_000_000n
/** The years 0000 to 9999, beyond which the notation has no words. */
const earliest = BigInt(Date.parse('0000-01-01T00:00:00Z')) * 1_000_000n
const latest = BigInt(Date.parse('9999-12-31T23:59:59Z')) * 1_000_000n

export function timestampFromMs(wallMs: number): Timestamp {
  return BigInt(Math.round(wallMs * 1000)) * 1000n
}

/** Milliseconds since 1970, rounded down. */
export function msFromTimestamp(time: Timestamp): number {
  return Number(time / 1_000_000n)
}

export function formatTimestamp(time: Timestamp): string {
  const clamped = time < earliest ? earliest : time > latest ? latest : time
  const remainder = Number(clamped % second)
  const nanoseconds = remainder < 0 ? remainder + 1e9 : remainder
  const seconds = Number((clamped - BigInt(nanoseconds)) / second)
  if (nanoseconds === 0) return `${dateText(seconds)}Z`
  const decimals = String(1e9 + nanoseconds).slice(1)
  return `${dateText(seconds)}.${nanoseconds % 10 === 0 ? decimals.replace(/0+$/, '') : decimals}Z`
}

const lastDate = { seconds: Number.NaN, text: '' }

/** Files that lie together were mostly written together: the last answer is often the next one. */
function dateText(seconds: number): string {
  if (lastDate.seconds !== seconds) {
    lastDate.seconds = seconds
    lastDate.text = new Date(seconds * 1000).toISOString().slice(0, 19)
  }
  return lastDate.text
}

const pattern = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/

/** @throws DamageError */
export function parseTimestamp(text: string): Timestamp {
  const match = pattern.exec(text)
  const ms = match === null ? Number.NaN : Date.parse(`${match[1]}${match[3]}`)
  if (match === null || Number.isNaN(ms)) throw new DamageError(`${JSON.stringify(text.slice(0, 40))} is not a time`)
  return BigInt(ms) * 1_000_000n + BigInt((match[2] ?? '').padEnd(9, '0'))
}

/** Minutes east of UTC of a time that `parseTimestamp` takes. */
export function parseUtcOffset(text: string): number {
  const [, sign, hours = '', minutes = ''] = /([+-])(\d\d):(\d\d)$/.exec(text) ?? []
  if (sign === undefined) return 0
  return (sign === '-' ? -1 : 1) * (Number(hours) * 60 + Number(minutes))
}
