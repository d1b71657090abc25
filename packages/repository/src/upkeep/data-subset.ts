/** Owns which packs are read when only a part of the data is to be checked. */
import { Failure, type Random } from '@stillpoint/core/kernel'
import type { StoredObject } from '../blob/blob-store.ts'
import { parseBytes } from './byte-quantity.ts'

export type DataSubset =
  /** The n-th of `of` parts, from 1: packs by the first byte of their ids, so that all parts are all packs. */
  | { readonly kind: 'part'; readonly part: number; readonly of: number }
  /** A random share. */
  | { readonly kind: 'percent'; readonly percent: number }
  /** A random choice of about this size. */
  | { readonly kind: 'bytes'; readonly bytes: number }

const partsMax = 256

/** Reads `2/10`, `5%`, `2.5%`, `500M`. @throws Failure `options_invalid` */
export function parseDataSubset(text: string): DataSubset {
  const [, part, of] = /^(\d{1,3})\/(\d{1,3})$/.exec(text) ?? []
  if (part !== undefined && of !== undefined) {
    const subset = { kind: 'part', part: Number(part), of: Number(of) } as const
    if (subset.part >= 1 && subset.part <= subset.of && subset.of <= partsMax) return subset
    throw invalid(text)
  }
  const [, percent] = /^(\d{1,3}(?:\.\d+)?)%$/.exec(text) ?? []
  if (percent !== undefined) {
    if (Number(percent) > 0 && Number(percent) <= 100) return { kind: 'percent', percent: Number(percent) }
    throw invalid(text)
  }
  const bytes = parseBytes(text)
  if (bytes === undefined || bytes === 0) throw invalid(text)
  return { kind: 'bytes', bytes }
}

function invalid(text: string): Failure {
  return new Failure({
    code: 'options_invalid',
    message: `${JSON.stringify(text.slice(0, 40))} is no part of the data`,
    hint: `Give n/t with 1 ≤ n ≤ t ≤ ${partsMax}, a share such as 5%, or a size such as 500M.`,
  })
}

/** Names of the packs to read. */
export function packsToRead(packs: readonly StoredObject[], subset: DataSubset, random: Random): readonly string[] {
  if (subset.kind === 'part') {
    const bucket = (name: string) => Number.parseInt(name.slice(0, 2), 16) % subset.of
    return packs.map(({ name }) => name).filter((name) => bucket(name) === subset.part - 1)
  }
  const shuffled = shuffle(packs, random)
  if (subset.kind === 'percent') {
    // One at least, as restic does: a check of some of the data has read some.
    return shuffled.slice(0, Math.max(1, Math.floor((packs.length * subset.percent) / 100))).map(({ name }) => name)
  }
  const chosen: string[] = []
  let bytes = 0
  for (const pack of shuffled) {
    if (chosen.length > 0 && bytes + pack.bytes > subset.bytes) continue
    chosen.push(pack.name)
    bytes += pack.bytes
  }
  return chosen
}

/** Fisher and Yates. */
function shuffle(packs: readonly StoredObject[], random: Random): readonly StoredObject[] {
  const shuffled = [...packs]
  for (let last = shuffled.length - 1; last > 0; last -= 1) {
    const other = random.uint32() % (last + 1)
    const [left, right] = [shuffled[last], shuffled[other]]
    if (left === undefined || right === undefined) continue
    shuffled[last] = right
    shuffled[other] = left
  }
  return shuffled
}
