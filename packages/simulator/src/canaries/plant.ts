/**
 * Plants a fault in the production protocol: a loader hook replaces one piece of one module's text, before anything of
 * it is loaded. Production code has no seam for this, and a fault that cannot be planted exactly ends the program: a
 * canary must never test nothing.
 */
import { readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { fileURLToPath } from 'node:url'
import { canaries } from './canaries.ts'

/** Call it before the protocol is imported for the first time. */
export function plant(name: string): void {
  const canary = canaries.find((one) => one.name === name)
  if (canary === undefined) throw new Error(`There is no canary "${name}"`)
  let isPlanted = false
  registerHooks({
    load(url, context, nextLoad) {
      if (!url.endsWith(`/core/src/${canary.file}`)) return nextLoad(url, context)
      const text = readFileSync(fileURLToPath(url), 'utf8')
      const places = text.split(canary.find).length - 1
      if (places !== 1) throw new Error(`Canary "${name}": its place in ${canary.file} is there ${places} times`)
      isPlanted = true
      return {
        format: 'module-typescript',
        source: text.replace(canary.find, () => canary.replace),
        shortCircuit: true,
      }
    },
  })
  process.on('exit', () => {
    if (isPlanted) return
    console.error(`Canary "${name}" was never planted: ${canary.file} was not loaded`)
    process.exitCode = 3
  })
}
