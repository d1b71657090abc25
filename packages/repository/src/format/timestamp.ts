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

/** The last day that was read, such as `2026-11-21T`, and when it began in UTC. */
const lastDay = { text: '', beginMs: 0 }

/** @throws DamageError */
export function parseTimestamp(text: string): Timestamp {
  // Files that lie together were mostly written on one day, and a date takes five times as long as what follows it.
  if (lastDay.text !== '' && text.startsWith(lastDay.text)) {
    const seconds = secondsOfDay(text)
    const decimals = decimalsIn(text)
    if (seconds >= 0 && decimals >= 0) return BigInt(lastDay.beginMs + seconds * 1000) * 1_000_000n + BigInt(decimals)
  }
  const [, date, decimals = '', zone] = pattern.exec(text) ?? []
  const ms = date === undefined ? Number.NaN : Date.parse(`${date}${zone}`)
  if (date === undefined || Number.isNaN(ms))
    throw new DamageError(`${JSON.stringify(text.slice(0, 40))} is not a time`)
  const seconds = zone === 'Z' ? secondsOfDay(text) : -1
  if (seconds >= 0) {
    lastDay.text = text.slice(0, dayEnd)
    lastDay.beginMs = ms - seconds * 1000
  }
  return BigInt(ms) * 1_000_000n + BigInt(decimals.padEnd(9, '0'))
}

const dayEnd = '0000-00-00T'.length
const secondsEnd = '0000-00-00T00:00:00'.length
const decimalsMax = 9
const [zeroCode, colonCode, dotCode, zuluCode] = [0x30, 0x3a, 0x2e, 0x5a]

/** Of `HH:MM:SS` behind the day; -1 where it is not that, or no time of any day. */
function secondsOfDay(text: string): number {
  const [hours, minutes, seconds] = [twoDigits(text, dayEnd), twoDigits(text, dayEnd + 3), twoDigits(text, dayEnd + 6)]
  const isWritten = text.charCodeAt(dayEnd + 2) === colonCode && text.charCodeAt(dayEnd + 5) === colonCode
  if (!isWritten || hours < 0 || hours > 23 || minutes < 0 || minutes > 59 || seconds < 0 || seconds > 59) return -1
  return (hours * 60 + minutes) * 60 + seconds
}

function twoDigits(text: string, at: number): number {
  const [tens, ones] = [text.charCodeAt(at) - zeroCode, text.charCodeAt(at + 1) - zeroCode]
  return tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? tens * 10 + ones : -1
}

/** Nanoseconds of `.fffZ` behind the seconds; -1 where it is not that. */
function decimalsIn(text: string): number {
  const end = text.length - 1
  if (text.charCodeAt(end) !== zuluCode || end < secondsEnd || end > secondsEnd + 1 + decimalsMax) return -1
  if (end === secondsEnd) return 0
  if (text.charCodeAt(secondsEnd) !== dotCode || end === secondsEnd + 1) return -1
  let value = 0
  for (let at = secondsEnd + 1; at <= secondsEnd + decimalsMax; at += 1) {
    const digit = at < end ? text.charCodeAt(at) - zeroCode : 0
    if (digit < 0 || digit > 9) return -1
    value = value * 10 + digit
  }
  return value
}

/** Minutes east of UTC of a time that `parseTimestamp` takes. */
export function parseUtcOffset(text: string): number {
  const [, sign, hours = '', minutes = ''] = /([+-])(\d\d):(\d\d)$/.exec(text) ?? []
  if (sign === undefined) return 0
  return (sign === '-' ? -1 : 1) * (Number(hours) * 60 + Number(minutes))
}
