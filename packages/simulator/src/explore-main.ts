/**
 * `node packages/simulator/src/explore-main.ts [world…]`: explores small worlds whole, and prints what they are and how
 * many states they have. Ends with 1 when a judge found something.
 */
import { parseArgs } from 'node:util'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { canary: { type: 'string' }, 'states-max': { type: 'string', default: '2000000' } },
})
if (values.canary !== undefined) {
  const { plant } = await import('./canaries/plant.ts')
  plant(values.canary)
}
// Not before the fault is planted: it is planted in the text of the modules that are loaded from here on.
const { runExplorations } = await import('./explore/report.ts')
process.exitCode = runExplorations(positionals, Number(values['states-max'])) ? 0 : 1
