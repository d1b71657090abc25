/** Chance that a seed decides: SplitMix32, the same sequence on every machine. Never for keys or nonces. */
import { assert, type Random } from '@stillpoint/core/kernel'

export interface SeededRandom extends Random {
  /** An integer from 0 to `bound` − 1. */
  below(bound: number): number
  /** True `perMille` times in 1,000. */
  chance(perMille: number): boolean
  /** An integer from `from` to `to`, both included. */
  between(from: number, to: number): number
  pick<T>(from: readonly T[]): T
}

export function createRandom(seed: number): SeededRandom {
  let state = seed >>> 0
  const uint32 = (): number => {
    state = (state + 0x9e3779b9) >>> 0
    let mixed = state ^ (state >>> 16)
    mixed = Math.imul(mixed, 0x21f0aaad)
    mixed ^= mixed >>> 15
    mixed = Math.imul(mixed, 0x735a2d97)
    return (mixed ^ (mixed >>> 15)) >>> 0
  }
  const below = (bound: number): number => uint32() % bound
  return {
    uint32,
    below,
    chance: (perMille) => below(1_000) < perMille,
    between: (from, to) => from + below(to - from + 1),
    pick: <T>(from: readonly T[]): T => {
      assert(from.length > 0, 'nothing to pick from')
      const [first] = from
      return from[below(from.length)] ?? (first as T)
    },
  }
}
