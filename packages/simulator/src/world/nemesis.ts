/** Does to a world what its scenario says, when it says so. */
import type { Fault } from './scenario.ts'
import type { World } from './world.ts'

export function plague(world: World): void {
  for (const fault of world.scenario.faults) world.timeline.at(fault.atMs, () => strike(world, fault))
}

function strike(world: World, fault: Fault): void {
  const { timeline, durable } = world
  const later = (forMs: number, happen: () => void): void => void timeline.at(timeline.nowMs + forMs, happen)
  world.troubled()
  switch (fault.kind) {
    case 'crash':
      return crash(world, fault.node, fault.forMs)
    case 'pause':
      world.trace(fault.node, () => `stands still for ${fault.forMs} ms`)
      return world.node(fault.node).machine.pause(fault.forMs)
    case 'jump':
      world.trace(fault.node, () => `its clock jumps by ${fault.byMs} ms`)
      world.node(fault.node).machine.wallOffsetMs -= 3 * fault.byMs
      return world.node(fault.node).machine.jump(fault.byMs)
    case 'partition':
      world.trace(fault.node, () => `is cut off (${fault.way}) for ${fault.forMs} ms`)
      if (world.scenario.hasShells && world.stores.has(fault.node)) return
      return world.links.partition(fault.node, fault.way, fault.forMs)
    case 'takeover':
      return takeOver(world, fault)
    case 'storage':
      world.trace('coordinator', () => `the repository is ${fault.how} for ${fault.forMs} ms`)
      durable.storage = fault.how
      return later(fault.forMs, () => {
        durable.storage = 'well'
      })
  }
}

function crash(world: World, name: string, forMs: number): void {
  const node = world.processes.get(name) ?? world.storeNode(name)
  if (!node.machine.isUp) return
  // The agent of such a store lives with the coordinator; the store itself is not what crashes in these worlds.
  if (world.scenario.hasShells && world.stores.has(name)) return
  world.trace(name, () => `crashes, for ${forMs} ms`)
  node.crash()
  world.links.gone(name)
  world.timeline.at(world.timeline.nowMs + forMs, () => {
    node.restart()
    world.trace(name, () => 'starts again')
    world.links.join(name)
  })
}

function takeOver(world: World, { forMs, zombie }: Extract<Fault, { kind: 'takeover' }>): void {
  const before = world.coordinator
  if (before === null) return
  world.trace('coordinator', () => (zombie ? `stands still for ${forMs} ms, and is replaced` : 'crashes'))
  if (zombie) before.machine.pause(forMs)
  else before.crash()
  world.coordinator = null
  // The connections of a process that has died are closed, and whatever it held on them ends.
  if (world.scenario.hasShells && !zombie)
    for (const store of world.stores.values()) store.machine.reach(world.random.below(300), () => store.forgetClient())
  world.links.coordinatorGone()
  world.timeline.at(world.timeline.nowMs + 20 + world.random.below(forMs), () => {
    world.counts.takenOver += 1
    world.newCoordinator()
  })
}
