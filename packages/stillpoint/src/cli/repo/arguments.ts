/** Checks on what stands in the command line of `stillpoint repo`. */
import { type KeepCount, parseBytes, type UnusedLimit } from '@stillpoint/repository'
import { InvalidArgumentError } from 'commander'

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
