/**
 * `node packages/simulator/src/canaries-main.ts [canary…]`: plants each fault in the production protocol, one at a time,
 * and prints which judge caught it: the simulator, the exploration, and TLC (where `TLA2TOOLS` names it) in the
 * specification without the same rule. Ends with 1 when one lives with a judge that has it in its bounds.
 */
import { parseArgs } from 'node:util'
import { canaries } from './canaries/canaries.ts'
import { exploreCanary, type Finding, simulateCanary, specifyCanary } from './canaries/hunt.ts'

const { positionals } = parseArgs({ allowPositionals: true })
const chosen = canaries.filter(({ name }) => positionals.length === 0 || positionals.includes(name))
const unknown = positionals.filter((name) => !chosen.some((canary) => canary.name === name))
if (unknown.length > 0) {
  const names = canaries.map(({ name }) => name).join(', ')
  throw new Error(`There is no canary ${unknown.join(', ')}. There are: ${names}`)
}

console.log(
  '| canary | what is wrong | simulator: caught at seed | exploration: caught in | TLC: model without the rule |',
)
console.log('|---|---|---|---|---|')
const living: string[] = []
let isTlcMissing = false
for (const canary of chosen) {
  const found = await Promise.all([simulateCanary(canary), exploreCanary(canary), specifyCanary(canary)])
  console.log(`| ${canary.name} | ${canary.about} | ${found.map(wordsOf).join(' | ')} |`)
  if (found.some(({ is }) => is === 'lives')) living.push(canary.name)
  isTlcMissing ||= found.some(({ is }) => is === 'not run')
}
if (isTlcMissing) console.error('TLC was not run: set TLA2TOOLS to the path of tla2tools.jar (spec/README.md).')
if (living.length > 0) console.error(`These live: ${living.join(', ')}`)
process.exitCode = living.length > 0 ? 1 : 0

function wordsOf(finding: Finding): string {
  switch (finding.is) {
    case 'caught':
      return finding.text
    case 'lives':
      return '**lives**'
    case 'beyond':
      return `– ${finding.why}`
    case 'not run':
      return 'not run'
  }
}
