/**
 * Owns what a user does to a repository and may fail, be killed or be lied to on the way: each operation with the
 * repository that it begins with. The same operations run in this process and in children.
 *
 * Invariant: an operation that is run again after it failed goes on to the same end.
 */
import { cpSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure, isFailure } from '@stillpoint/core/kernel'
import { type BlobStore, listAll } from '../blob/blob-store.ts'
import { openLocalStore } from '../blob/local-store.ts'
import { type MemoryObjects, openMemoryStore } from '../blob/memory-store.ts'
import { isId } from '../format/ids.ts'
import { timestampFromMs } from '../format/timestamp.ts'
import { initRepository, type OpenOptions, openRepository, type Repository } from '../repository.ts'
import { clock, entropy, seeded, world } from '../testing/world.ts'
import { passwords, scryptCheapest } from './subject.ts'

export const operationNames = [
  'backup',
  'forget',
  'prune',
  'copy',
  'tag',
  'repairIndex',
  'repairPacks',
  'repairSnapshots',
  'addKey',
  'removeKey',
  'changePassword',
] as const
export type OperationName = (typeof operationNames)[number]

export interface Place {
  /** What is copied for each trial: the repository, and what an operation has to know. */
  readonly home: string
  readonly repository: string
  /** Holds `source`, which is backed up; only read. */
  readonly sources: string
  /** A repository from which is copied. */
  readonly other: string
}

function placeIn(home: string): Place {
  return { home, repository: join(home, 'repository'), sources: `${home}-sources`, other: `${home}-other` }
}

/** With a repository of its own; what is only read is shared. */
export function copyPlace(from: Place, home: string): Place {
  rmSync(home, { recursive: true, force: true })
  cpSync(from.home, home, { recursive: true })
  return { ...from, home, repository: placeIn(home).repository }
}

const folders = { keys: 'key', locks: 'lock', snapshots: 'snapshot', index: 'index', data: 'pack' } as const

/** What lies in a repository on disk, as it is: to be looked at where that is fast. */
export function objectsAt(path: string): MemoryObjects {
  const objects: MemoryObjects = new Map([['config/config', readFileSync(join(path, 'config'))]])
  for (const [folder, kind] of Object.entries(folders)) {
    for (const entry of readdirSync(join(path, folder), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !isId(entry.name)) continue
      objects.set(`${kind}/${entry.name}`, readFileSync(join(entry.parentPath, entry.name)))
    }
  }
  return objects
}

export async function openPlace(path: string, options: Partial<OpenOptions> = {}): Promise<Repository> {
  return openRepository({ store: openLocalStore(path), password: passwords[0], ...world, ...options })
}

async function fill(repository: Repository, sources: string, seed: number): Promise<void> {
  const random = seeded(seed)
  const source = join(sources, 'source')
  await mkdir(join(source, 'below'), { recursive: true })
  const taken: string[] = []
  for (let turn = 0; turn < 4; turn += 1) {
    for (let file = 0; file < 5; file += 1) {
      if (turn === 0 || file % 4 === turn) await writeFile(join(source, `${file}`), random.bytes(3000 + 400 * file))
    }
    await writeFile(join(source, 'below', 'text'), `turn ${turn} of ${seed} `.repeat(300))
    taken.push(await backUp(repository, sources))
  }
  const forgotten = (await repository.snapshots()).filter(({ id }) => id === taken[0])
  await repository.upkeep.removeSnapshots(forgotten.map(({ id }) => id))
}

async function backUp(repository: Repository, sources: string): Promise<string> {
  const { id } = await repository.upkeep.backup({
    source: { kind: 'paths', paths: ['source'] },
    cwd: sources,
    hostname: 'host',
    username: 'user',
    tags: [],
    time: timestampFromMs(clock.wallMs()),
    programVersion: 'stillpoint torture',
  })
  return id
}

/** Three snapshots, and what a fourth has left: something to prune, to copy, to back up. */
export async function makeTemplate(home: string): Promise<Place> {
  const place = placeIn(home)
  for (const [seed, path] of [place.other, place.repository].entries()) {
    const store = openLocalStore(path)
    await initRepository({ store, password: passwords[0], entropy, clock, scryptCost: scryptCheapest })
    await fill(await openPlace(path), place.sources, seed)
    await leaveOutEmptyFolders(path)
  }
  await writeFile(join(place.sources, 'source', 'new'), seeded(9).bytes(9000))
  return place
}

/** Copies of a template are made hundreds of times; other programs leave these folders out, too. */
async function leaveOutEmptyFolders(path: string): Promise<void> {
  for (const folder of await readdir(join(path, 'data'))) {
    await rmdir(join(path, 'data', folder)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY') throw error
    })
  }
}

/** Brings a copy of the template into the state in which the operation has something to do. */
export async function prepareFor(name: OperationName, place: Place): Promise<void> {
  const store = openLocalStore(place.repository)
  const repository = await openPlace(place.repository)
  const keyOptions = { password: passwords[1], scryptCost: scryptCheapest }
  if (name === 'removeKey') await repository.upkeep.addKey(keyOptions)
  if (name === 'repairIndex') {
    const [first, second] = await listAll(store, 'index')
    if (first === undefined || second === undefined) throw new Error('too few index files')
    await store.delete({ kind: 'index', name: first.name })
    await overwrite(store.locate({ kind: 'index', name: second.name }), (bytes) => bytes.subarray(0, 40))
  }
  if (name !== 'repairPacks' && name !== 'repairSnapshots') return
  const pack = await packOf(repository, name === 'repairPacks' ? 'new data' : 'old data')
  await writeFile(join(place.home, 'pack'), pack)
  if (name === 'repairSnapshots') {
    await store.delete({ kind: 'pack', name: pack })
    await repository.upkeep.repairIndex()
    return
  }
  await overwrite(store.locate({ kind: 'pack', name: pack }), (bytes) => {
    const damaged = Buffer.from(bytes)
    damaged[20] = (damaged[20] ?? 0) ^ 1
    return damaged
  })
}

async function overwrite(path: string, change: (bytes: Buffer) => Buffer): Promise<void> {
  const changed = change(await readFile(path))
  await rm(path)
  await writeFile(path, changed, { mode: 0o400 })
}

/** A pack that holds data of the newest snapshot, or of one before it. */
async function packOf(repository: Repository, which: 'new data' | 'old data'): Promise<string> {
  const snapshot = (await repository.snapshots()).at(which === 'new data' ? -1 : 0)
  if (snapshot === undefined) throw new Error('no snapshots')
  for await (const { node } of repository.upkeep.walk(snapshot.tree)) {
    if (node.type !== 'file') continue
    const [pack] = repository.upkeep.packsOf(node.content[0] ?? '', 'data')
    if (pack !== undefined) return pack
  }
  throw new Error('no pack')
}

export interface Running {
  readonly place: Place
  readonly store: BlobStore
}

/** Runs it from opening the repository to its end, as a program of its own would. */
export async function runOperation(name: OperationName, { place, store }: Running): Promise<void> {
  const { upkeep, ...repository } = await openAfter(name, store)
  const keyOptions = { password: passwords[1], scryptCost: scryptCheapest }
  switch (name) {
    case 'backup':
      await backUp({ ...repository, upkeep }, place.sources)
      return
    case 'forget':
      return upkeep.removeSnapshots((await repository.snapshots()).slice(0, -2).map(({ id }) => id))
    case 'prune':
      await upkeep.prune({ maxUnused: { kind: 'bytes', bytes: 0 } })
      return
    case 'copy': {
      const source = await openPlace(place.other, { store: openMemoryStore(objectsAt(place.other)) })
      await upkeep.copyFrom(source, { snapshots: await source.snapshots() })
      return
    }
    case 'tag':
      await upkeep.tag({ snapshots: await repository.snapshots(), add: ['tagged'] })
      return
    case 'repairIndex':
      await upkeep.repairIndex({ readAllPacks: true })
      return
    case 'repairPacks': {
      const pack = await readFile(join(place.home, 'pack'), 'utf8')
      await upkeep.repairPacks([pack]).catch((error: unknown) => {
        if (!isFailure(error, 'pack_absent')) throw error // repaired by an earlier run
      })
      return
    }
    case 'repairSnapshots':
      await upkeep.repairSnapshots({ forget: true })
      return
    case 'addKey':
      await upkeep.addKey(keyOptions)
      return
    case 'removeKey': {
      const keys = (await upkeep.listKeys()).filter(({ isCurrent }) => !isCurrent)
      for (const { id } of keys) await upkeep.removeKey(id)
      return
    }
    case 'changePassword':
      await upkeep.changePassword(keyOptions)
  }
}

async function openAfter(name: OperationName, store: BlobStore): Promise<Repository> {
  const options = { store, ...world, forRepair: name === 'repairIndex' }
  try {
    return await openRepository({ ...options, password: passwords[0] })
  } catch (error) {
    // An earlier run has changed the password and failed after that.
    const isChanged = name === 'changePassword' && isFailure(error, 'password_wrong')
    if (!isChanged) throw error
    return openRepository({ ...options, password: passwords[1] })
  }
}

export function requireOperation(name: string | undefined): OperationName {
  const found = operationNames.find((each) => each === name)
  if (found === undefined) throw new Failure({ code: 'options_invalid', message: `no operation ${name}` })
  return found
}
