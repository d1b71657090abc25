/** Chance for tests: SplitMix32, the same sequence for the same seed on every machine. Never for keys or nonces. */
import { assert } from '../../kernel/assert.ts'
import type { Random } from '../../kernel/env.ts'

export interface SeededRandom extends Random {
  /** An integer from 0 to `bound` − 1. */
  below(bound: number): number
  /** True `perMille` times in 1,000. */
  chance(perMille: number): boolean
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
    pick: <T>(from: readonly T[]): T => {
      assert(from.length > 0, 'nothing to pick from')
      return from[below(from.length)] as T
    },
  }
}
