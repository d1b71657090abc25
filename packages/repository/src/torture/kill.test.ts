/**
 * Processes of their own that are killed with SIGKILL: at every call of an operation that changes the repository, and at
 * random moments. After each, what was listed is whole, the next run finishes, and the real restic finds no error.
 */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openLocalStore } from '../blob/local-store.ts'
import { openMemoryStore } from '../blob/memory-store.ts'
import { seeded } from '../testing/world.ts'
import { type Before, before, lostSince, wrongAfterSecondRun } from './judge.ts'
import {
  copyPlace,
  makeTemplate,
  type OperationName,
  objectsAt,
  type Place,
  prepareFor,
  runOperation,
} from './operations.ts'
import { fastScratch, type ScratchPlace } from './places.ts'
import { canRestic, resticFinds, resticNames } from './restic.ts'

const seed = 20261121
const pointsMin = 40
const randomKills = 16
const names = ['backup', 'forget', 'prune', 'copy', 'repairIndex', 'repairPacks', 'repairSnapshots'] as const
const child = fileURLToPath(new URL('./operation-child.ts', import.meta.url))

let scratch: ScratchPlace
let plain: Place
beforeAll(async () => {
  scratch = await fastScratch()
  plain = await makeTemplate(join(scratch.path, 'template'))
})
afterAll(() => scratch[Symbol.asyncDispose]())

interface Killing {
  /** Kills itself before this change; 0: not at all. */
  readonly diesBefore: number
  /** Is killed so long after it began. */
  readonly afterMs?: number
}

function runChild(name: OperationName, place: Place, { diesBefore, afterMs }: Killing): Promise<'killed' | 'finished'> {
  const { home, repository, sources, other } = place
  const args = ['--disable-warning=ExperimentalWarning', child, name, home, repository, sources, other, `${diesBefore}`]
  const running = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  if (afterMs !== undefined) running.stdout.once('data', () => setTimeout(() => running.kill('SIGKILL'), afterMs))
  else running.stdout.resume()
  return new Promise((resolve, reject) => {
    running.once('error', reject)
    running.once('exit', (code, signal) => {
      if (signal === 'SIGKILL') resolve('killed')
      else if (code === 0) resolve('finished')
      else reject(new Error(`the child ended with ${code ?? signal}`))
    })
  })
}

async function start(name: OperationName): Promise<{ readonly given: Before; readonly from: Place }> {
  const from = copyPlace(plain, join(scratch.path, name))
  await prepareFor(name, from)
  const end = new Map(objectsAt(from.repository))
  await runOperation(name, { place: from, store: openMemoryStore(end) })
  return { given: await before(name, openMemoryStore(objectsAt(from.repository)), openMemoryStore(end)), from }
}

async function killed(given: Before, from: Place, killing: Killing) {
  const place = copyPlace(from, join(scratch.path, 'killed'))
  const end = await runChild(given.name, place, killing)
  const wrong = [...(await lostSince(given, openMemoryStore(objectsAt(place.repository))))]
  if (canRestic && !given.name.startsWith('repair')) wrong.push(...(await resticFinds(place.repository)))
  wrong.push(...(await wrongAfterSecondRun(given, place, openLocalStore(place.repository))))
  if (canRestic && given.problems === 0) wrong.push(...(await resticFinds(place.repository)))
  return { end, wrong }
}

describe.skipIf(!canRestic)(`killed, seed ${seed} [needs ${resticNames}]`, () => {
  let points = 0

  test.each(names)('%s, before every change that it makes', async (name) => {
    const { given, from } = await start(name)
    const allWrong: string[] = []
    let isKilled = true
    for (let at = 1; isKilled && allWrong.length < 5; at += 1) {
      const { end, wrong } = await killed(given, from, { diesBefore: at })
      isKilled = end === 'killed'
      if (isKilled) points += 1
      allWrong.push(...wrong.map((text) => `change ${at}: ${text}`))
    }
    expect(allWrong).toEqual([])
  })

  test('at random moments', async () => {
    const random = seeded(seed)
    const started = new Map<OperationName, Awaited<ReturnType<typeof start>>>()
    let kills = 0
    for (let round = 0; round < randomKills; round += 1) {
      const name = names[round % names.length] ?? 'backup'
      const { given, from } = started.get(name) ?? (await start(name))
      started.set(name, { given, from })
      const { end, wrong } = await killed(given, from, { diesBefore: 0, afterMs: random.below(60) })
      if (end === 'killed') kills += 1
      expect(wrong, `round ${round}, ${name}`).toEqual([])
    }
    points += kills
    expect(kills).toBeGreaterThan(0)
  })

  test('counts', () => {
    console.log(`killed ${points} times`)
    expect(points).toBeGreaterThanOrEqual(pointsMin)
  })
})
