/** The smallest worlds, explored whole: the short form of `npm run explore`. */
import { expect, test } from 'vitest'
import { Canon } from './canonical.ts'
import { explore } from './explore.ts'
import { beginning } from './model.ts'
import { movesOf } from './moves.ts'
import { shapes } from './shapes.ts'

function shapeOf(name: string) {
  const shape = shapes.find((one) => one.name === name)
  if (shape === undefined) throw new Error(`There is no world "${name}"`)
  return shape
}

test('a takeover and a seal that fails, in every interleaving with a quiesced store', () => {
  const found = explore(shapeOf('takeover-store'))
  expect(found.findings).toEqual([])
  expect(found.isComplete).toBe(true)
  expect(found.sealed).toBeGreaterThan(0)
  expect(found.aborted).toBeGreaterThan(0)
  // Of this very world: whoever changes the protocol, or the world, sees that the space has changed.
  expect(found.states).toBeGreaterThan(10_000)
})

test('the coordinator crashes anywhere, and another one takes over', () => {
  const found = explore(shapeOf('takeover'))
  expect(found.findings).toEqual([])
  expect(found.isComplete).toBe(true)
})

test('two ways to one situation are one state', () => {
  const canon = new Canon()
  const start = beginning(shapeOf('flow'))
  const first = movesOf(start)
  const labels = ['p0 ← prepare', 'p1 ← prepare']
  const ways = [labels, labels.toReversed()].map((way) => {
    let world = start
    for (const label of way) world = movesOf(world).find((move) => move.label === label)?.world ?? world
    return canon.keyOf([world.processes['p0'], world.processes['p1'], world.downlinks, world.uplinks])
  })
  expect(first.map(({ label }) => label)).toEqual(expect.arrayContaining(labels))
  expect(ways[0]).toBe(ways[1])
  expect(canon.keyOf([start.processes['p0'], start.processes['p1'], start.downlinks, start.uplinks])).not.toBe(ways[0])
})
