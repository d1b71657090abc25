/** The plan of a simulated cut. */
import { type Deadlines, makePlan, type Plan } from '@stillpoint/core'
import type { CutId } from '@stillpoint/core/kernel'
import type { World } from './world.ts'

/** Deadlines that faults, pauses and slow handlers overstep. */
function hasty(leaseMs: number): Deadlines {
  return {
    leaseMs,
    prepareMs: 600,
    quiesceMs: 600,
    markMs: 600,
    resumeMs: 600,
    drainMs: 400,
    captureMs: 3_000,
    handlerMs: 100,
  }
}

/** Deadlines that a healthy system keeps, with the slowest handler and the slowest link of these worlds. */
const patient: Deadlines = {
  leaseMs: 8_000,
  prepareMs: 3_000,
  quiesceMs: 3_000,
  markMs: 3_000,
  resumeMs: 3_000,
  drainMs: 3_000,
  captureMs: 10_000,
  handlerMs: 2_000,
}

/** Takes the next epoch, which no other cut gets. Names those who are declared by now. */
export function planCut(world: World, fencing: number): Plan {
  const { durable, scenario } = world
  durable.epoch += 1
  return makePlan({
    system: 'simulated',
    cut: `cut-${durable.epoch}` as CutId,
    epoch: durable.epoch,
    generation: durable.generation,
    fencing,
    stores: scenario.stores.map((store) => ({ ...store, source: 'simulated' })),
    processes: [...scenario.processes, ...world.strangers.declared()].map((name) => ({
      name,
      incarnation: world.processNode(name).incarnation,
    })),
    deadlines: world.isFaulty && scenario.shape !== 'calm' ? hasty(scenario.leaseMs) : patient,
  })
}
