/** The smallest worlds, explored whole: the short form of `npm run explore`. */
import { expect, test } from 'vitest'
import { Canon } from './canonical.ts'
import { explore } from './explore.ts'
import { beginning, type Shape, type World } from './model.ts'
import { movesOf } from './moves.ts'
import { isCalm } from './reduce.ts'
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
  expect(found.states).toBeGreaterThan(3_000)
})

test('the coordinator crashes anywhere, and another one takes over', () => {
  const found = explore(shapeOf('takeover'))
  expect(found.findings).toEqual([])
  expect(found.isComplete).toBe(true)
})

/** What a cut came to, by the world's own account: which messages are in it where, the marks, the outcome. */
function truthOf(world: World): string {
  const { fates, records, processes, stores, isTainted, snapshots } = world
  const outcome = records.find((record) => record.type === 'ended')
  if (outcome?.type !== 'ended') return ''
  const failure = outcome.outcome.kind === 'aborted' ? outcome.outcome.failure.code : outcome.outcome.verdict
  const messages = fates.map(({ id, sentBefore, received, recorded }) => [
    id,
    sentBefore,
    received === 'before',
    recorded,
  ])
  const marks = [...Object.values(processes), ...Object.values(stores)].map(({ marked }) => marked)
  // What is sent after the end is of no cut.
  const inCut = messages.filter(([, sentBefore, isReceived, recorded]) => sentBefore || isReceived || recorded !== 0)
  return JSON.stringify([failure, outcome.outcome.kind === 'sealed' ? [inCut, marks] : [], isTainted, snapshots])
}

function truthsOf(shape: Shape, isPlain: boolean) {
  const truths = new Set<string>()
  const found = explore(shape, { isPlain, onReached: (world) => truths.add(truthOf(world)) })
  expect(found.findings).toEqual([])
  return { ...found, truths }
}

test.each(['flow-small', 'fifo-small', 'owned-one', 'quiesced-one', 'takeover-store', 'stale', 'bystander'])(
  'nothing that a cut can come to is left out by what makes the exploration of %s small',
  (name) => {
    const plain = truthsOf(shapeOf(name), true)
    const small = truthsOf(shapeOf(name), false)
    expect([...small.truths].sort()).toEqual([...plain.truths].sort())
    expect(small.truths.size).toBeGreaterThan(1)
    expect(small.states).toBeLessThan(plain.states)
  },
)

test('moves are made alone only where nothing can go wrong, and only while all news commutes', () => {
  expect(explore(shapeOf('flow-small')).isReduced).toBe(true)
  expect(explore(shapeOf('takeover-store')).isReduced).toBe(false)
  const requests = shapeOf('gated-requests')
  expect(isCalm(beginning(requests))).toBe(true)
  expect(explore(requests).isReduced).toBe(false)
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
