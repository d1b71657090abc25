/** Every kind of damage to every kind of object is found, and nothing but a `Failure` comes of it. */
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isFailure } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import type { BlobStore, ObjectName } from '../blob/blob-store.ts'
import { openLocalStore } from '../blob/local-store.ts'
import { type MemoryObjects, openMemoryStore } from '../blob/memory-store.ts'
import { openRepository } from '../repository.ts'
import { newRepository, password, reopen, scratch, seeded, takeSnapshot, world } from '../testing/testbed.ts'

const seed = 20261121
const mutations = 300
const random = seeded(seed)
const kinds = ['config', 'key', 'snapshot', 'index', 'pack'] as const
const ways = ['truncate', 'flip', 'swap', 'delete', 'extend', 'empty'] as const

async function template(path: string): Promise<void> {
  const source = `${path}-source`
  await mkdir(join(source, 'below'), { recursive: true })
  const repository = await newRepository(path)
  for (let turn = 0; turn < 3; turn += 1) {
    await writeFile(join(source, `file ${turn}`), random.bytes(3000 + turn))
    await writeFile(join(source, 'below', 'text'), `text ${turn} `.repeat(500))
    await takeSnapshot(repository, source)
  }
}

interface Mutation {
  readonly object: ObjectName
  readonly way: (typeof ways)[number]
  readonly number: number
}

async function choose(store: BlobStore, number: number): Promise<Mutation | undefined> {
  const kind = kinds[number % kinds.length] ?? 'pack'
  const way = ways[Math.floor(number / kinds.length) % ways.length] ?? 'flip'
  // A snapshot that is deleted whole is deleted: nothing else refers to it, in this format.
  if (kind === 'snapshot' && way === 'delete') return undefined
  const objects = await store.list(kind)
  const name = objects[random.below(objects.length)]?.name ?? ''
  return { object: { kind, name }, way, number }
}

/** Objects of all kinds that hold a repository together, sealed under the same keys. */
function apply(objects: MemoryObjects, { object, way }: Mutation): void {
  const key = `${object.kind}/${object.name}`
  const bytes = objects.get(key)
  if (bytes === undefined) throw new Error(`${key} is not there`)
  switch (way) {
    case 'truncate':
      objects.set(key, bytes.subarray(0, random.below(bytes.length)))
      return
    case 'flip': {
      const flipped = Buffer.from(bytes)
      const at = random.below(bytes.length)
      flipped[at] = (flipped[at] ?? 0) ^ (1 << random.below(8))
      objects.set(key, flipped)
      return
    }
    case 'swap': {
      const others = [...objects].filter(([other]) => other !== key)
      const [otherKey, otherBytes] = others[random.below(others.length)] ?? []
      if (otherKey === undefined || otherBytes === undefined) throw new Error('nothing to swap with')
      objects.set(key, otherBytes)
      objects.set(otherKey, bytes)
      return
    }
    case 'delete':
      objects.delete(key)
      return
    case 'extend':
      objects.set(key, Buffer.concat([bytes, random.bytes(1 + random.below(100))]))
      return
    case 'empty':
      objects.set(key, Buffer.alloc(0))
  }
}

/** What a user sees: problems of the check, or the failure that keeps the repository from opening. */
async function findings(store: BlobStore): Promise<readonly { code: string; message: string }[]> {
  try {
    const repository = await openRepository({ store, password, ...world })
    return (await repository.check({ readData: true })).problems
  } catch (error) {
    if (!isFailure(error)) throw error
    return [error]
  }
}

async function allObjects(store: BlobStore): Promise<MemoryObjects> {
  const objects: MemoryObjects = new Map()
  for (const kind of kinds) {
    for (const { name } of await store.list(kind)) objects.set(`${kind}/${name}`, await store.get({ kind, name }))
  }
  return objects
}

describe(`${mutations} mutations, seed ${seed}`, () => {
  test('none is undetected, none crashes, each is named', async () => {
    const path = join(await scratch(), 'template')
    await template(path)
    const sound = await allObjects(openLocalStore(path))
    expect(await findings(openMemoryStore(new Map(sound)))).toEqual([])
    const undetected: Mutation[] = []
    const unnamed: string[] = []
    for (let number = 0; number < mutations; number += 1) {
      const objects: MemoryObjects = new Map(sound)
      const store = openMemoryStore(objects)
      const mutation = await choose(store, number)
      if (mutation === undefined) continue
      apply(objects, mutation)
      const found = await findings(store)
      if (found.length === 0) undetected.push(mutation)
      const named = found.some(({ message }) => /[0-9a-f]{64}|config|no key of the repository/.test(message))
      if (found.length > 0 && !named) unnamed.push(found.map(({ message }) => message).join())
    }
    expect(undetected).toEqual([])
    expect(unnamed).toEqual([])
  })

  test('damage of a pack names the pack and leaves other snapshots readable', async () => {
    const home = await scratch()
    const path = join(home, 'repository')
    await template(path)
    const store = openLocalStore(path)
    const repository = await reopen(path)
    const [first, , last] = await repository.snapshots()
    if (first === undefined || last === undefined) throw new Error('no snapshots')
    const node = await repository.resolve(last.tree, 'files/file 2')
    if (node.type !== 'file') throw new Error('not a file')
    const packs = await store.list('pack')
    for (const { name } of packs) {
      const object = { kind: 'pack', name } as const
      const bytes = await readFile(store.locate(object))
      await chmod(store.locate(object), 0o600)
      const damaged = Buffer.from(bytes)
      damaged[20] = (damaged[20] ?? 0) ^ 4
      await writeFile(store.locate(object), damaged)
      const { problems } = await repository.check({ readData: true })
      expect(problems.map((problem) => problem.message).join()).toContain(store.locate(object))
      expect(problems.every((problem) => problem.code === 'object_damaged')).toBe(true)
      await writeFile(store.locate(object), bytes)
    }
    expect((await repository.check({ readData: true })).problems).toEqual([])
  })
})
