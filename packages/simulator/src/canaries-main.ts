/**
 * `node packages/simulator/src/canaries-main.ts [canary…]`: plants each fault in the production protocol, one at a time,
 * and prints which judge caught it. Ends with 1 when one lives.
 */
import { parseArgs } from 'node:util'
import { canaries } from './canaries/canaries.ts'
import { exploreCanary, simulateCanary } from './canaries/hunt.ts'

const { positionals } = parseArgs({ allowPositionals: true })
const chosen = canaries.filter(({ name }) => positionals.length === 0 || positionals.includes(name))
if (chosen.length === 0)
  throw new Error(`There is no such canary. There are: ${canaries.map(({ name }) => name).join(', ')}`)

console.log('| canary | what is wrong | simulator: caught at seed | exploration: caught in |')
console.log('|---|---|---|---|')
const living: string[] = []
for (const canary of chosen) {
  const [simulated, explored] = await Promise.all([simulateCanary(canary), exploreCanary(canary)])
  console.log(`| ${canary.name} | ${canary.about} | ${simulated ?? '**lives**'} | ${explored ?? '**lives**'} |`)
  // Each judge that has the fault in its bounds must catch it.
  if (simulated === null || explored === null) living.push(canary.name)
}
if (living.length > 0) console.error(`These live: ${living.join(', ')}`)
process.exitCode = living.length > 0 ? 1 : 0
