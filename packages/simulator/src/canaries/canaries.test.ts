/** Some of the planted faults, caught; all of them by `npm run canaries`. And the planting itself: exactly, or not at all. */
import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { shapes } from '../explore/shapes.ts'
import { canaries } from './canaries.ts'
import { exploreCanary, simulateCanary } from './hunt.ts'

const models = readdirSync(new URL('../../../../spec/', import.meta.url))
  .filter((file) => /^Cut_No\w+\.cfg$/.test(file))
  .map((file) => file.replace(/^Cut_|\.cfg$/g, ''))

function canaryOf(name: string) {
  const canary = canaries.find((one) => one.name === name)
  if (canary === undefined) throw new Error(`There is no canary "${name}"`)
  return canary
}

describe('each canary', () => {
  test.each(canaries.map((canary) => [canary.name, canary] as const))(
    '%s has its place, exactly once',
    (_name, canary) => {
      const text = readFileSync(new URL(`../../../core/src/${canary.file}`, import.meta.url), 'utf8')
      expect(text.split(canary.find)).toHaveLength(2)
      expect(text.replace(canary.find, () => canary.replace)).not.toBe(text)
      for (const world of canary.worlds) expect(shapes.map(({ name }) => name)).toContain(world)
      if (canary.model !== null) expect(models).toContain(canary.model)
      const judges = {
        simulated: canary.seedsMax > 0,
        explored: canary.worlds.length > 0,
        specified: canary.model !== null,
      }
      // Whoever cannot judge it says why; and somebody can.
      const excused = Object.fromEntries(Object.keys(judges).map((judge) => [judge, !(judge in canary.beyond)]))
      expect(judges).toEqual(excused)
      expect(judges.simulated || (judges.explored && judges.specified)).toBe(true)
    },
  )

  test('there are at least fifteen, each with a name of its own', () => {
    expect(new Set(canaries.map(({ name }) => name)).size).toBe(canaries.length)
    expect(canaries.length).toBeGreaterThanOrEqual(15)
  })
})

test.each(['white-message-not-recorded', 'handle-before-entering', 'takeover-seals-aborted'])(
  '%s is caught by both judges',
  async (name) => {
    const canary = canaryOf(name)
    expect(await simulateCanary(canary)).toEqual({ is: 'caught', text: expect.stringMatching(/^\d+: ./) })
    expect(await exploreCanary(canary)).toEqual({ is: 'caught', text: expect.stringMatching(/^[\w-]+: ./) })
  },
)

test('C4: a process outside the plan that nobody notices is caught: the cut is not closed', async () => {
  const canary = canaryOf('stranger-not-noticed')
  for (const world of canary.worlds) {
    const found = await exploreCanary({ ...canary, worlds: [world] })
    expect(found).toEqual({ is: 'caught', text: expect.stringContaining('not closed under happens-before') })
  }
  const text = expect.stringMatching(/^\d+: cut-\d+ \(consistent\): p\d's mark knows \d+ events of p\d, whose mark has/)
  expect(await simulateCanary(canary)).toEqual({ is: 'caught', text })
})

test('a fault that cannot be planted is no silence', async () => {
  await expect(simulateCanary({ ...canaryOf('duplicate-handled'), name: 'no-such-canary' })).rejects.toThrow(
    /no canary/,
  )
})
