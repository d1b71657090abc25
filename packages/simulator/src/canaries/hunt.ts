/** Sends a judge after one canary, in a process of its own: a fault is planted before the protocol is loaded. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { defined } from '@stillpoint/core/kernel'
import type { Canary } from './canaries.ts'

interface Ran {
  readonly code: number | null
  readonly text: string
}

/** What a judge says of a canary. */
export type Finding =
  | { readonly is: 'caught'; readonly text: string }
  | { readonly is: 'lives' }
  /** Not in the bounds of this judge, and why. */
  | { readonly is: 'beyond'; readonly why: string }
  /** The judge is not here. */
  | { readonly is: 'not run' }

const beyond = (why: string | undefined): Finding => ({ is: 'beyond', why: defined(why, 'a reason') })
const caught = (text: string): Finding => ({ is: 'caught', text })

function run(main: string, args: readonly string[]): Promise<Ran> {
  const path = fileURLToPath(new URL(main, import.meta.url))
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [path, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
    let text = ''
    const take = (bytes: Buffer): void => {
      text += bytes.toString()
    }
    child.stdout.on('data', take)
    child.stderr.on('data', take)
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, text }))
  })
}

/** The seed that caught it, with the first finding. @throws when it could not be planted */
export async function simulateCanary({ name, seedsMax, beyond: { simulated } }: Canary): Promise<Finding> {
  if (seedsMax === 0) return beyond(simulated)
  const args = ['--canary', name, '--seeds', `${seedsMax}`, '--worker']
  const { code, text } = await run('../simulate-main.ts', args)
  if (code === 0) return { is: 'lives' }
  const line = text.split('\n').find((one) => one.startsWith('{"seeds"'))
  if (code !== 1 || line === undefined) return caught(assertionIn(name, text))
  const totals = JSON.parse(line) as { readonly failed: number; readonly finding: string }
  return caught(`${totals.failed}: ${totals.finding}`)
}

/** The world that caught it, with the finding. @throws when it could not be planted */
export async function exploreCanary({ name, worlds, beyond: { explored } }: Canary): Promise<Finding> {
  if (worlds.length === 0) return beyond(explored)
  for (const world of worlds) {
    const { code, text } = await run('../explore-main.ts', ['--canary', name, '--states-max', '400000', world])
    if (code === 0 || text.includes('(bound reached)')) continue
    const found = text.split('\n').find((one) => one.startsWith('  found: '))
    return caught(`${world}: ${found?.slice('  found: '.length) ?? assertionIn(name, text)}`)
  }
  return { is: 'lives' }
}

/** What TLC finds in the specification without the same rule. @throws when TLC could not be started */
export async function specifyCanary({ name, model, beyond: { specified } }: Canary): Promise<Finding> {
  if (model === null) return beyond(specified)
  if ((process.env['TLA2TOOLS'] ?? '') === '') return { is: 'not run' }
  const { code, text } = await run('../../../../scripts/run-spec.ts', [model])
  const row = new RegExp(`^(ok|FAIL) +${model} +(.*?)  `, 'm').exec(text)
  if (row === null) throw new Error(`Canary "${name}": TLC did not judge ${model}:\n${text.slice(-2_000)}`)
  return code === 0 ? caught(`${model} ${row[2]}`) : { is: 'lives' }
}

/** An assertion of the protocol itself, or of its world, is a judge, too. What else ends a judge is our own fault. */
function assertionIn(name: string, text: string): string {
  const assertion = text.split('\n').find((one) => one.startsWith('AssertionError'))
  if (assertion !== undefined) return assertion
  throw new Error(`Canary "${name}": its judge ended without a word of its own:\n${text.slice(-2_000)}`)
}
