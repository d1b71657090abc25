/** Makes a failing scenario smaller, as long as it still fails: what is left is what it takes. */
import type { Scenario } from './scenario.ts'
import { World } from './world.ts'

const triesMax = 150

/** @param fails whether a scenario still shows what is looked for: by default, whether its judges find anything */
export async function shrink(
  scenario: Scenario,
  fails: (candidate: Scenario) => Promise<boolean> = judgesFind,
): Promise<Scenario> {
  let smallest = scenario
  let tries = 0
  const stillFails = async (candidate: Scenario): Promise<boolean> => {
    tries += 1
    return tries <= triesMax && (await fails(candidate))
  }
  for (let isSmaller = true; isSmaller; ) {
    isSmaller = false
    for (const candidate of candidatesOf(smallest)) {
      if (!(await stillFails(candidate))) continue
      smallest = candidate
      isSmaller = true
      break
    }
  }
  return smallest
}

async function judgesFind(candidate: Scenario): Promise<boolean> {
  return (await new World(candidate, { isTraced: false }).run()).length > 0
}

function* candidatesOf(scenario: Scenario): Generator<Scenario> {
  const { faults } = scenario
  for (const index of faults.keys()) yield { ...scenario, faults: faults.toSpliced(index, 1) }
  if (scenario.healMs > 200) yield { ...scenario, healMs: Math.round(scenario.healMs / 2) }
  if (scenario.outsiders > 0) yield { ...scenario, outsiders: scenario.outsiders - 1 }
  for (const index of scenario.stores.keys()) {
    const stores = scenario.stores.toSpliced(index, 1)
    if (stores.length + scenario.processes.length === 0) continue
    yield without(scenario.stores[index]?.name, { ...scenario, stores })
  }
  for (const [index, stranger] of scenario.strangers.entries()) {
    yield without(stranger.name, { ...scenario, strangers: scenario.strangers.toSpliced(index, 1) })
    for (const stay of stranger.stays.keys()) {
      const shorter = { ...stranger, stays: stranger.stays.toSpliced(stay, 1) }
      yield { ...scenario, strangers: scenario.strangers.with(index, shorter) }
    }
  }
  if (scenario.isHushed === true) yield { ...scenario, isHushed: false }
  if (scenario.hasRestores) yield { ...scenario, hasRestores: false }
  if (scenario.hasRequests) yield { ...scenario, hasRequests: false }
  if (scenario.lossPerMille > 0) yield { ...scenario, lossPerMille: 0 }
  if (scenario.doublePerMille > 0) yield { ...scenario, doublePerMille: 0 }
  if (scenario.driftPpm > 0) yield { ...scenario, driftPpm: 0 }
}

/** Nothing is done to somebody who is not there. */
function without(name: string | undefined, scenario: Scenario): Scenario {
  return { ...scenario, faults: scenario.faults.filter((fault) => !('node' in fault) || fault.node !== name) }
}
