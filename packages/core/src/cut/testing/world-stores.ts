/** The stores of a test world: what they do when their participant calls them, and how anybody writes to them. */
import { defined } from '../../kernel/assert.ts'
import type { TreeId } from '../../kernel/ids.ts'
import { decideStore, type StoreAnswer, type StoreEffect, type StoreInput } from '../store.ts'
import { merge, tick, type VectorClock } from './vector-clock.ts'
import type { StoreNode, World } from './world-types.ts'

export function writeStore(world: World, store: string, writer: { clock: VectorClock }, name: string): boolean {
  const node = defined(world.stores.get(store), store)
  if (node.held !== null && world.options.tamper?.holdNothing !== true) return false
  // A write and its acknowledgement: each learns what the other knew.
  writer.clock = tick(writer.clock, name)
  node.clock = tick(merge(node.clock, writer.clock), store)
  writer.clock = tick(merge(writer.clock, node.clock), name)
  return true
}

export function tellStore(world: World, name: string, input: StoreInput): void {
  const node = defined(world.stores.get(name), name)
  const { state, effects } = decideStore(node.state, input)
  node.state = state
  for (const effect of effects) applyStore(world, name, node, effect)
}

function applyStore(world: World, name: string, node: StoreNode, effect: StoreEffect): void {
  if (effect.type === 'report') {
    world.facts.push({
      from: name,
      input: { type: 'factReceived', from: node.state.name, fact: effect.fact, nowMs: 0 },
    })
  } else if (effect.type === 'call') {
    node.call = { call: effect.call.call, ref: effect.ref }
  }
}

/** Carries out the call that a store's participant is waiting for. */
export function answerCall(world: World, name: string): void {
  const node = defined(world.stores.get(name), name)
  const { call } = node
  if (call === null) return
  node.call = null
  const honest = carryOut(world, name, node, call.call)
  const answer = world.options.tamper?.storeAnswer ? world.options.tamper.storeAnswer(name, honest) : honest
  tellStore(world, name, { type: 'answered', ref: call.ref, answer, nowMs: world.nowMs })
}

function carryOut(world: World, name: string, node: StoreNode, call: StoreAnswer['call']): StoreAnswer {
  switch (call) {
    case 'prepare':
      return { call, estimateBytes: 1, version: 'model 1', notes: [] }
    case 'quiesce': {
      const leaseMs = world.options.deadlines?.leaseMs ?? 8_000
      node.held = { untilMs: world.nowMs + leaseMs }
      node.holdBroken = false
      return { call, endsAtMs: world.nowMs + leaseMs }
    }
    case 'mark':
      node.marked = { clock: node.clock }
      return { call, position: { writes: node.clock[name] ?? 0 }, caveats: [] }
    case 'resume': {
      const unbroken = node.held !== null && !node.holdBroken
      node.held = null
      return { call, unbroken }
    }
    case 'capture':
      return {
        call,
        evidence: { tree: `tree-${name}` as TreeId, bytes: 1, files: 1, torn: [], notes: [], channels: {} },
      }
    case 'release':
      return { call }
  }
}
