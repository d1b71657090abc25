/** Runs a world: picks what happens next until the cut has ended, then lets everything settle. */
import { defined } from '../../kernel/assert.ts'
import { describeFact } from './transcript.ts'
import {
  moveOutsider,
  passTime,
  runHandler,
  startCut,
  startOwnWork,
  tellCoordinator,
  tellProcess,
  transmit,
} from './world.ts'
import { answerCall, tellStore } from './world-stores.ts'
import type { World } from './world-types.ts'

/** Runs until the cut that is under way has ended. Answers false when it has not after `stepsMax` steps. */
export function runUntilEnded(world: World, stepsMax = 20_000): boolean {
  for (let steps = 0; steps < stepsMax; steps += 1) {
    if (world.coordinator?.phase === 'ended') return true
    step(world)
  }
  return world.coordinator?.phase === 'ended'
}

/** Some time of ordinary life, then a cut, until it has ended. */
export function runCut(world: World, stepsBefore = 60): boolean {
  for (let steps = 0; steps < stepsBefore; steps += 1) step(world)
  startCut(world)
  return runUntilEnded(world)
}

export function step(world: World): void {
  const { random } = world
  passTime(world, random.below(world.options.stepMsMax ?? 3))
  const names = [...world.processes.keys()]
  switch (random.below(8)) {
    case 0:
      if (names.length > 0) startOwnWork(world, random.pick(names))
      break
    case 1:
    case 2: {
      const busy = [...world.network].filter(([channel, queue]) => {
        return queue.length > 0 || (world.markers.get(channel)?.length ?? 0) > 0
      })
      if (busy.length > 0) transmit(world, random.pick(busy)[0])
      break
    }
    case 3:
    case 4:
      if (world.running.length > 0) runHandler(world, random.pick(world.running))
      break
    case 5:
      deliverOrder(world)
      break
    case 6:
      deliverFact(world)
      break
    default:
      other(world)
  }
}

function other(world: World): void {
  const { random } = world
  for (let moves = 0; moves < world.outsiders.length; moves += 1) moveOutsider(world, random.pick(world.outsiders))
  const calls = [...world.stores].filter(([, { call }]) => call !== null)
  if (calls.length > 0 && random.chance(600)) return answerCall(world, random.pick(calls)[0])
  if (random.chance(world.options.faults?.disconnect ?? 0)) disconnect(world)
}

function disconnect(world: World): void {
  const connected = [...world.processes].filter(([, node]) => node.connected)
  if (connected.length === 0 || world.coordinator === null || world.coordinator.phase === 'ended') return
  const [name, node] = world.random.pick(connected)
  node.connected = false
  world.orders.delete(name)
  tellProcess(world, name, { type: 'disconnected', nowMs: world.nowMs })
  tellCoordinator(world, {
    type: 'participantLost',
    name: node.state.name,
    reason: 'connection lost',
    nowMs: world.nowMs,
  })
}

function deliverOrder(world: World): void {
  const waiting = [...world.orders].filter(([, queue]) => queue.length > 0)
  if (waiting.length === 0) return
  const [name, queue] = world.random.pick(waiting)
  const order = defined(queue[0], 'an order')
  if (!world.random.chance(world.options.faults?.repeat ?? 0)) queue.shift()
  if (world.stores.has(name)) return tellStore(world, name, { type: 'ordered', order, nowMs: world.nowMs })
  if (world.processes.get(name)?.connected === true)
    tellProcess(world, name, { type: 'ordered', order, nowMs: world.nowMs })
}

/** Facts of one participant arrive in order; participants overtake each other. */
function deliverFact(world: World): void {
  if (world.facts.length === 0) return
  const { from } = world.random.pick(world.facts)
  const index = world.facts.findIndex((fact) => fact.from === from)
  const [fact] = world.facts.splice(index, 1)
  const { input } = defined(fact, 'a fact')
  world.log.push(`${from} → coordinator: ${describeFact(input.fact)}`)
  tellCoordinator(world, { ...input, nowMs: world.nowMs })
}
