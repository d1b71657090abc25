/**
 * Owns a small repository in memory that is the same at every run, and what must be in it: for tests that damage it.
 *
 * It has what can refer to what: three snapshots that share directories and files, files of several blobs, blobs that
 * lie in two packs (two clients saved them at the same time), several packs and index files, two keys and a lock of
 * somebody else.
 *
 * Invariant: clock and entropy are seeded, so every byte is the same at every run, and a seed is a test.
 */
import type { Clock, Entropy, TreeId } from '@stillpoint/core/kernel'
import { type MemoryObjects, openMemoryStore } from '../blob/memory-store.ts'
import { encodeLock } from '../format/lock-file.ts'
import { initRepository, type OpenOptions, openRepository, openVault, type Repository } from '../repository.ts'
import type { TreeEntry } from '../save/tree-entry.ts'
import { seeded } from '../testing/world.ts'
import { type Vault, writeDocument } from '../vault.ts'

export const passwords = ['correct horse', 'battery staple'] as const
/** The cheapest that the format has: these tests derive keys ten thousand times, and guess none. */
export const scryptCheapest = { n: 2, r: 1, p: 1 } as const

const startMs = Date.UTC(2026, 10, 21)
/** The same for all, so that equal directories are equal trees. */
const old = { mtime: BigInt(startMs) * 1_000_000n }

export interface SeededWorld {
  readonly clock: Clock
  readonly entropy: Entropy
  readonly random: ReturnType<typeof seeded>
}

export function seededWorld(seed: number): SeededWorld {
  const random = seeded(seed)
  const noise = seeded(seed + 1)
  let nowMs = startMs
  const clock: Clock = {
    monotonicMs: () => nowMs - startMs,
    wallMs: () => nowMs++,
    after: () => () => {},
  }
  const fill = (target: Uint8Array) => {
    const bytes = noise.bytes(target.byteLength)
    new Uint8Array(target.buffer, target.byteOffset, target.byteLength).set(bytes)
  }
  return { clock, entropy: { fill }, random }
}

export interface Subject {
  readonly objects: MemoryObjects
  readonly world: SeededWorld
  /** The same repository, sound, as the modules of this package see it. */
  readonly vault: Vault
}

export function openSubject(objects: MemoryObjects, world: SeededWorld, options: Partial<OpenOptions> = {}) {
  const all = { store: openMemoryStore(objects), password: passwords[0], ...world, ...options }
  return openRepository(all)
}

export async function makeSubject(seed: number): Promise<Subject> {
  const objects: MemoryObjects = new Map()
  const world = seededWorld(seed)
  const store = openMemoryStore(objects)
  await initRepository({ store, password: passwords[0], ...world, scryptCost: scryptCheapest })
  const [one, two] = [await openSubject(objects, world), await openSubject(objects, world)]
  await one.upkeep.addKey({ password: passwords[1], scryptCost: scryptCheapest })
  const bytes = Array.from({ length: 12 }, (_, at) => contentOf(world.random, at))
  await takeAtOnce([one, two], [bytes.slice(0, 6), bytes.slice(3, 8)])
  await takeAtOnce([one], [[...bytes.slice(0, 2), ...bytes.slice(8, 11)]])
  await takeAtOnce([two], [[bytes[4], bytes[11]].filter((each) => each !== undefined)])
  const vault = await openVault({ store, password: passwords[0], ...world })
  const elsewhere = { exclusive: false, hostname: 'elsewhere', username: 'somebody', pid: 4711, uid: 0, gid: 0 }
  await writeDocument(vault, 'lock', encodeLock({ ...elsewhere, time: BigInt(startMs) * 1_000_000n }))
  return { objects, world, vault }
}

/** Some that compress, some that do not, one that is empty. */
function contentOf(random: SeededWorld['random'], at: number): Buffer {
  if (at === 5) return Buffer.alloc(0)
  return at % 3 === 0 ? Buffer.from(`text ${at} `.repeat(60 + at)) : random.bytes(200 + 37 * at)
}

/** Each repository takes a snapshot of its contents; all saves are open before the first is finished. */
async function takeAtOnce(repositories: readonly Repository[], contents: readonly (readonly Buffer[])[]) {
  const saves = await Promise.all(repositories.map((repository) => repository.startSave()))
  const roots: TreeId[] = []
  for (const [at, save] of saves.entries()) {
    const files: TreeEntry[] = []
    for (const [number, content] of (contents[at] ?? []).entries()) {
      const { content: ids, bytes } = await save.saveBytes(content)
      files.push({ ...old, name: `file ${number}`, type: 'file', content: ids, bytes })
    }
    const [first, second, ...rest] = files
    if (first?.type !== 'file' || second?.type !== 'file') throw new Error('too few files')
    const content = [...first.content, ...second.content]
    const both: TreeEntry = { ...old, name: 'both', type: 'file', content, bytes: first.bytes + second.bytes }
    const shared = await save.saveTree([first, { ...old, name: 'link', type: 'symlink', target: 'file 0' }])
    const below = await save.saveTree([...rest, { ...old, name: 'shared', type: 'dir', subtree: shared }])
    roots.push(await save.saveTree([both, second, { ...old, name: 'below', type: 'dir', subtree: below }]))
  }
  for (const [at, save] of saves.entries()) {
    await save.finish()
    const [repository, tree] = [repositories[at], roots[at]]
    if (repository === undefined || tree === undefined) throw new Error('as many as there are')
    const time = BigInt(startMs + at) * 1_000_000n
    await repository.seal({ time, paths: ['/files'], hostname: 'host', username: 'user', tree })
  }
}
