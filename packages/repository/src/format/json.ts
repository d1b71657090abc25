/**
 * Owns JSON as the format needs it: strings escaped exactly as restic's encoder escapes them (so that equal trees have
 * equal ids whoever wrote them), and readers that validate every field of a document from outside.
 */
import { DamageError, sound } from './damage.ts'

export type JsonObject = Readonly<Record<string, unknown>>

/** A JSON string with `<`, `>`, `&`, U+2028 and U+2029 escaped, and control characters as \u00XX except \n \r \t. */
export function jsonString(text: string): string {
  return JSON.stringify(text.toWellFormed())
    .replace(/\\[bf]|\\./g, (pair) => (pair === '\\b' ? '\\u0008' : pair === '\\f' ? '\\u000c' : pair))
    .replace(/[<>&\u2028\u2029]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/**
 * Numbers of 16 digits and more become `bigint`, for inodes and devices use all 64 bits.
 * @throws DamageError
 */
export function parseJson(text: string): unknown {
  try {
    // Only of numbers: ids have as many digits in a row, too, and the slow way is five times as slow.
    return /[:,[]\s*-?\d{16}/.test(text) ? JSON.parse(text, reviveExact) : JSON.parse(text)
  } catch (error) {
    throw new DamageError('not a JSON document', { cause: error })
  }
}

function reviveExact(_key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value !== 'number' || Number.isSafeInteger(value)) return value
  const source = context?.source
  return source !== undefined && /^-?\d+$/.test(source) ? BigInt(source) : value
}

/**
 * A value of `parseJson` as a document again, whole numbers of any size as they were.
 * @throws RangeError where it is nested too deep
 */
export function jsonText(value: unknown): string {
  if (typeof value === 'bigint') return value.toString()
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(jsonText).join(',')}]`
  return `{${Object.entries(value)
    .map(([name, field]) => `${JSON.stringify(name)}:${jsonText(field)}`)
    .join(',')}}`
}

/** @throws DamageError */
export function jsonObject(value: unknown, what: string): JsonObject {
  sound(typeof value === 'object' && value !== null && !Array.isArray(value), `${what} is not an object`)
  return value as JsonObject
}

/** @throws DamageError */
export function jsonArray(value: unknown, what: string): readonly unknown[] {
  sound(Array.isArray(value), `${what} is not an array`)
  return value
}

/** @throws DamageError */
export function stringField(object: JsonObject, name: string): string {
  const value = object[name]
  sound(typeof value === 'string', `field ${name} is not a string`)
  return value
}

export function optionalStringField(object: JsonObject, name: string): string | undefined {
  return object[name] === undefined || object[name] === null ? undefined : stringField(object, name)
}

/** An array of strings; absent and null are empty. @throws DamageError */
export function stringsField(object: JsonObject, name: string): readonly string[] {
  const value = object[name]
  if (value === undefined || value === null) return []
  return jsonArray(value, `field ${name}`).map((item) => {
    sound(typeof item === 'string', `field ${name} holds something that is not a string`)
    return item
  })
}

/** An integer from 0 to `max`. @throws DamageError */
export function countField(object: JsonObject, name: string, max = Number.MAX_SAFE_INTEGER): number {
  const value = object[name]
  sound(
    typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= max,
    `field ${name} is not a whole number from 0 to ${max}`,
  )
  return value
}

/** As `countField`, with a default for an absent field. @throws DamageError */
export function optionalCountField(object: JsonObject, name: string, absent: number, max?: number): number {
  return object[name] === undefined ? absent : countField(object, name, max)
}

/** An unsigned 64-bit integer; absent is 0. @throws DamageError */
export function uint64Field(object: JsonObject, name: string): bigint {
  const value = object[name]
  if (value === undefined) return 0n
  sound(typeof value === 'bigint' || Number.isSafeInteger(value), `field ${name} is not a whole number`)
  const exact = BigInt(value as bigint | number)
  sound(exact >= 0n && exact < 1n << 64n, `field ${name} is out of range`)
  return exact
}

/** Bytes in base64. @throws DamageError */
export function bytesField(object: JsonObject, name: string, bytes?: number): Buffer {
  const text = stringField(object, name)
  sound(/^[A-Za-z0-9+/]*={0,2}$/.test(text), `field ${name} is not base64`)
  const value = Buffer.from(text, 'base64')
  sound(bytes === undefined || value.length === bytes, `field ${name} is not ${bytes} bytes long`)
  return value
}
