/**
 * Durations as people write them: `200ms`, `8s`, `1h30m`, or a number of milliseconds.
 *
 * Owns: reading and writing them, and the schema for them in the configuration. Does not own: the bounds of each use.
 */
import { z } from 'zod'

const unitsMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}
const wholePattern = /^(?:\d{1,15}(?:\.\d{1,6})?\s*(?:ms|s|min|m|h|d)\s*)+$/
const partPattern = /(\d{1,15}(?:\.\d{1,6})?)\s*(ms|s|min|m|h|d)/g

/** Milliseconds, rounded to a whole number; undefined where the text is no duration. */
export function parseDurationMs(text: string): number | undefined {
  const trimmed = text.trim()
  if (!wholePattern.test(trimmed)) return undefined
  let sumMs = 0
  for (const [, amount = '', unit = ''] of trimmed.matchAll(partPattern)) sumMs += Number(amount) * (unitsMs[unit] ?? 0)
  const wholeMs = Math.round(sumMs)
  return Number.isSafeInteger(wholeMs) ? wholeMs : undefined
}

/** The shortest exact text: `2h`, `1h30m`, `1500ms`; what `parseDurationMs` reads back to the same number. */
export function durationText(durationMs: number): string {
  if (durationMs <= 0 || !Number.isSafeInteger(durationMs)) return `${durationMs}ms`
  let restMs = durationMs
  let text = ''
  for (const [unit, unitMs] of [
    ['d', 86_400_000],
    ['h', 3_600_000],
    ['m', 60_000],
    ['s', 1_000],
  ] as const) {
    const count = Math.floor(restMs / unitMs)
    restMs -= count * unitMs
    if (count > 0) text += `${count}${unit}`
  }
  return restMs === 0 ? text : text === '' || restMs === durationMs ? `${durationMs}ms` : `${text}${restMs}ms`
}

export interface DurationBounds {
  readonly minMs: number
  readonly maxMs: number
}

export const durationExpectation = 'a duration such as "200ms", "8s" or "2h", or a number of milliseconds'

/** A duration in the configuration: answers milliseconds. */
export function durationSchema({ minMs, maxMs }: DurationBounds) {
  return z.union([z.number(), z.string()], { error: `must be ${durationExpectation}` }).transform((value, context) => {
    const ms = typeof value === 'number' ? value : parseDurationMs(value)
    const message =
      ms === undefined || !Number.isSafeInteger(ms)
        ? `must be ${durationExpectation}`
        : ms < minMs
          ? `must be at least ${durationText(minMs)}`
          : ms > maxMs
            ? `must be at most ${durationText(maxMs)}`
            : undefined
    if (message === undefined && ms !== undefined) return ms
    context.addIssue({ code: 'custom', message: message ?? `must be ${durationExpectation}` })
    return z.NEVER
  })
}
