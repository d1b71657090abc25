/**
 * A small deterministic world for the tests of the cut protocol: processes that move tokens, stores that they and
 * outsiders write, a network that delays, reorders and repeats, and the production state machines in the middle.
 * A seed decides everything.
 *
 * Owns: what really happened, by vector clocks and token counts that the protocol knows nothing of.
 * Does not own: verdicts; checks.ts judges what this world recorded.
 */

import { assert, defined } from '../../kernel/assert.ts'
import {
  type CutId,
  channelId,
  type Incarnation,
  type MessageId,
  participantName,
  type SessionId,
  type TreeId,
} from '../../kernel/ids.ts'
import type { Certificate } from '../certificate.ts'
import { beginCut, decideCoordinator, nextCoordinatorDeadlineMs } from '../coordinator.ts'
import type { CoordinatorEffect, CoordinatorInput, CoordinatorState } from '../coordinator-state.ts'
import type { ChannelTraits } from '../messages.ts'
import { makePlan } from '../plan.ts'
import { decideProcess, nextProcessDeadlineMs } from '../process.ts'
import { initialProcess, type Origin, type ProcessEffect, type ProcessInput } from '../process-state.ts'
import { initialStore, nextStoreDeadlineMs } from '../store.ts'
import { verdictOf } from '../verdict.ts'
import { createRandom } from './seeded-random.ts'
import { describeOrder } from './transcript.ts'
import { merge, touch, type VectorClock } from './vector-clock.ts'
import { tellStore, writeStore } from './world-stores.ts'
import type { Action, AppMessage, Outsider, ProcessNode, Running, World, WorldOptions } from './world-types.ts'

const fifoTraits: ChannelTraits = { fifo: true, volatile: false }
const looseTraits: ChannelTraits = { fifo: false, volatile: false }
const volatileTraits: ChannelTraits = { fifo: false, volatile: true }

export const startBalance = 100

export function createWorld(options: WorldOptions): World {
  const world: World = {
    nowMs: 0,
    options,
    random: createRandom(options.seed),
    processes: new Map(),
    stores: new Map(),
    outsiders: [],
    orders: new Map(),
    facts: [],
    network: new Map(),
    markers: new Map(),
    running: [],
    coordinator: null,
    outcome: null,
    sealed: [],
    aborted: [],
    log: [],
    tokens: options.processes * startBalance,
    nextItem: 1,
    nextSend: 1,
    nextMessage: 1,
    cutCount: 0,
  }
  for (let index = 0; index < options.processes; index += 1) addProcess(world, `p${index}`)
  for (const { name } of options.stores) {
    const state = initialStore(participantName(name), `${name}-1` as Incarnation)
    world.stores.set(name, { state, clock: {}, held: null, holdBroken: false, marked: null, call: null })
  }
  for (let index = 0; index < (options.outsiders ?? 0); index += 1) {
    world.outsiders.push({ name: `o${index}`, clock: {}, waiting: false })
  }
  for (const from of world.processes.keys()) {
    for (const to of world.processes.keys()) if (from !== to) openChannel(world, from, to)
  }
  return world
}

function addProcess(world: World, name: string): void {
  const state = initialProcess({
    name: participantName(name),
    incarnation: `${name}-1` as Incarnation,
    generation: 1,
    epoch: 0,
  })
  world.processes.set(name, {
    state,
    balance: startBalance,
    clock: {},
    connected: true,
    marked: null,
    recorded: [],
    items: new Map(),
    outsiderOf: new Map(),
    sends: new Map(),
  })
}

function traitsOf(world: World): ChannelTraits {
  if (world.options.fifo) return fifoTraits
  return (world.options.faults?.lose ?? 0) > 0 ? volatileTraits : looseTraits
}

function openChannel(world: World, from: string, to: string): void {
  const channel = channelId(participantName(from), participantName(to))
  tellProcess(world, from, {
    type: 'sessionOpened',
    channel,
    session: `${channel}/1` as SessionId,
    traits: traitsOf(world),
  })
  world.network.set(channel, [])
  world.markers.set(channel, [])
}

/** Begins the next cut. Only one at a time. */
export function startCut(world: World): void {
  assert(world.coordinator === null || world.coordinator.phase === 'ended', 'one cut at a time')
  world.cutCount += 1
  const epochs = [...world.processes.values()].map(({ state }) => Math.max(state.epoch, state.work?.ref.epoch ?? 0))
  const plan = makePlan({
    system: 'world',
    cut: `cut-${world.cutCount}` as CutId,
    epoch: Math.max(0, ...epochs, world.coordinator?.plan.epoch ?? 0) + 1,
    generation: 1,
    fencing: 1,
    stores: world.options.stores.map((store) => ({ ...store, source: 'model' })),
    processes: [...world.processes].map(([name, { state }]) => ({ name, incarnation: state.incarnation })),
    ...(world.options.deadlines === undefined ? {} : { deadlines: world.options.deadlines }),
  })
  for (const node of [...world.processes.values(), ...world.stores.values()]) node.marked = null
  for (const node of world.processes.values()) {
    node.recorded = []
    node.connected = true
  }
  world.outcome = null
  applyCoordinator(world, beginCut(plan, 'digest', world.nowMs))
}

export function tellCoordinator(world: World, input: CoordinatorInput): void {
  if (world.coordinator === null) return
  applyCoordinator(world, decideCoordinator(world.coordinator, input))
}

function applyCoordinator(
  world: World,
  decision: { state: CoordinatorState; effects: readonly CoordinatorEffect[] },
): void {
  world.coordinator = decision.state
  for (const effect of decision.effects) {
    switch (effect.type) {
      case 'order': {
        const order = world.options.tamper?.order
          ? world.options.tamper.order(effect.to, effect.order, world)
          : effect.order
        if (order === null) break
        world.log.push(`coordinator → ${effect.to}: ${describeOrder(order)}`)
        world.orders.set(effect.to, [...(world.orders.get(effect.to) ?? []), order])
        break
      }
      case 'phaseEntered':
        world.log.push(`— ${effect.phase}`)
        break
      case 'seal':
        sealCut(world, effect.certificate)
        break
      case 'ended':
        world.outcome = effect.outcome
        if (effect.outcome.kind === 'aborted') world.aborted.push(effect.outcome.failure)
        break
      case 'captureProgressed':
        break
    }
  }
}

function sealCut(world: World, certificate: Certificate): void {
  const clocks = new Map<string, VectorClock>()
  for (const [name, node] of [...world.processes, ...world.stores]) {
    clocks.set(name, defined(node.marked, `the mark of ${name}`).clock)
  }
  world.sealed.push({
    plan: certificate.plan,
    certificate,
    verdict: verdictOf(certificate),
    balances: [...world.processes.values()].map(({ marked }) => defined(marked, 'a mark').balance),
    recorded: [...world.processes.values()].flatMap(({ recorded }) => recorded),
    clocks,
  })
  tellCoordinator(world, { type: 'sealed', nowMs: world.nowMs })
}

export function tellProcess(world: World, name: string, given: ProcessInput): void {
  const input = world.options.tamper?.processInput ? world.options.tamper.processInput(name, given) : given
  if (input === null) return
  const node = defined(world.processes.get(name), name)
  const { state, effects } = decideProcess(node.state, input)
  node.state = state
  for (const effect of effects) applyProcess(world, name, node, effect)
}

function applyProcess(world: World, name: string, node: ProcessNode, effect: ProcessEffect): void {
  switch (effect.type) {
    case 'report':
      if (!node.connected) return
      world.facts.push({
        from: name,
        input: { type: 'factReceived', from: node.state.name, fact: effect.fact, nowMs: 0 },
      })
      return
    case 'deliver':
      return deliver(world, name, node, effect.item)
    case 'refuse':
    case 'sendRefused':
      return
    case 'send': {
      const body = defined(node.sends.get(effect.send), 'a sending')
      node.sends.delete(effect.send)
      const queue = defined(world.network.get(effect.stamp.channel), effect.stamp.channel)
      queue.push({ ...body, stamp: effect.stamp })
      return
    }
    case 'sendMarker': {
      const after = defined(world.network.get(effect.stamp.channel), effect.stamp.channel).length
      defined(world.markers.get(effect.stamp.channel), effect.stamp.channel).push({ stamp: effect.stamp, after })
      return
    }
    case 'record': {
      const message = node.items.get(effect.item) ?? world.running.find(({ item }) => item === effect.item)?.message
      if (message !== undefined && message !== null && typeof message === 'object') node.recorded.push(message.amount)
      return
    }
    case 'markState':
      node.marked = { balance: node.balance, clock: node.clock }
      return tellProcess(world, name, { type: 'stateMarked', ref: effect.ref, nowMs: world.nowMs })
    case 'capture': {
      const evidence = { tree: `tree-${name}` as TreeId, bytes: 1, files: 1, torn: [], notes: [], channels: {} }
      return tellProcess(world, name, { type: 'captured', ref: effect.ref, evidence })
    }
    case 'dropMark':
      return
  }
}

function deliver(world: World, name: string, node: ProcessNode, item: number): void {
  const payload = defined(node.items.get(item), 'an item')
  if (payload === 'outsider') {
    const outsider = defined(node.outsiderOf.get(item), 'an outsider')
    touch(node, name, outsider.clock)
    outsider.clock = merge(outsider.clock, node.clock)
    outsider.waiting = false
    return tellProcess(world, name, { type: 'finished', item, nowMs: world.nowMs })
  }
  if (payload === 'own') return startHandler(world, name, item, null)
  if (payload.kind === 'reply') {
    touch(node, name, payload.clock)
    node.balance += payload.amount
    const waiter = world.running.find((running) => running.process === name && running.item === payload.forItem)
    if (waiter !== undefined) waiter.awaiting = false
    return
  }
  startHandler(world, name, item, payload)
}

function startHandler(world: World, process: string, item: number, message: AppMessage | null): void {
  const { random, options } = world
  const others = [...world.processes.keys()].filter((other) => other !== process)
  const actions: Action[] = message === null ? [] : [{ kind: 'receive' }]
  const writable = options.stores.filter(({ writers }) => writers === 'unknown' || writers.includes(process))
  const store = writable.length > 0 ? random.pick(writable) : undefined
  if (store !== undefined && random.chance(600)) actions.push({ kind: 'write', store: store.name })
  if (message?.kind === 'request') actions.push({ kind: 'reply' })
  else if (options.requests === true && random.chance(250)) actions.push({ kind: 'request', to: random.pick(others) })
  else if (message === null || random.chance(500)) {
    actions.push({ kind: 'send', to: random.pick(others), amount: 1 + random.below(5) })
  }
  actions.push({ kind: 'finish' })
  world.running.push({ process, item, actions, message, awaiting: false })
}

/** One action of one running handler. Answers false when it has to wait. */
export function runHandler(world: World, running: Running): boolean {
  const [action] = running.actions
  const node = defined(world.processes.get(running.process), running.process)
  if (action === undefined || running.awaiting) return false
  if (action.kind === 'write' && !writeStore(world, action.store, node, running.process)) return false
  running.actions.shift()
  switch (action.kind) {
    case 'receive':
      touch(node, running.process, running.message?.clock ?? {})
      node.balance += running.message?.amount ?? 0
      return true
    case 'write':
      return true
    case 'send':
    case 'request': {
      const amount = action.kind === 'send' ? Math.min(action.amount, node.balance) : 0
      node.balance -= amount
      touch(node, running.process, {})
      if (action.kind === 'request') running.awaiting = true
      const kind = action.kind === 'send' ? 'message' : 'request'
      sendFrom(world, running, action.to, { amount, kind, forItem: running.item })
      return true
    }
    case 'reply': {
      const amount = Math.min(3, node.balance)
      node.balance -= amount
      touch(node, running.process, {})
      const request = defined(running.message, 'the request')
      const to = request.stamp.channel.split('→')[0] ?? ''
      sendFrom(world, running, to, { amount, kind: 'reply', forItem: request.forItem })
      return true
    }
    case 'finish':
      world.running.splice(world.running.indexOf(running), 1)
      node.items.delete(running.item)
      tellProcess(world, running.process, { type: 'finished', item: running.item, nowMs: world.nowMs })
      return true
  }
}

function sendFrom(
  world: World,
  running: Running,
  to: string,
  body: { amount: number; kind: AppMessage['kind']; forItem: number | null },
): void {
  const node = defined(world.processes.get(running.process), running.process)
  const send = world.nextSend++
  node.sends.set(send, { ...body, clock: node.clock })
  const channel = channelId(node.state.name, participantName(to))
  const message = `m${world.nextMessage++}` as MessageId
  tellProcess(world, running.process, {
    type: 'sendRequested',
    request: { send, channel, message, byItem: running.item },
    nowMs: world.nowMs,
  })
}

/** An outsider's turn: carries what it learnt to a store or a process, whoever that is. */
export function moveOutsider(world: World, outsider: Outsider): void {
  if (outsider.waiting) return
  const open = world.options.stores.filter(({ writers }) => writers === 'unknown')
  if (open.length > 0 && world.random.chance(500)) {
    writeStore(world, world.random.pick(open).name, outsider, outsider.name)
    return
  }
  if (world.processes.size === 0) return
  const name = world.random.pick([...world.processes.keys()])
  const node = defined(world.processes.get(name), name)
  const item = world.nextItem++
  node.items.set(item, 'outsider')
  node.outsiderOf.set(item, outsider)
  outsider.waiting = true
  arrive(world, name, item, { kind: 'outsider', holdable: true, transactional: false })
}

export function arrive(world: World, name: string, item: number, origin: Origin): void {
  tellProcess(world, name, { type: 'arrived', item, origin, nowMs: world.nowMs })
}

export function startOwnWork(world: World, name: string): void {
  const item = world.nextItem++
  defined(world.processes.get(name), name).items.set(item, 'own')
  arrive(world, name, item, { kind: 'process', transactional: false })
}

/** Delivers one message of a channel: the first on a FIFO channel, any on another. Markers travel in their place. */
export function transmit(world: World, channel: string): void {
  const queue = defined(world.network.get(channel), channel)
  const markers = defined(world.markers.get(channel), channel)
  const to = channel.split('→')[1] ?? ''
  const marker = markers[0]
  if (marker !== undefined && marker.after === 0) {
    markers.shift()
    return tellProcess(world, to, {
      type: 'markerArrived',
      stamp: marker.stamp,
      traits: traitsOf(world),
      nowMs: world.nowMs,
    })
  }
  if (queue.length === 0) return
  const index = world.options.fifo ? 0 : world.random.below(queue.length)
  const message = queue[index]
  if (message === undefined) return
  queue.splice(index, 1)
  for (const one of markers) one.after -= 1
  if (!world.options.fifo && world.random.chance(world.options.faults?.lose ?? 0)) {
    world.tokens -= message.amount // Lost for ever: the world's own count follows.
    return
  }
  const node = defined(world.processes.get(to), to)
  const item = world.nextItem++
  node.items.set(item, message)
  const { stamp } = message
  const origin: Origin =
    message.kind === 'reply'
      ? { kind: 'reply', stamp, traits: traitsOf(world), awaitedBy: message.forItem }
      : {
          kind: 'message',
          stamp,
          traits: traitsOf(world),
          expectsReply: message.kind === 'request',
          transactional: false,
        }
  arrive(world, to, item, origin)
}

/** Time passes; leases end at the stores, timers fire. */
export function passTime(world: World, ms: number): void {
  world.nowMs += ms
  for (const node of world.stores.values()) {
    if (node.held !== null && world.nowMs >= node.held.untilMs) {
      node.held = null
      node.holdBroken = true
    }
  }
  for (const [name, { state }] of world.processes) {
    const at = nextProcessDeadlineMs(state)
    if (at !== null && at <= world.nowMs) tellProcess(world, name, { type: 'ticked', nowMs: world.nowMs })
  }
  for (const [name, { state }] of world.stores) {
    const at = nextStoreDeadlineMs(state)
    if (at !== null && at <= world.nowMs) tellStore(world, name, { type: 'ticked', nowMs: world.nowMs })
  }
  if (world.coordinator === null) return
  const at = nextCoordinatorDeadlineMs(world.coordinator)
  if (at !== null && at <= world.nowMs) tellCoordinator(world, { type: 'ticked', nowMs: world.nowMs })
}
