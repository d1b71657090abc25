/** Reading typed values from rows of a STRICT table: anything else is damage, or a bug of a statement. */
import { assert, type CutId } from '@stillpoint/core/kernel'

export type Row = Readonly<Record<string, unknown>>

export function integerOf(row: Row, column: string): number {
  const value = row[column]
  assert(typeof value === 'number' && Number.isSafeInteger(value), `the column ${column} holds no integer`)
  return value
}

export function textOf(row: Row, column: string): string {
  const value = row[column]
  assert(typeof value === 'string', `the column ${column} holds no text`)
  return value
}

export function cutIdOf(row: Row, column: string): CutId {
  return textOf(row, column) as CutId
}
