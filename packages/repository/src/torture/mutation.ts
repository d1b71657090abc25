/**
 * Owns mutations of a repository's objects: what a disk, a network or a careless hand can do to stored bytes.
 * Knows nothing of how they are found.
 *
 * Invariant: a seed and a number are one mutation, and every mutation changes at least one byte or name.
 */
import type { MemoryObjects } from '../blob/memory-store.ts'
import { seeded } from '../testing/world.ts'

/** A pack's parts are damaged apart: a blob, the sealed header, the header's length at the end. */
export const targets = ['config', 'key', 'lock', 'snapshot', 'index', 'blob', 'header', 'headerLength'] as const
export type Target = (typeof targets)[number]

export const ways = [
  'truncate',
  'flip',
  'swapSameKind',
  'swapOtherKind',
  'remove',
  'duplicate',
  'enlarge',
  'oversize',
  'splice',
  'zero',
  'wrongType',
  'strayType',
] as const
export type Way = (typeof ways)[number]

export interface Mutation {
  readonly number: number
  readonly target: Target
  readonly way: Way
  /** `kind/name` of the object that was chosen. */
  readonly key: string
}

type Chance = ReturnType<typeof seeded>

const kindOf = (key: string) => key.slice(0, key.indexOf('/'))
const tailBytes = 4

/** Part of a pack in which bytes are changed; of other objects the whole. */
function partOf(bytes: Buffer, target: Target): { readonly from: number; readonly to: number } {
  const end = bytes.length - tailBytes
  if (target === 'headerLength') return { from: end, to: bytes.length }
  if (target !== 'blob' && target !== 'header') return { from: 0, to: bytes.length }
  const header = end - bytes.readUInt32LE(end)
  return target === 'blob' ? { from: 0, to: header } : { from: header, to: end }
}

/** Applies the mutation of this number to a copy. Undefined where there is no such mutation. */
export function mutate(
  sound: ReadonlyMap<string, Buffer>,
  seed: number,
  number: number,
): { readonly objects: MemoryObjects; readonly mutation: Mutation } | undefined {
  const random = seeded(Math.imul(seed, 31) + number)
  const target = targets[number % targets.length] ?? 'blob'
  const way = ways[Math.floor(number / targets.length) % ways.length] ?? 'flip'
  const isPack = target === 'blob' || target === 'header' || target === 'headerLength'
  const kind = isPack ? 'pack' : target
  const keys = [...sound.keys()].filter((key) => kindOf(key) === kind)
  const key = chosen(random, keys)
  // Nothing refers to a snapshot or a lock: one that is removed whole was removed, as far as the format can tell.
  if (way === 'remove' && (kind === 'snapshot' || kind === 'lock')) return undefined
  const objects: MemoryObjects = new Map(sound)
  if (!apply({ objects, key, target, random }, way)) return undefined
  return { objects, mutation: { number, target, way, key } }
}

interface Applying {
  readonly objects: MemoryObjects
  readonly key: string
  readonly target: Target
  readonly random: Chance
}

/** False where the way makes no sense for the object, or would have changed nothing. */
function apply(applying: Applying, way: Way): boolean {
  const { objects, key, random } = applying
  const bytes = there(objects, key)
  const others = (isWanted: (kind: string) => boolean) =>
    [...objects.keys()].filter((other) => other !== key && isWanted(kindOf(other)))
  switch (way) {
    case 'remove':
      return objects.delete(key)
    case 'swapSameKind':
      return swap(
        applying,
        others((kind) => kind === kindOf(key)),
      )
    case 'swapOtherKind':
      return swap(
        applying,
        others((kind) => kind !== kindOf(key)),
      )
    case 'duplicate':
      if (kindOf(key) === 'config') return false // there is only one name for it
      objects.set(`${kindOf(key)}/${random.bytes(32).toString('hex')}`, bytes)
      return true
    case 'wrongType':
      objects.set(
        key,
        there(
          objects,
          chosen(
            random,
            others((kind) => kind !== kindOf(key)),
          ),
        ),
      )
      return true
    case 'strayType':
      return stray(applying)
    case 'truncate':
    case 'flip':
    case 'enlarge':
    case 'oversize':
    case 'splice':
    case 'zero': {
      const changed = changedBytes(applying, bytes, way)
      if (changed.equals(bytes)) return false
      objects.set(key, changed)
      return true
    }
  }
}

function swap({ objects, key, random }: Applying, others: readonly string[]): boolean {
  if (others.length === 0) return false
  const other = chosen(random, others)
  const [bytes, otherBytes] = [there(objects, key), there(objects, other)]
  objects.set(key, otherBytes)
  objects.set(other, bytes)
  return true
}

/** An object that is whole and rightly named, in the place of another kind. */
function stray({ objects, key, random }: Applying): boolean {
  const kind = kindOf(key)
  if (kind === 'config') return false
  const others = [...objects.keys()].filter((other) => !['config', kind].includes(kindOf(other)))
  const other = chosen(random, others)
  objects.set(`${kind}/${other.slice(other.indexOf('/') + 1)}`, there(objects, other))
  return true
}

function changedBytes(
  { objects, target, random }: Applying,
  bytes: Buffer,
  way: 'truncate' | 'flip' | 'enlarge' | 'oversize' | 'splice' | 'zero',
): Buffer {
  const { from, to } = partOf(bytes, target)
  const at = from + random.below(to - from)
  const length = 1 + random.below(to - at)
  const changed = Buffer.from(bytes)
  switch (way) {
    case 'truncate':
      return changed.subarray(0, at)
    case 'flip':
      changed[at] = (changed[at] ?? 0) ^ (1 << random.below(8))
      return changed
    case 'zero':
      return changed.fill(0, at, at + length)
    case 'splice': {
      const other = there(objects, chosen(random, [...objects.keys()]))
      const begin = random.below(other.length)
      other.copy(changed, at, begin, Math.min(other.length, begin + length))
      return changed
    }
    case 'enlarge':
      return Buffer.concat([bytes.subarray(0, at), random.bytes(1 + random.below(64)), bytes.subarray(at)])
    case 'oversize':
      return Buffer.concat([bytes, Buffer.alloc(1 << (8 + random.below(12)), random.below(2) === 0 ? 0 : bytes)])
  }
}

function chosen<T>(random: Chance, from: readonly T[]): T {
  const [first] = from
  if (first === undefined) throw new Error('there is nothing to choose from')
  return from[random.below(from.length)] ?? first
}

function there(objects: ReadonlyMap<string, Buffer>, key: string): Buffer {
  const bytes = objects.get(key)
  if (bytes === undefined) throw new Error(`${key} is not there`)
  return bytes
}
