/**
 * `node packages/simulator/src/simulate-main.ts --seeds 2000 [--from N] [--seed N] [--shape NAME] [--workers N]`: runs
 * worlds, and prints what went wrong in the first one in which something did: seed, commit, the shortest scenario that
 * still fails, its trace and its space–time diagram. Ends with 1 then.
 */
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '2000' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    shape: { type: 'string' },
    workers: { type: 'string', default: '2' },
    canary: { type: 'string' },
    trace: { type: 'boolean', default: false },
    /** Of a worker: seeds from, from + step … */
    step: { type: 'string', default: '1' },
    worker: { type: 'boolean', default: false },
  },
})
if (values.canary !== undefined) {
  const { plant } = await import('./canaries/plant.ts')
  plant(values.canary)
}
const number = (text: string): number => {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`"${text}" is not a whole number`)
  return value
}
const common = {
  ...(values.shape === undefined ? {} : { shape: values.shape }),
  ...(values.canary === undefined ? {} : { canary: values.canary }),
}
// Not before the fault is planted: it is planted in the text of the modules that are loaded from here on.
if (values.seed !== undefined) {
  const { showSeed } = await import('./world/report.ts')
  process.exitCode = (await showSeed(number(values.seed), { ...common, isTraced: values.trace })) ? 0 : 1
} else {
  const range = { from: number(values.from), count: number(values.seeds) }
  const { runSeeds, runWorkers } = await import('./world/seeds.ts')
  const isContent = values.worker
    ? await runSeeds({ ...range, ...common, step: number(values.step) })
    : await runWorkers({ ...range, ...common, workers: number(values.workers) })
  process.exitCode = isContent ? 0 : 1
}
