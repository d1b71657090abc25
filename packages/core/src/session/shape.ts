/**
 * Small readers that turn unknown JSON into typed values, or say where it is wrong.
 *
 * Owns: the building blocks for validate.ts. Invariants: what a reader answers holds only the fields that it knows;
 * every list and text has a bound; nothing is coerced.
 */
import { Failure } from '../kernel/failure.ts'

/** Reads a value found at `path`. @throws Failure `frame_invalid` */
export type Reader<T> = (value: unknown, path: string) => T

export function invalid(path: string, expected: string, value: unknown): Failure {
  const found = value === null ? 'null' : Array.isArray(value) ? 'a list' : `a ${typeof value}`
  const message = `${path === '' ? 'the frame' : path} must be ${expected}, not ${value === undefined ? 'absent' : found}`
  const hint = 'Both ends must run the same major version of Stillpoint.'
  return new Failure({ code: 'frame_invalid', message, hint })
}

export const textLengthMax = 4096
export const listLengthMax = 1_000_000

export const text: Reader<string> = (value, path) => {
  if (typeof value !== 'string') throw invalid(path, 'a text', value)
  if (value.length > textLengthMax) throw invalid(path, `a text of at most ${textLengthMax} characters`, value)
  return value
}

/** A text of any length: a payload. Its bound is that of the frame or line around it. */
export const longText: Reader<string> = (value, path) => {
  if (typeof value !== 'string') throw invalid(path, 'a text', value)
  return value
}

/** An id: not empty, no control characters. */
export const id: Reader<string> = (value, path) => {
  const found = text(value, path)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (found === '' || /[\u0000-\u001f\u007f]/.test(found))
    throw invalid(path, 'an id without control characters', value)
  return found
}

export const flag: Reader<boolean> = (value, path) => {
  if (typeof value !== 'boolean') throw invalid(path, 'true or false', value)
  return value
}

/** A whole number from 0 up: counts, epochs, generations, bytes. */
export const count: Reader<number> = (value, path) => {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw invalid(path, 'a whole number', value)
  return value
}

/** A duration or moment in milliseconds; fractions are allowed. */
export const millis: Reader<number> = (value, path) => {
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) {
    throw invalid(path, 'a number of milliseconds', value)
  }
  return value
}

export function oneOf<const T extends string | number>(...allowed: readonly T[]): Reader<T> {
  return (value, path) => {
    const found = allowed.find((one) => one === value)
    if (found === undefined)
      throw invalid(path, `one of ${allowed.map((one) => JSON.stringify(one)).join(', ')}`, value)
    return found
  }
}

export function nullable<T>(reader: Reader<T>): Reader<T | null> {
  return (value, path) => (value === null ? null : reader(value, path))
}

export function listOf<T>(reader: Reader<T>): Reader<readonly T[]> {
  return (value, path) => {
    if (!Array.isArray(value)) throw invalid(path, 'a list', value)
    if (value.length > listLengthMax) throw invalid(path, `a list of at most ${listLengthMax}`, value)
    return value.map((item, index) => reader(item, `${path}[${index}]`))
  }
}

/** An object whose keys are data. Keys that would reach a prototype are refused. */
export function recordOf<T>(reader: Reader<T>): Reader<Readonly<Record<string, T>>> {
  return (value, path) => {
    const found: Record<string, T> = {}
    for (const [key, item] of Object.entries(fieldsOf(value, path))) {
      if (key === '__proto__') throw invalid(path, 'an object without the key "__proto__"', value)
      found[key] = reader(item, `${path}.${key}`)
    }
    return found
  }
}

export function fieldsOf(value: unknown, path: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(path, 'an object', value)
  return { ...value }
}

type Readers<T> = { readonly [K in keyof T]-?: undefined extends T[K] ? OptionalReader<T[K]> : Reader<T[K]> }
interface OptionalReader<T> {
  readonly optional: Reader<Exclude<T, undefined>>
}

export function optional<T>(reader: Reader<T>): { readonly optional: Reader<T> } {
  return { optional: reader }
}

/** An object of the given fields; others are left out. */
export function objectOf<T extends object>(readers: Readers<T>): Reader<T> {
  const entries = Object.entries<Reader<unknown> | OptionalReader<unknown>>(readers)
  return (value, path) => {
    const fields = fieldsOf(value, path)
    const found: Record<string, unknown> = {}
    for (const [key, reader] of entries) {
      const at = path === '' ? key : `${path}.${key}`
      const field = Object.hasOwn(fields, key) ? fields[key] : undefined
      if (typeof reader === 'function') found[key] = reader(field, at)
      else if (field !== undefined) found[key] = reader.optional(field, at)
    }
    // Each field has been read by its own reader, which `Readers<T>` ties to the field's type.
    return found as T
  }
}

/** A union that is told apart by the text in `key`. */
export function taggedBy<T>(key: string, readers: Readonly<Record<string, Reader<T>>>): Reader<T> {
  return (value, path) => {
    const tag = fieldsOf(value, path)[key]
    const reader = typeof tag === 'string' && Object.hasOwn(readers, tag) ? readers[tag] : undefined
    if (reader === undefined) {
      const at = path === '' ? key : `${path}.${key}`
      throw invalid(at, `one of ${Object.keys(readers).join(', ')}`, tag)
    }
    return reader(value, path)
  }
}
