/**
 * What customers order: drafts and decisions from a seed. The same seed and worker ask for the same things in the same
 * order; how workers interleave is up to the machine.
 */
import type { OrderDraft, OrderLine } from './order.ts'

const articles = ['apples', 'bread', 'cheese', 'coffee', 'lamp oil', 'paper', 'rope', 'salt', 'soap', 'tea', 'thread']
const words = [
  'please',
  'deliver',
  'to',
  'the',
  'back',
  'door',
  'before',
  'noon',
  'and',
  'ring',
  'twice',
  'thank',
  'you',
]
const noteWordsMax = 60

export interface Customer {
  /** A whole number from 0 to `below` − 1. */
  number(below: number): number
  lines(): readonly OrderLine[]
  draft(): OrderDraft
}

/** mulberry32 (Tommy Ettinger, public domain): 32 bits of state, ample for choosing groceries. */
function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
}

export function customer(options: { readonly seed: number; readonly worker: number }): Customer {
  const next = seeded(Math.imul(options.seed, 0x9e3779b1) ^ Math.imul(options.worker + 1, 0x85ebca6b))
  const number = (below: number) => Math.floor((next() / 2 ** 32) * below)
  const pick = (from: readonly string[]) => from[number(from.length)] ?? ''
  const lines = () =>
    Array.from({ length: 1 + number(4) }, () => ({ article: pick(articles), cents: 100 + number(20_000) }))
  return {
    number,
    lines,
    draft: () => ({
      customer: `customer ${number(10_000)}`,
      note: Array.from({ length: 1 + number(noteWordsMax) }, () => pick(words)).join(' '),
      lines: lines(),
    }),
  }
}
