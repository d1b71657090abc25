/** @stillpoint/simulator: judges of the cut protocol. Nothing of it is published; docs/verification.md says how to run it. */
export { explore } from './explore/explore.ts'
export { shapes as exploredShapes } from './explore/shapes.ts'
export { type Scenario, scenarioOf, shapes } from './world/scenario.ts'
export { runRange } from './world/seeds.ts'
export { World } from './world/world.ts'
