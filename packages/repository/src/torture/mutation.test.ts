/**
 * Ten thousand seeded mutations of objects of every type: none is undetected, none ends in anything but a `Failure`, and
 * what does not refer to the damage reads as before.
 *
 * One of them again: MUTATION_SEED=… MUTATION_NUMBER=… vitest run mutation
 */
import { isFailure } from '@stillpoint/core/kernel'
import { beforeAll, describe, expect, test } from 'vitest'
import type { MemoryObjects } from '../blob/memory-store.ts'
import { type DamageModel, expectedOf, modelOf, type Readable, readableOf } from './damage-model.ts'
import { type Mutation, mutate, targets, ways } from './mutation.ts'
import { makeSubject, openSubject, passwords, type Subject } from './subject.ts'

const seed = Number(process.env['MUTATION_SEED'] ?? 20261121)
const onlyNumber = process.env['MUTATION_NUMBER']
const mutationsMin = 10_000
/** None takes longer; a hang is one of the things to be found. */
const mutationMsMax = 10_000

let subject: Subject
let model: DamageModel
beforeAll(async () => {
  subject = await makeSubject(seed)
  model = await modelOf(subject.vault, subject.objects)
})

interface Outcome {
  readonly problems: readonly { readonly code: string; readonly message: string }[]
  readonly readable: Readable | undefined
}

/** Everything that users can ask of it: open it with each password, check it, read all of it. */
async function outcomeOf(objects: MemoryObjects, mutation: Mutation | undefined): Promise<Outcome> {
  const problems: { code: string; message: string }[] = []
  const noting = async <T>(action: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await action()
    } catch (error) {
      if (!isFailure(error)) throw error
      problems.push(error)
      return undefined
    }
  }
  let readable: Readable | undefined
  const [first, second] = passwords
  // A damaged key must not keep the other password out; the second one is tried where it can make a difference.
  for (const password of mutation === undefined || readsKeys(mutation) ? [second, first] : [first]) {
    const repository = await noting(() => openSubject(objects, subject.world, { password }))
    if (repository !== undefined) {
      const report = await noting(() => repository.check({ readData: true }))
      problems.push(...(report?.problems ?? []))
    }
    // Damaged index files keep a repository from opening, except for reading what the others know.
    const reading =
      repository ?? (await noting(() => openSubject(objects, subject.world, { password, forRepair: true })))
    if (reading !== undefined) readable = await readableOf(reading)
  }
  return { problems, readable }
}

function readsKeys({ target, way }: Mutation): boolean {
  return target === 'key' || way === 'swapOtherKind' || way === 'swapSameKind'
}

async function withinTime<T>(work: Promise<T>): Promise<T | 'hangs'> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'hangs'>((resolve) => {
    timer = setTimeout(() => resolve('hangs'), mutationMsMax)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** What is wrong with how the mutation was met; undefined where nothing is. */
async function verdictOn(objects: MemoryObjects, mutation: Mutation): Promise<string | undefined> {
  let outcome: Outcome | 'hangs'
  try {
    outcome = await withinTime(outcomeOf(objects, mutation))
  } catch (error) {
    return `crashed: ${error instanceof Error ? error.stack : String(error)}`
  }
  if (outcome === 'hangs') return 'hangs'
  if (outcome.problems.length === 0) return 'undetected'
  const named = outcome.problems.some(({ message }) => /[0-9a-f]{64}|config|no key of the repository/.test(message))
  if (!named) return `unnamed: ${outcome.problems.map(({ message }) => message).join('; ')}`
  const wrong = differences(expectedOf(model, objects), outcome.readable)
  const configIsSame = objects.get('config/config')?.equals(model.sound.get('config/config') ?? Buffer.alloc(0))
  if (configIsSame !== true) return outcome.readable === undefined ? undefined : 'reads without its config'
  const keysAreGone = ![...objects].some(
    ([key, bytes]) => key.startsWith('key/') && model.sound.get(key)?.equals(bytes),
  )
  if (outcome.readable === undefined) return keysAreGone ? undefined : 'cannot be read at all'
  return wrong.length === 0 ? undefined : `not confined: ${wrong.join('; ')}`
}

function differences(expected: Readable, found: Readable | undefined): readonly string[] {
  const paths = new Set([...expected.keys(), ...(found?.keys() ?? [])])
  return [...paths]
    .filter((path) => expected.get(path) !== found?.get(path))
    .map((path) => `${path}: expected ${expected.get(path)}, found ${found?.get(path)}`)
}

describe(`mutations of seed ${seed}`, () => {
  test('the repository that is mutated is the same at every run, sound, and read in full', async () => {
    const again = await makeSubject(seed)
    expect([...again.objects]).toEqual([...subject.objects])
    const { problems, readable } = await outcomeOf(subject.objects, undefined)
    expect(problems).toEqual([])
    expect(differences(expectedOf(model, subject.objects), readable)).toEqual([])
    expect(readable?.size).toBeGreaterThan(20)
  })

  test('the judge can fail: nothing changed, and what the format cannot notice, are undetected', async () => {
    const nothing: Mutation = { number: 0, target: 'snapshot', way: 'remove', key: '' }
    expect(await verdictOn(new Map(subject.objects), nothing)).toBe('undetected')
    // A snapshot or a lock that was deleted as a whole leaves no trace; all others still read as before.
    for (const kind of ['snapshot', 'lock']) {
      const objects = new Map(subject.objects)
      objects.delete([...objects.keys()].find((key) => key.startsWith(`${kind}/`)) ?? '')
      const { problems, readable } = await outcomeOf(objects, nothing)
      expect(problems).toEqual([])
      expect(differences(expectedOf(model, objects), readable)).toEqual([])
      expect(objects.size).toBe(subject.objects.size - 1)
    }
    // Damage that is said to be elsewhere.
    const objects = new Map(subject.objects)
    for (const key of objects.keys()) if (key.startsWith('pack/')) objects.set(key, Buffer.alloc(100))
    const sound = expectedOf(model, subject.objects)
    const { readable } = await outcomeOf(objects, nothing)
    expect(differences(sound, readable).length).toBeGreaterThan(10)
  })

  test(`of at least ${mutationsMin} none is undetected, none crashes or hangs, damage is confined`, async () => {
    const counts = new Map<string, number>()
    const wrong: string[] = []
    const numbers = onlyNumber === undefined ? undefined : [Number(onlyNumber)]
    let done = 0
    for (let number = numbers?.[0] ?? 0; done < (numbers?.length ?? mutationsMin); number += 1) {
      const mutated = mutate(subject.objects, seed, number)
      if (mutated === undefined) continue
      done += 1
      const { target, way, key } = mutated.mutation
      for (const counted of [target, way]) counts.set(counted, (counts.get(counted) ?? 0) + 1)
      const verdict = await verdictOn(mutated.objects, mutated.mutation)
      if (verdict !== undefined) wrong.push(`MUTATION_NUMBER=${number} (${way} of ${target}, ${key}): ${verdict}`)
      if (wrong.length >= 20) break
    }
    expect(wrong).toEqual([])
    const line = (names: readonly string[]) => names.map((name) => `${name} ${counts.get(name) ?? 0}`).join(', ')
    console.log(`${done} mutations of seed ${seed}. Of: ${line(targets)}. How: ${line(ways)}.`)
    if (numbers === undefined) expect([...targets, ...ways].filter((name) => (counts.get(name) ?? 0) < 300)).toEqual([])
  }, 300_000)
})
