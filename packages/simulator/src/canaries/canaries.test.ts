/** Some of the planted faults, caught; all of them by `npm run canaries`. And the planting itself: exactly, or not at all. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { shapes } from '../explore/shapes.ts'
import { canaries } from './canaries.ts'
import { exploreCanary, simulateCanary } from './hunt.ts'

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
    },
  )

  test('there are at least fifteen, each with a name of its own', () => {
    expect(new Set(canaries.map(({ name }) => name)).size).toBe(canaries.length)
    expect(canaries.length).toBeGreaterThanOrEqual(15)
  })
})

test.each(['white-message-not-recorded', 'waiting-message-counted-twice', 'takeover-seals-aborted'])(
  '%s is caught by both judges',
  async (name) => {
    const canary = canaryOf(name)
    expect(await simulateCanary(canary)).toMatch(/^\d+: ./)
    expect(await exploreCanary(canary)).toMatch(/^[\w-]+: ./)
  },
)

test('a fault that cannot be planted is no silence', async () => {
  await expect(simulateCanary({ ...canaryOf('duplicate-handled'), name: 'no-such-canary' })).rejects.toThrow(
    /no canary/,
  )
})
