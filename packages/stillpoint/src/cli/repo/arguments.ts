/** Checks on what stands in the command line of `stillpoint repo`. */
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
