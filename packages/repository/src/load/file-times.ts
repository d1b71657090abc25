/**
 * Owns giving files their times: to the nanosecond where the system's calls are known (linux-calls.ts), else as Node can,
 * in numbers of 53 bits, to the microsecond.
 */
import { futimesSync, lutimesSync } from 'node:fs'
import { bytesFromName } from '../format/node-name.ts'
import type { Timestamp } from '../format/timestamp.ts'
import type { FileTimes } from '../native/linux-calls.ts'
import { linuxCalls } from '../native/native-calls.ts'
import type { NodePlace } from './place-node.ts'

export function setTimes(fd: number, { atime, mtime }: FileTimes): void {
  const calls = linuxCalls()
  if (calls === undefined) futimesSync(fd, secondsOf(atime), secondsOf(mtime))
  else calls.setTimes(fd, { atime, mtime })
}

/** Of an entry that is not opened; a link is not followed. */
export function setEntryTimes({ directory, name }: NodePlace, { atime, mtime }: FileTimes): void {
  const calls = linuxCalls()
  if (calls === undefined) lutimesSync(directory.child(name), secondsOf(atime), secondsOf(mtime))
  else calls.setTimesAt(directory.fd, bytesFromName(name), { atime, mtime })
}

/** In numbers, which cross threads: whole seconds, and nanoseconds below them. */
export type TimeNumbers = readonly [number, number]

const second = 1_000_000_000n

export function timeNumbers(time: Timestamp): TimeNumbers {
  const nanoseconds = ((time % second) + second) % second
  return [Number((time - nanoseconds) / second), Number(nanoseconds)]
}

export function timeFromNumbers([seconds, nanoseconds]: TimeNumbers): Timestamp {
  return BigInt(seconds) * second + BigInt(nanoseconds)
}

/**
 * The time as Node takes it: seconds, in a number of 53 bits, which the system is given truncated to nanoseconds.
 * Chosen so that microseconds are right; a string, since a negative number would be taken for "now".
 */
export function secondsOf(time: Timestamp): string {
  const nearest = Number(time) / 1e9
  const ulp = 2 ** (Math.floor(Math.log2(Math.max(1, Math.abs(nearest)))) - 52)
  const micros = (value: bigint) => (value - (((value % 1000n) + 1000n) % 1000n)) / 1000n
  const wanted = micros(time)
  const fits = (value: number) => micros(asNanoseconds(value)) === wanted
  const chosen = fits(nearest) ? nearest : [nearest + ulp, nearest - ulp].find(fits)
  return String(chosen ?? nearest)
}

/** What the system makes of a number of seconds. */
function asNanoseconds(value: number): bigint {
  const whole = Math.trunc(value)
  return BigInt(whole) * second + BigInt(Math.trunc((value - whole) * 1e9))
}
