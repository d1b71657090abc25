/** Planted faults: each must be found by the judges of checks.ts, or by the protocol's own verdict. */
import { expect, test } from 'vitest'
import { causalityFindings, conservationFindings, leftoverFindings } from './checks.ts'
import { runCut, step } from './run.ts'
import { createWorld } from './world.ts'
import type { Tamper, WorldOptions } from './world-types.ts'

const seedCount = 40

/** What was found in sealed cuts that call themselves consistent, over all seeds. */
function findingsWith(shape: Omit<WorldOptions, 'seed'>, tamper: Tamper): readonly string[] {
  const findings: string[] = []
  for (let seed = 1; seed <= seedCount; seed += 1) {
    const world = createWorld({ ...shape, seed, tamper })
    runCut(world)
    for (const cut of world.sealed) {
      findings.push(...causalityFindings(cut))
      if (cut.verdict.kind === 'consistent') findings.push(...conservationFindings(cut, world.tokens))
    }
    for (const { code } of world.aborted) findings.push(code)
    for (let steps = 0; steps < 400; steps += 1) step(world)
    findings.push(...leftoverFindings(world))
  }
  return findings
}

const quiesced = {
  processes: 2,
  fifo: false,
  outsiders: 3,
  stores: [
    { name: 's0', writers: 'unknown' },
    { name: 's1', writers: 'unknown' },
  ],
} as const
const flow = { processes: 3, fifo: false, stores: [] } as const

test('without a fault nothing is found', () => {
  expect(findingsWith(quiesced, {})).toEqual([])
  expect(findingsWith(flow, {})).toEqual([])
})

test('stores that do not hold', () => {
  expect(findingsWith({ ...quiesced, processes: 0 }, { holdNothing: true }).join()).toMatch(/mark knows/)
})

test('a receiver that handles a message before it enters the epoch (C1)', () => {
  const found = findingsWith(flow, {
    processInput: (_name, input) => {
      if (input.type !== 'arrived' || input.origin.kind !== 'message') return input
      return { ...input, origin: { ...input.origin, stamp: { ...input.origin.stamp, epoch: 0 } } }
    },
  })
  expect(found.join()).toMatch(/mark knows|cut_inconsistent/)
})

test('a message of an earlier epoch that is not recorded (C2)', () => {
  const found = findingsWith(flow, {
    processInput: (_name, input) => {
      if (input.type !== 'arrived' || input.origin.kind !== 'message') return input
      return { ...input, origin: { ...input.origin, stamp: { ...input.origin.stamp, epoch: 1 } } }
    },
  })
  expect(found.length).toBeGreaterThan(0)
})

test('an order to resume that comes before the marks (C3)', () => {
  const found = findingsWith(quiesced, {
    order: (to, order, world) => {
      // Whoever is asked to mark is told to let go at once.
      if (order.type === 'mark')
        world.orders.set(to, [...(world.orders.get(to) ?? []), { type: 'resume', ref: order.ref }])
      return order
    },
  })
  expect(found.join()).toMatch(/mark knows|hold_broken|participant_timed_out|still works/)
})

test('a store that says it was held though its lease had ended (C5)', () => {
  const found = findingsWith(
    { ...quiesced, processes: 0, deadlines: { leaseMs: 90, quiesceMs: 5_000, markMs: 5_000, resumeMs: 5_000 } },
    { storeAnswer: (_name, answer) => (answer.call === 'resume' ? { ...answer, unbroken: true } : answer) },
  )
  // The participant's own clock finds it out, whatever the store says.
  expect(found.join()).toMatch(/hold_broken|hold_lost/)
})

test('an order to release that never comes (C7)', () => {
  const found = findingsWith(quiesced, { order: (_to, order) => (order.type === 'release' ? null : order) })
  expect(found.join()).toMatch(/still works/)
})
