/** Sends a judge after one canary, in a process of its own: a fault is planted before the protocol is loaded. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Canary } from './canaries.ts'

interface Ran {
  readonly code: number | null
  readonly text: string
}

function run(main: string, args: readonly string[]): Promise<Ran> {
  const path = fileURLToPath(new URL(`../${main}`, import.meta.url))
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

/** The seed that caught it, with the first finding; `null` when it lives. @throws when it could not be planted */
export async function simulateCanary({ name, seedsMax }: Canary): Promise<string | null> {
  const args = ['--canary', name, '--seeds', `${seedsMax}`, '--worker']
  const { code, text } = await run('simulate-main.ts', args)
  if (code === 0) return null
  const line = text.split('\n').find((one) => one.startsWith('{"seeds"'))
  if (code !== 1 || line === undefined) return crashed(name, text)
  const totals = JSON.parse(line) as { readonly failed: number; readonly finding: string }
  return `${totals.failed}: ${totals.finding}`
}

/** The world that caught it, with the finding; a dash when it is in the bounds of none. */
export async function exploreCanary({ name, worlds }: Canary): Promise<string | null> {
  if (worlds.length === 0) return '–'
  for (const world of worlds) {
    const { code, text } = await run('explore-main.ts', ['--canary', name, '--states-max', '400000', world])
    if (code === 0 || text.includes('(bound reached)')) continue
    const found = text.split('\n').find((one) => one.startsWith('  found: '))
    if (found === undefined) {
      const thrown = crashed(name, text)
      if (thrown !== null) return `${world}: ${thrown}`
      continue
    }
    return `${world}: ${found.slice('  found: '.length)}`
  }
  return null
}

/** An assertion of the protocol itself, or of its world, is a judge, too. What else ends a judge is our own fault. */
function crashed(name: string, text: string): string | null {
  const assertion = text.split('\n').find((one) => one.startsWith('AssertionError'))
  if (assertion !== undefined) return assertion
  throw new Error(`Canary "${name}": its judge ended without a word of its own:\n${text.slice(-2_000)}`)
}
