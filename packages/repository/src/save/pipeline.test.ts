/** A save that is large enough for threads and packs in shared memory. */
import { appendFile, link, mkdir, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type BlobStore, listAll } from '../blob/blob-store.ts'
import { openMemoryStore } from '../blob/memory-store.ts'
import { deriveGearTable } from '../chunk/gear-table.ts'
import { initRepository, openRepository } from '../repository.ts'
import {
  clock,
  collected,
  entropy,
  hasTool,
  newRepository,
  newVault,
  password,
  reopen,
  restic,
  scratch,
  scryptCost,
  seeded,
  takeSnapshot,
  world,
} from '../testing/testbed.ts'
import { createLockKeeper } from '../upkeep/lock.ts'
import { createWorkPool } from '../work/work-pool.ts'
import type { EntryChange } from './entry-change.ts'
import { startSave } from './save.ts'
import type { SavedEntry } from './walk.ts'

const random = seeded(5)

/** 600 small files in 12 directories, large ones that compress and do not, links of both kinds. */
async function makeTree(path: string): Promise<void> {
  for (let folder = 0; folder < 12; folder += 1) {
    const place = join(path, `d${folder}`, 'é below')
    await mkdir(place, { recursive: true })
    for (let file = 0; file < 50; file += 1) {
      const bytes = file % 2 === 0 ? random.bytes(3000 + file) : Buffer.from(`line ${folder} ${file}\n`.repeat(200))
      await writeFile(join(place, `f${file}`), file === 7 ? '' : bytes)
    }
  }
  await writeFile(join(path, 'random'), random.bytes(40 << 20))
  await writeFile(join(path, 'text'), 'a line that compresses\n'.repeat(400_000))
  await link(join(path, 'text'), join(path, 'd1', 'text'))
  await symlink('random', join(path, 'd2', 'link'))
}

describe('a tree', () => {
  test('is saved by threads, found unchanged, and changes are seen', async () => {
    const home = await scratch()
    const [path, source] = [join(home, 'repository'), join(home, 'source')]
    await makeTree(source)
    const repository = await newRepository(path)
    const { saved, id } = await takeSnapshot(repository, source)
    expect([saved.files, saved.changed, saved.errors]).toEqual([603, [], []])
    const before = await repository.check({ readData: true })
    expect(before.problems).toEqual([])
    if (hasTool('restic')) expect(await restic(path, 'check', '--read-data')).toContain('no errors were found')

    const again = await reopen(path)
    const save = await again.startSave()
    const parentTree = saved.tree
    const changes = new Map<string, EntryChange>()
    const onEntry = ({ path: at, change }: SavedEntry) => changes.set(at, change)
    expect((await save.saveDirectory(source, { parentTree, onEntry })).tree).toBe(parentTree)
    expect(changes.size).toBe(603 + 24 + 1)
    expect(new Set(changes.values())).toEqual(new Set(['unmodified']))

    await appendFile(join(source, 'd3', 'é below', 'f9'), 'more')
    await utimes(join(source, 'd3', 'é below', 'f11'), 1, 1)
    await rename(join(source, 'd4', 'é below', 'f0'), join(source, 'd4', 'é below', 'f000'))
    await rm(join(source, 'd5', 'é below', 'f3'))
    changes.clear()
    const next = await save.saveDirectory(source, { parentTree, onEntry })
    await save.finish()
    const changed = [...changes].filter(([, change]) => change === 'changed').map(([at]) => at)
    const folders = ['d3', 'd4', 'd5'].flatMap((name) => [name, `${name}/é below`])
    expect(changed.sort()).toEqual([...folders, 'd3/é below/f11', 'd3/é below/f9'].sort())
    expect([...changes].filter(([, change]) => change === 'new')).toEqual([['d4/é below/f000', 'new']])
    expect(next.files).toBe(602)
    const fresh = await reopen(path)
    const clean = await (await fresh.startSave()).saveDirectory(source)
    expect(clean.tree).toBe(next.tree)
    await fresh.unlock({ all: true })
    const { tree } = await again.findSnapshot(id)
    const node = await again.resolve(tree, 'files/random')
    if (node.type !== 'file') throw new Error('not a file')
    expect((await collected(again.readFile(node))).length).toBe(40 << 20)
  })
})

describe('a slow store', () => {
  test('keeps the source waiting: memory stays bounded', async () => {
    const memory = openMemoryStore()
    await initRepository({ store: memory, password, entropy, clock, scryptCost })
    const slow = Promise.withResolvers<void>()
    const store: BlobStore = {
      ...memory,
      put: async (object, bytes) => {
        if (object.kind === 'pack') await slow.promise
        return memory.put(object, bytes)
      },
    }
    const repository = await openRepository({ store, password, ...world })
    const save = await repository.startSave()
    let given = 0
    let lastAt = clock.monotonicMs()
    async function* source() {
      for (; given < 200; given += 1) {
        lastAt = clock.monotonicMs()
        yield random.bytes(1 << 20)
      }
    }
    const saving = save.saveStream(source())
    // However slow the machine is: first as much as can be held at least, then no more for a while.
    while (given <= 50 || clock.monotonicMs() - lastAt < 1500) await new Promise((resolve) => setTimeout(resolve, 100))
    expect(given).toBeLessThan(160)
    slow.resolve()
    const { content, bytes } = await saving
    await save.finish()
    expect(bytes).toBe(200 << 20)
    expect((await repository.check()).problems).toEqual([])
    // Chunks are of 1 MiB on average, where content does not repeat: what repeats may have no cut in it, whatever its length.
    expect(content.length).toBeGreaterThan(100)
  })
})

describe('a thread that dies', () => {
  test('fails the save, which leaves nothing behind', async () => {
    const path = join(await scratch(), 'repository')
    await newRepository(path)
    const opened = await newVault(path)
    const work = createWorkPool({
      context: () => ({ keys: opened.keys, gear: deriveGearTable(opened.keys, opened.config.id) }),
      clock,
      threads: 2,
      inlineBytesMax: 0,
      workerFile: new URL('../testing/dying-worker.ts', import.meta.url),
    })
    onTestFinished(() => work.close())
    const vault = { ...opened, work }
    const save = await startSave(vault, await createLockKeeper(vault).acquire('shared'))
    await expect(save.saveBytes(random.bytes(20 << 20))).rejects.toMatchObject({ code: 'worker_failed' })
    await save.saveTree([{ name: 'f', type: 'fifo' }])
    await expect(save.finish()).rejects.toMatchObject({ code: 'worker_failed' })
    for (const kind of ['pack', 'index', 'lock'] as const) expect(await listAll(vault.store, kind)).toEqual([])
  })
})
