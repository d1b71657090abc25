/** Trees and data are checked at once: how that ends, and in which order it tells. */
import { Failure } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { type BlobStore, listAll } from '../blob/blob-store.ts'
import { openMemoryStore } from '../blob/memory-store.ts'
import { initRepository, openVault } from '../repository.ts'
import { clock, entropy, password, scryptCost, world } from '../testing/testbed.ts'
import { dirNode, fileNode, plant, plantSnapshot, treeOf } from '../torture/hostile.ts'
import { checkRepository } from './check.ts'

const never = new AbortController().signal

/** A snapshot of directories in each other, and the store that it is in, whose reads `onRead` sees. */
async function deepTree(levels: number, onRead: (isEnd: boolean) => void) {
  const inner = openMemoryStore()
  await initRepository({ store: inner, password, entropy, clock, scryptCost })
  const store: BlobStore = {
    ...inner,
    async get(object, range) {
      const bytes = object.kind === 'pack' ? ((await inner.size(object)) ?? 0) : 0
      // A check of data begins with the end of each pack, where its header is; trees are in its midst.
      if (object.kind === 'pack') onRead(range !== undefined && range.offset + range.length === bytes)
      return inner.get(object, range)
    },
  }
  const vault = await openVault({ store, password, ...world, threads: 0 })
  let below = treeOf([fileNode('f')])
  const blobs = [below.blob]
  for (let level = 0; level < levels; level += 1) {
    below = treeOf([dirNode(`${level}`, below.id)])
    blobs.push(below.blob)
  }
  await plant(vault, blobs)
  await plantSnapshot(vault, { tree: `"${below.id}"` })
  return { vault, tree: below.id }
}

describe('a check of trees and data', () => {
  test('ends both when one fails, and then reads no more', async () => {
    let [isFailing, reads] = [false, 0]
    const { vault } = await deepTree(400, (isEnd) => {
      reads += 1
      if (isFailing && isEnd) throw new Failure({ code: 'storage_failed', message: 'the line is dead' })
    })
    isFailing = true
    reads = 0
    const trees: number[] = []
    const onProgress = ({ stage, done }: { stage: string; done: number }) =>
      void (stage === 'trees' && trees.push(done))
    await expect(checkRepository(vault, never, { readData: true, onProgress })).rejects.toMatchObject({
      code: 'storage_failed',
      message: 'the line is dead',
    })
    const atEnd = [reads, trees.length]
    expect(trees.length).toBeLessThan(401)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect([reads, trees.length]).toEqual(atEnd)
  })

  test('goes through both when nothing fails', async () => {
    const { vault } = await deepTree(400, () => {})
    const stages = new Map<string, number>()
    const report = await checkRepository(vault, never, {
      readData: true,
      onProgress: ({ stage, done }) => void stages.set(stage, done),
    })
    expect(report).toMatchObject({ problems: [], trees: 401, packsRead: report.packs })
    expect([stages.get('trees'), stages.get('data')]).toEqual([401, report.packs])
  })

  test('hears an abort while it has all that it needs in memory', async () => {
    const { vault } = await deepTree(2000, () => {})
    const abort = new AbortController()
    let trees = 0
    const onProgress = ({ stage, done }: { stage: string; done: number }) => {
      if (stage === 'trees') trees = done
      // What a signal handler does comes with a turn of the event loop, too.
      if (trees === 10) setTimeout(() => abort.abort(new Error('enough')), 0)
    }
    await expect(checkRepository(vault, never, { signal: abort.signal, onProgress })).rejects.toThrow('enough')
    expect(trees).toBeLessThan(2001)
  })

  test('tells what is wrong with trees first, and in the same order each time', async () => {
    const { vault } = await deepTree(3, () => {})
    const lost = treeOf([dirNode('lost', 'ab'.repeat(32))])
    await plant(vault, [lost.blob])
    await plantSnapshot(vault, { tree: `"${lost.id}"` })
    const [pack] = await listAll(vault.store, 'pack')
    const object = { kind: 'pack', name: pack?.name ?? expect.fail() } as const
    const bytes = await vault.store.get(object)
    bytes[bytes.length - 1] = 0xff
    await vault.store.delete(object)
    await vault.store.put(object, bytes)
    const codes = async () => (await checkRepository(vault, never, { readData: true })).problems.map(({ code }) => code)
    expect(await codes()).toEqual(['object_missing', 'object_damaged'])
    expect(await codes()).toEqual(['object_missing', 'object_damaged'])
  })
})
