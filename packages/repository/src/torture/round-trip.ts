/**
 * Owns one repository on which every version of the real restic and we work in turns, by chance from a seed, and a model of what must be
 * in it. Does not own where the repository is.
 *
 * Invariant: after each round the snapshots that are listed are those of the model, and every file of each has the
 * content that the model knows.
 */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newestRestic, type Restic, restics } from '@stillpoint/testbed'
import type { BlobStore } from '../blob/blob-store.ts'
import { openLocalStore } from '../blob/local-store.ts'
import { sha256 } from '../format/ids.ts'
import { timestampFromMs } from '../format/timestamp.ts'
import { initRepository, openRepository, type Repository } from '../repository.ts'
import { clock, entropy, seeded, world } from '../testing/world.ts'
import { readableOf } from './damage-model.ts'
import type { ResticEnd } from './restic.ts'
import { passwords, scryptCheapest } from './subject.ts'

export interface RoundTripPlace {
  /** An empty directory for sources and restored files. */
  readonly home: string
  openStore(): Promise<BlobStore>
  /** Runs a restic on the same repository, in a directory. */
  restic(args: readonly string[], options: { readonly cwd: string; readonly program: Restic }): Promise<ResticEnd>
}

export interface RoundTripOptions {
  readonly place: RoundTripPlace
  readonly seed: number
  readonly rounds: number
}

/** Hashes of files by path below `source`. */
type Content = Readonly<Record<string, string>>

interface Trip {
  readonly place: RoundTripPlace
  readonly random: ReturnType<typeof seeded>
  readonly source: string
  /** By snapshot id. */
  readonly model: Map<string, Content>
  readonly counts: Map<string, number>
  extraKey: string | undefined
}

type Action = (trip: Trip) => Promise<void>

const actions: Readonly<Record<string, Action>> = {
  'restic backup': async (trip) => {
    await change(trip)
    await ask(trip, ['backup', 'source', '--host', 'host'])
    await learn(trip, await contentOf(trip.source))
  },
  'our backup': async (trip) => {
    await change(trip)
    const repository = await ours(trip)
    const settings = { hostname: 'host', username: 'user', tags: [], programVersion: 'stillpoint' }
    const source = { kind: 'paths', paths: ['source'] } as const
    const parent = trip.model.size === 0 ? {} : { parent: await repository.findSnapshot('latest') }
    const time = timestampFromMs(clock.wallMs())
    const { problems } = await repository.upkeep.backup({ source, cwd: trip.place.home, ...settings, time, ...parent })
    requireSame('problems of the backup', problems, [])
    await learn(trip, await contentOf(trip.source))
  },
  'restic forget': async (trip) => {
    const id = anySnapshot(trip, 2)
    if (id === undefined) return
    await ask(trip, ['forget', id])
    trip.model.delete(id)
  },
  'our forget': async (trip) => {
    const id = anySnapshot(trip, 2)
    if (id === undefined) return
    const repository = await ours(trip)
    await repository.deleteSnapshot((await repository.findSnapshot(id)).id)
    trip.model.delete(id)
  },
  'restic prune': (trip) => ask(trip, ['prune', '--max-unused', '0']),
  'our prune': async (trip) => {
    await (await ours(trip)).upkeep.prune({ maxUnused: { kind: 'bytes', bytes: 0 } })
  },
  'restic tag': async (trip) => {
    const id = anySnapshot(trip, 1)
    if (id === undefined) return
    await ask(trip, ['tag', '--add', `t${trip.random.below(1000)}`, id])
    await replaced(trip, id)
  },
  'our tag': async (trip) => {
    const id = anySnapshot(trip, 1)
    if (id === undefined) return
    const repository = await ours(trip)
    await repository.upkeep.tag({
      snapshots: [await repository.findSnapshot(id)],
      add: [`t${trip.random.below(1000)}`],
    })
    await replaced(trip, id)
  },
  'restic restore': async (trip) => {
    const id = anySnapshot(trip, 1)
    if (id === undefined) return
    await restored(trip, id, async (target) => ask(trip, ['restore', id, '--target', target]))
  },
  'our restore': async (trip) => {
    const id = anySnapshot(trip, 1)
    if (id === undefined) return
    const repository = await ours(trip)
    const { tree } = await repository.findSnapshot(id)
    await restored(trip, id, async (target) => {
      const { problems } = await repository.loadDirectory(tree, target)
      requireSame('problems of the restore', problems, [])
    })
  },
  'restic check': (trip) => ask(trip, ['check', '--read-data']),
  'our check': async (trip) => requireSound(await ours(trip)),
  'restic rebuild-index': (trip) => ask(trip, ['rebuild-index']),
  'our repair index': async (trip) => {
    await (await ours(trip)).upkeep.repairIndex({ readAllPacks: trip.random.below(2) === 0 })
  },
  'our key add or remove': async (trip) => {
    const { upkeep } = await ours(trip)
    if (trip.extraKey !== undefined) {
      await upkeep.removeKey(trip.extraKey)
      trip.extraKey = undefined
    } else trip.extraKey = await upkeep.addKey({ password: passwords[1], scryptCost: scryptCheapest })
  },
  'restic copy': async (trip) => {
    const side = join(trip.place.home, 'side')
    const passwordFile = join(trip.place.home, 'password')
    await ask(trip, ['copy', '--from-repo', side, '--from-password-file', passwordFile])
    await learn(trip, await contentOf(join(trip.place.home, 'of-side', 'source')))
  },
  'our copy': async (trip) => {
    const store = openLocalStore(join(trip.place.home, 'side'))
    const side = await openRepository({ store, password: passwords[0], ...world })
    await (await ours(trip)).upkeep.copyFrom(side, { snapshots: await side.snapshots() })
    await learn(trip, await contentOf(join(trip.place.home, 'of-side', 'source')))
  },
}

/** Backups more often than the rest: there has to be something. */
const names = [...Object.keys(actions), 'restic backup', 'our backup', 'restic backup', 'our backup']

export async function roundTrips({ place, seed, rounds }: RoundTripOptions): Promise<ReadonlyMap<string, number>> {
  const random = seeded(seed)
  const source = join(place.home, 'source')
  const trip: Trip = { place, random, source, model: new Map(), counts: new Map(), extraKey: undefined }
  await mkdir(join(source, 'below'), { recursive: true })
  const store = await place.openStore()
  await initRepository({ store, password: passwords[0], entropy, clock, scryptCost: scryptCheapest })
  await makeSide(place.home)
  for (let round = 1; round <= rounds; round += 1) {
    const name = round < 3 ? ['restic backup', 'our backup'][round - 1] : names[random.below(names.length)]
    const action = actions[name ?? '']
    if (name === undefined || action === undefined) throw new Error('there is such an action')
    try {
      await action(trip)
      await compare(trip)
      if (round % 10 === 0 || round === rounds) {
        await requireSound(await ours(trip))
        await ask(trip, ['check', '--read-data'])
      }
    } catch (error) {
      throw new Error(`seed ${seed}, round ${round}, ${name}`, { cause: error })
    }
    trip.counts.set(name, (trip.counts.get(name) ?? 0) + 1)
  }
  return trip.counts
}

/** Another repository, from which both copy. */
async function makeSide(home: string): Promise<void> {
  const source = join(home, 'of-side', 'source')
  await mkdir(source, { recursive: true })
  await writeFile(join(source, 'aside'), seeded(5).bytes(50_000))
  await writeFile(join(home, 'password'), passwords[0])
  const store = openLocalStore(join(home, 'side'))
  await initRepository({ store, password: passwords[0], entropy, clock, scryptCost: scryptCheapest })
  const side = await openRepository({ store, password: passwords[0], ...world })
  const settings = { hostname: 'aside', username: 'user', tags: [], programVersion: 'stillpoint' }
  const time = timestampFromMs(clock.wallMs())
  await side.upkeep.backup({
    source: { kind: 'paths', paths: ['source'] },
    cwd: join(home, 'of-side'),
    ...settings,
    time,
  })
}

const ours = async ({ place }: Trip): Promise<Repository> =>
  openRepository({ store: await place.openStore(), password: passwords[0], ...world })

/** Any of the versions of restic. */
async function ask({ place, random }: Trip, args: readonly string[]): Promise<void> {
  const program = restics[random.below(restics.length)] ?? newestRestic
  const { code, text } = await place.restic(args, { cwd: place.home, program })
  if (code !== 0) throw new Error(`${program.name} ${args.join(' ')} ended with ${code}: ${text}`)
}

/** Some files are new, some change, some go. */
async function change({ source, random }: Trip): Promise<void> {
  for (let times = 1 + random.below(4); times > 0; times -= 1) {
    const path = join(source, random.below(3) === 0 ? 'below' : '.', `file ${random.below(12)}`)
    const chance = random.below(5)
    if (chance === 0) await rm(path, { force: true })
    else if (chance === 1) await writeFile(path, `line ${random.below(1e6)}\n`.repeat(1 + random.below(5000)))
    else await writeFile(path, random.bytes(random.below(60_000)))
  }
}

async function contentOf(source: string): Promise<Content> {
  const content: Record<string, string> = {}
  for (const entry of await readdir(source, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    content[path.slice(source.length + 1)] = sha256(await readFile(path))
  }
  return content
}

function anySnapshot({ model, random }: Trip, atLeast: number): string | undefined {
  const ids = [...model.keys()]
  return ids.length < atLeast ? undefined : ids[random.below(ids.length)]
}

async function listed(trip: Trip): Promise<readonly string[]> {
  return (await (await ours(trip)).snapshots()).map(({ id }) => id)
}

/** At most one snapshot is new, and this is in it; none where a copy was there before. */
async function learn(trip: Trip, content: Content): Promise<void> {
  const fresh = (await listed(trip)).filter((id) => !trip.model.has(id))
  if (fresh.length > 1) throw new Error(`${fresh.length} new snapshots`)
  for (const id of fresh) trip.model.set(id, content)
}

async function replaced(trip: Trip, id: string): Promise<void> {
  const content = trip.model.get(id)
  const now = await listed(trip)
  if (content === undefined || now.includes(id)) return // the tag was there before
  trip.model.delete(id)
  await learn(trip, content)
}

async function restored(trip: Trip, id: string, restore: (target: string) => Promise<void>): Promise<void> {
  const target = join(trip.place.home, 'restored')
  await rm(target, { recursive: true, force: true })
  await restore(target)
  requireSame(`what was restored of ${id}`, await contentOf(join(target, 'source')), trip.model.get(id))
}

async function requireSound(repository: Repository): Promise<void> {
  const { problems } = await repository.check({ readData: true })
  requireSame(
    'problems',
    problems.map(({ message }) => message),
    [],
  )
}

/** Everything that is listed, read through us, against the model. */
async function compare(trip: Trip): Promise<void> {
  const repository = await ours(trip)
  const found = new Map<string, Record<string, string>>()
  for (const { id } of await repository.snapshots()) found.set(id, {})
  for (const [path, shown] of await readableOf(repository)) {
    const [id = '', ...below] = path.split('/')
    const content = found.get(id)
    if (content !== undefined && shown !== 'dir') content[below.slice(1).join('/')] = shown
  }
  requireSame('what is listed and its content', sorted(found), sorted(trip.model))
}

function sorted(snapshots: ReadonlyMap<string, Content>): unknown {
  const lines = (content: Content) => Object.entries(content).sort(([left], [right]) => (left < right ? -1 : 1))
  return [...snapshots].sort(([left], [right]) => (left < right ? -1 : 1)).map(([id, content]) => [id, lines(content)])
}

function requireSame(what: string, found: unknown, expected: unknown): void {
  const text = (value: unknown) =>
    JSON.stringify(value, (_key, inner) => (inner instanceof Error ? inner.message : inner))
  const ordered = (value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.entries(value).sort(([left], [right]) => (left < right ? -1 : 1))
      : value
  if (text(ordered(found)) === text(ordered(expected))) return
  throw new Error(`${what}: found ${text(found)}, expected ${text(expected)}`)
}
