/** What a person gets to see of one seed. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { scenarioOf } from './scenario.ts'
import { shrink } from './shrink.ts'
import { diagram } from './trace.ts'
import { World } from './world.ts'

const linesMax = 160

/** The SHA-256 of the whole run, as text: the same for the same seed and commit on every machine. */
export async function digestOf(seed: number, shape?: string): Promise<string> {
  const world = new World(scenarioOf(seed, shape), { isTraced: true })
  const findings = await world.run()
  const hash = createHash('sha256')
  for (const line of [...world.traced.lines(), ...findings, JSON.stringify(world.counts)]) hash.update(`${line}\n`)
  return hash.digest('hex')
}

/** Answers whether all judges were content. */
export async function showSeed(
  seed: number,
  options: { readonly shape?: string; readonly canary?: string; readonly isTraced: boolean },
): Promise<boolean> {
  const scenario = scenarioOf(seed, options.shape)
  const world = new World(scenario, { isTraced: options.isTraced })
  const findings = await world.run()
  if (findings.length === 0) {
    if (options.isTraced) for (const line of world.traced.lines()) console.log(line)
    console.log(`seed ${seed} (${scenario.shape}): no violation; ${JSON.stringify(world.counts)}`)
    return true
  }
  const smallest = await shrink(scenario)
  const again = new World(smallest, { isTraced: true })
  const last = await again.run()
  const shape = options.shape === undefined ? '' : ` --shape ${options.shape}`
  const canary = options.canary === undefined ? '' : ` --canary ${options.canary}`
  console.error(`seed ${seed} fails, commit ${commit()}: npm run simulate -- --seed ${seed}${shape}${canary}`)
  for (const finding of findings) console.error(`  found: ${finding}`)
  console.error(`the smallest scenario that fails: ${JSON.stringify(smallest)}`)
  for (const finding of last) console.error(`  found: ${finding}`)
  const others = [...smallest.stores, ...smallest.strangers].map(({ name }) => name)
  const nodes = ['coordinator', ...smallest.processes, ...others]
  const lines = diagram(again.traced, nodes)
  console.error(lines[0])
  if (lines.length > linesMax) console.error(`${' '.repeat(11)}… ${lines.length - linesMax} lines before …`)
  for (const line of lines.slice(1).slice(-linesMax)) console.error(line)
  return false
}

function commit(): string {
  try {
    const cwd = import.meta.dirname
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd, encoding: 'utf8', stdio: 'pipe' }).trim()
  } catch {
    return 'unknown' // Not a checkout: the seed alone has to do.
  }
}
