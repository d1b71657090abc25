/** The `range` header of one range in bytes (RFC 9110, section 14). */

export interface InclusiveRange {
  readonly first: number
  readonly last: number
}

/**
 * Undefined where the whole is to be answered: no header, several ranges, another unit, or what is none.
 * @param bytes length of what there is
 */
export function byteRange(header: string | undefined, bytes: number): InclusiveRange | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? '')
  if (match === null) return undefined
  const [, from = '', to = ''] = match
  if (from === '' && to === '') return undefined
  if (from === '') {
    const count = Math.min(Number(to), bytes)
    return count === 0 ? 'unsatisfiable' : { first: bytes - count, last: bytes - 1 }
  }
  const first = Number(from)
  const last = to === '' ? bytes - 1 : Math.min(Number(to), bytes - 1)
  if (to !== '' && Number(to) < first) return undefined
  return first >= bytes ? 'unsatisfiable' : { first, last }
}
