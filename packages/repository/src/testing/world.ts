/** Owns a real world for tests: clock, entropy, and chance from a seed. */
import { randomFillSync } from 'node:crypto'
import type { Clock, Entropy, Random } from '@stillpoint/core/kernel'

export const clock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, wake) {
    const timer = setTimeout(wake, delayMs).unref()
    return () => clearTimeout(timer)
  },
}

export const entropy: Entropy = { fill: (target) => void randomFillSync(target) }

/** A seeded generator (mulberry32): decides in tests, so that a seed is a test. */
export function seeded(seed: number): Random & { below(count: number): number; bytes(count: number): Buffer } {
  let state = seed >>> 0
  const uint32 = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
  const bytes = (count: number) => {
    const words = new Uint32Array(Math.ceil(count / 4))
    for (let at = 0; at < words.length; at += 1) words[at] = uint32()
    return Buffer.from(words.buffer, 0, count)
  }
  return { uint32, bytes, below: (count) => uint32() % count }
}

export const world = { clock, entropy, random: seeded(1) }
