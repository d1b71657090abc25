/** Owns repositories with something to prune in them, and what they hold, for tests. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type MemoryObjects, openMemoryStore } from '../blob/memory-store.ts'
import type { SnapshotId } from '../format/ids.ts'
import { initRepository, openRepository, type Repository } from '../repository.ts'
import { clock, entropy, password, scratch, scryptCost, seeded, takeSnapshot, world } from './testbed.ts'

const unusedNone = { kind: 'bytes', bytes: 0 } as const
export const everything = { maxUnused: unusedNone }

/** Three snapshots of changing files; the middle one is removed: packs of all kinds are left. */
export async function fill(repository: Repository, source: string, bytes = 40_000): Promise<void> {
  const random = seeded(3)
  await mkdir(join(source, 'below'), { recursive: true })
  const ids: SnapshotId[] = []
  for (let turn = 0; turn < 3; turn += 1) {
    for (let file = 0; file < 6; file += 1) {
      if (turn === 0 || file % 3 === turn) await writeFile(join(source, `${file}`), random.bytes(bytes + file))
    }
    await writeFile(join(source, 'below', 'text'), `turn ${turn} `.repeat(300))
    ids.push((await takeSnapshot(repository, source)).id)
  }
  const [first, second] = ids
  if (first === undefined || second === undefined) throw new Error('no snapshots')
  await repository.upkeep.removeSnapshots([first])
}

export async function inMemory(): Promise<{ readonly objects: MemoryObjects; readonly source: string }> {
  const objects: MemoryObjects = new Map()
  const store = openMemoryStore(objects)
  const source = join(await scratch(), 'source')
  await initRepository({ store, password, entropy, clock, scryptCost })
  await fill(await openRepository({ store, password, ...world }), source)
  return { objects, source }
}

export const openMemory = (objects: MemoryObjects) =>
  openRepository({ store: openMemoryStore(objects), password, ...world })

/** All content of all snapshots, by path. */
export async function contents(repository: Repository): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  const report = await repository.check({ readData: true })
  expect(report.problems).toEqual([])
  for (const snapshot of await repository.snapshots()) {
    const open = [{ tree: snapshot.tree, path: `${snapshot.id}` }]
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      for (const node of await repository.readTree(next.tree)) {
        const path = `${next.path}/${node.name}`
        if (node.type === 'dir') open.push({ tree: node.subtree, path })
        if (node.type === 'file') found[path] = node.content.join()
      }
    }
  }
  return found
}
