/** Sessions of inbound channels: what is remembered of them, and what nobody waits for. */
import { expect, test } from 'vitest'
import type { ChannelId, CutId, Incarnation, MessageId, ParticipantName, SessionId } from '../kernel/ids.ts'
import type { CutRef, Order, Stamp } from './messages.ts'
import { decideProcess } from './process.ts'
import { initialProcess, type ProcessEffect, type ProcessInput, type ProcessState } from './process-state.ts'

const channel = 'a→b' as ChannelId
const traits = { fifo: false, volatile: true }
const ref: CutRef = { cut: 'c1' as CutId, epoch: 1, generation: 1, fencing: 1 }
const start = initialProcess({
  name: 'b' as ParticipantName,
  incarnation: 'b1' as Incarnation,
  generation: 1,
  epoch: 0,
})

function run(state: ProcessState, inputs: readonly ProcessInput[]): { state: ProcessState; effects: ProcessEffect[] } {
  const effects: ProcessEffect[] = []
  for (const input of inputs) {
    const decision = decideProcess(state, input)
    state = decision.state
    effects.push(...decision.effects)
  }
  return { state, effects }
}

function arrival(item: number, session: string, seq: number): ProcessInput[] {
  const message = `${session}-${seq}` as MessageId
  const stamp: Stamp = { generation: 1, epoch: 0, channel, session: session as SessionId, seq, message }
  const origin = { kind: 'message', stamp, traits, expectsReply: false, transactional: false } as const
  return [
    { type: 'arrived', item, origin, nowMs: 0 },
    { type: 'finished', item, nowMs: 0 },
  ]
}

test('a sender that restarts again and again does not make the state grow for ever', () => {
  const inputs = Array.from({ length: 50 }, (_, index) => arrival(index + 1, `session-${index}`, 1)).flat()
  const { state } = run(start, inputs)
  expect(state.inbound.size).toBe(8)
  expect([...state.inbound.values()].at(-1)?.session).toBe('session-49')
})

test('a session whose message still runs is remembered', () => {
  const [running] = arrival(1, 'first', 1)
  const others = Array.from({ length: 50 }, (_, index) => arrival(index + 2, `session-${index}`, 1)).flat()
  const { state } = run(start, running === undefined ? [] : [running, ...others])
  expect([...state.inbound.values()].map(({ session }) => session)).toContain('first')
})

test('C2: a drain does not wait for messages whose sender knows that the call failed, and names them', () => {
  const role = {
    kind: 'process',
    incarnation: start.incarnation,
    gated: false,
    owns: [],
    handlerMs: 100,
    leaseMs: 1_000,
  } as const
  const sent = { channel, session: 's' as SessionId, ...traits, sent: 2, uncertain: [2] }
  const orders: Order[] = [
    { type: 'prepare', ref, role },
    { type: 'quiesce', ref, stage: 'ingress', leaseMs: 1_000 },
    { type: 'mark', ref },
  ]
  const inputs: ProcessInput[] = [
    ...arrival(1, 's', 1),
    ...orders.map((order): ProcessInput => ({ type: 'ordered', order, nowMs: 0 })),
    { type: 'stateMarked', ref, nowMs: 0 },
    { type: 'ordered', order: { type: 'resume', ref }, nowMs: 0 },
    { type: 'ordered', order: { type: 'drain', ref, inbound: [sent], deadlineMs: 10_000 }, nowMs: 0 },
  ]
  const { effects } = run(start, inputs)
  const facts = effects.flatMap((effect) =>
    effect.type === 'report' && effect.fact.type === 'drained' ? [effect.fact] : [],
  )
  expect(facts).toMatchObject([{ inbound: [{ missing: [2], endedBy: 'counts' }] }])
})
