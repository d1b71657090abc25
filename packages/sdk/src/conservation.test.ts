/** Tokens move between processes over WebSocket while cuts are taken: what is marked plus what is in flight is constant. */
import { afterEach, describe, expect, test } from 'vitest'
import { join } from './join.ts'
import type { Participant } from './participant.ts'
import {
  type CutResult,
  recordedOf,
  type ScriptedCoordinator,
  scriptedCoordinator,
  stateOf,
  testToken,
} from './testing/scripted-coordinator.ts'

const open: { close(): unknown }[] = []
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close()
})

interface Branch {
  readonly participant: Participant
  balance: number
  readonly url: string
  /** Moves one token to a random other branch. */
  move(): Promise<void>
  readonly errors: unknown[]
}

const names = ['a', 'b', 'c'] as const
const perBranch = 1_000

async function branches(coordinator: ScriptedCoordinator): Promise<readonly Branch[]> {
  const made: Branch[] = []
  for (const name of names) {
    const errors: unknown[] = []
    const participant = join({
      name,
      server: coordinator.url,
      token: testToken,
      onError: (error) => errors.push(error),
      state: {
        capture: () => ({ balance: branch.balance }),
        restore: ({ value }) => {
          branch.balance = balanceIn(value)
        },
      },
    })
    participant.receive('*', async (message) => {
      // Handlers that take a while, so that some are running and some waiting at a cut.
      if (branch.balance % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 1))
      branch.balance += Number(message.text())
    })
    const { url } = await participant.listen()
    let turn = 0
    const branch: Branch = {
      participant,
      balance: perBranch,
      url,
      errors,
      move: () =>
        participant.run(() => {
          if (branch.balance === 0) return
          turn += 1
          const others = made.filter((other) => other !== branch)
          const to = others[turn % others.length]
          if (to === undefined) return
          branch.balance -= 1
          // Not awaited: the work must not end before this is counted, all the same.
          void participant.channel(to.participant.name, { url: to.url }).send('1')
        }),
    }
    made.push(branch)
    open.push({ close: () => participant.close({ flushMs: 100 }) })
  }
  await Promise.all(made.map(({ participant }) => participant.joined))
  return made
}

function balanceIn(value: unknown): number {
  if (typeof value === 'object' && value !== null && 'balance' in value && typeof value.balance === 'number')
    return value.balance
  throw new Error(`no balance in ${JSON.stringify(value)}`)
}

function totalIn(result: CutResult): number {
  let total = 0
  for (const to of names) {
    total += balanceIn(stateOf(result, to))
    for (const from of names) total += recordedOf(result, to, `${from}→${to}`).length
  }
  return total
}

function inFlight(result: CutResult): number {
  return names
    .flatMap((to) => names.map((from) => recordedOf(result, to, `${from}→${to}`).length))
    .reduce((a, b) => a + b, 0)
}

function load(all: readonly Branch[]): { stop(): Promise<void> } {
  let isStopped = false
  const workers = all.map(async (branch) => {
    while (!isStopped) {
      await branch.move()
      await new Promise((resolve) => setImmediate(resolve))
    }
  })
  return {
    async stop() {
      isStopped = true
      await Promise.all(workers)
    },
  }
}

describe('tokens over WebSocket', () => {
  test('are conserved by every cut under load, and some are in flight (C1, C2)', async () => {
    const coordinator = await scriptedCoordinator()
    open.push(coordinator)
    const all = await branches(coordinator)
    const running = load(all)
    let crossed = 0
    for (let round = 0; round < 12; round += 1) {
      const result = await coordinator.cut(names, { gated: round % 2 === 1 })
      expect(totalIn(result), `cut ${round}`).toBe(names.length * perBranch)
      for (const drained of result.drained.values()) for (const { missing } of drained) expect(missing).toEqual([])
      crossed += inFlight(result)
    }
    await running.stop()
    expect(crossed, 'the load must be heavy enough to cross the cuts').toBeGreaterThan(0)
    for (const { participant } of all)
      for (const to of all)
        if (to.participant !== participant) {
          await participant.channel(to.participant.name, { url: to.url }).flushed()
        }
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(all.reduce((sum, { balance }) => sum + balance, 0)).toBe(names.length * perBranch)
    expect(all.flatMap(({ errors }) => errors)).toEqual([])
  })

  test('one order is enough: the others enter by a marker or a message (C1)', async () => {
    const coordinator = await scriptedCoordinator()
    open.push(coordinator)
    const all = await branches(coordinator)
    const running = load(all)
    const result = await coordinator.cut(names, { markOnly: ['a'] })
    await running.stop()
    expect(totalIn(result)).toBe(names.length * perBranch)
    expect(result.marks.get('a')?.enteredBy).toBe('order')
    expect(['marker', 'message']).toContain(result.marks.get('b')?.enteredBy)
    expect(['marker', 'message']).toContain(result.marks.get('c')?.enteredBy)
  })

  test('are conserved by a restore that replays what was in flight, while all run (C9)', async () => {
    const coordinator = await scriptedCoordinator()
    open.push(coordinator)
    const all = await branches(coordinator)
    const running = load(all)
    const result = await coordinator.cut(names)
    await new Promise((resolve) => setTimeout(resolve, 50))
    await running.stop()
    coordinator.stage('r1', result)
    for (const branch of all) branch.balance = -1_000_000 // What a restore must not leave.
    coordinator.restoreAll(names, { restore: 'r1', snapshot: 's1', generation: 2, epoch: coordinator.epoch + 1 })
    await coordinator.until(
      () => coordinator.frames.filter(({ frame }) => frame.type === 'restored').length === 3,
      'restored',
    )
    expect(all.reduce((sum, { balance }) => sum + balance, 0)).toBe(names.length * perBranch)
    const again = load(all)
    const after = await coordinator.cut(names)
    await again.stop()
    expect(totalIn(after)).toBe(names.length * perBranch)
    expect(after.ref.generation).toBe(2)
  })
})
