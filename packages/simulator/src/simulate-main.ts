/**
 * `node packages/simulator/src/simulate-main.ts --seeds 2000 [--from N] [--shape NAME] [--workers N]`: runs worlds on
 * all cores, shows how far they are, and prints what went wrong in the first one in which something did: seed, commit,
 * the shortest scenario that still fails, its trace and its space–time diagram. Ends with 1 then, and with 130 when it
 * was interrupted, after it has said what had been done.
 *
 * `--seed N [--trace] [--digest]`: one world; its whole trace, or the SHA-256 of that.
 */
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '2000' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    shape: { type: 'string' },
    workers: { type: 'string', default: `${availableParallelism()}` },
    canary: { type: 'string' },
    trace: { type: 'boolean', default: false },
    digest: { type: 'boolean', default: false },
    /** Of a worker: seeds from, from + step … */
    step: { type: 'string', default: '1' },
    worker: { type: 'boolean', default: false },
    tells: { type: 'boolean', default: false },
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
if (values.seed !== undefined && values.digest) {
  const { digestOf } = await import('./world/report.ts')
  console.log(await digestOf(number(values.seed), values.shape))
} else if (values.seed !== undefined) {
  const { showSeed } = await import('./world/report.ts')
  process.exitCode = (await showSeed(number(values.seed), { ...common, isTraced: values.trace })) ? 0 : 1
} else {
  const range = { from: number(values.from), count: number(values.seeds), ...common }
  const { runAsWorker, runWorkers } = await import('./world/workers.ts')
  if (values.worker) {
    const isContent = await runAsWorker({ ...range, step: number(values.step), tells: values.tells })
    process.exitCode = isContent ? 0 : 1
  } else {
    const ending = await runWorkers({ ...range, workers: number(values.workers) })
    process.exitCode = { 'no-violation': 0, violation: 1, interrupted: 130 }[ending]
  }
}
