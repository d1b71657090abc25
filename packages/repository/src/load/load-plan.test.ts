/** Restores in several sections, and trees that want to harm. */
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { sha256, treeId } from '../format/ids.ts'
import { createBlobSink } from '../save/blob-sink.ts'
import { makeSource } from '../testing/source-directory.ts'
import { fingerprint, newRepository, newVault, scratch, takeSnapshot } from '../testing/testbed.ts'
import type { Vault } from '../vault.ts'
import { loadDirectory } from './load-directory.ts'

const lockSignal = new AbortController().signal
const times =
  '"mtime":"2020-01-01T00:00:00Z","atime":"2020-01-01T00:00:00Z","ctime":"2020-01-01T00:00:00Z","uid":0,"gid":0'
const node = (name: string, more: string) => `{"name":${JSON.stringify(name)},${times},${more}}`
const dir = (name: string, subtree: string) => node(name, `"type":"dir","content":null,"subtree":"${subtree}"`)

/** Stores trees that `encodeTree` would refuse, or that no directory has. */
async function storeTrees(vault: Vault, build: (put: (nodes: readonly string[]) => string) => string) {
  const sink = createBlobSink(vault)
  const pending: Promise<unknown>[] = []
  const root = build((nodes) => {
    const plaintext = Buffer.from(`{"nodes":[${nodes.join()}]}`)
    const id = sha256(plaintext)
    pending.push(sink.put({ id, type: 'tree', plaintext }))
    return id
  })
  await Promise.all(pending)
  await sink.finish()
  return treeId(root)
}

describe('sections', () => {
  for (const sectionFilesMax of [1, 2, 3]) {
    test(`of ${sectionFilesMax} files restore the same, names of one file across them`, async () => {
      const home = await scratch()
      const source = await makeSource(join(home, 'source'))
      await mkdir(join(source, 'zone', 'a', 'b'), { recursive: true })
      const { saved } = await takeSnapshot(await newRepository(join(home, 'repository')), source)
      const where = { tree: saved.tree, targetPath: join(home, 'target'), lockSignal, sectionFilesMax }
      const vault = await newVault(join(home, 'repository'))
      const result = await loadDirectory(vault, where, { verify: true })
      expect(result).toMatchObject({ files: saved.files, bytes: saved.bytes, problems: [], verified: saved.files })
      expect(await fingerprint(join(home, 'target'))).toEqual(await fingerprint(source))
      const again = await loadDirectory(vault, where, { overwrite: 'if-changed' })
      expect(again).toMatchObject({ files: saved.files, unchanged: { files: saved.files } })
      expect(await fingerprint(join(home, 'target'))).toEqual(await fingerprint(source))
    })
  }
})

describe('hostile trees', () => {
  test('a bad name in the last tree is found before the first section is written', async () => {
    const home = await scratch()
    await newRepository(join(home, 'repository'))
    const vault = await newVault(join(home, 'repository'))
    const tree = await storeTrees(vault, (put) => {
      const fine = put([node('file', '"type":"file","content":[]')])
      const bad = put([node('..', '"type":"file","content":[]')])
      return put([dir('a', fine), dir('b', fine), dir('z', bad)])
    })
    const where = { tree, targetPath: join(home, 'target'), lockSignal, sectionFilesMax: 1 }
    await expect(loadDirectory(vault, where, { onProblem: 'continue' })).rejects.toMatchObject({ code: 'tree_unsafe' })
    expect(await readdir(home)).toEqual(['repository'])
  })

  test('directories nested beyond every path are refused', async () => {
    const home = await scratch()
    await newRepository(join(home, 'repository'))
    const vault = await newVault(join(home, 'repository'))
    const tree = await storeTrees(vault, (put) => {
      let below = put([])
      for (let depth = 0; depth < 2100; depth += 1) below = put([dir('d', below)])
      return below
    })
    const loading = loadDirectory(vault, { tree, targetPath: join(home, 'target'), lockSignal })
    await expect(loading).rejects.toMatchObject({ code: 'tree_unsafe' })
    expect(await readdir(home)).toEqual(['repository'])
  })

  for (const [levels, expected] of [
    [40, { code: 'tree_unsafe' }],
    [24, { name: 'TimeoutError' }],
  ] as const) {
    test(`2^${levels} directories made of ${levels + 1} trees end soon, or when they are told to`, async () => {
      const home = await scratch()
      await newRepository(join(home, 'repository'))
      const vault = await newVault(join(home, 'repository'))
      const tree = await storeTrees(vault, (put) => {
        let below = put([])
        for (let level = 0; level < levels; level += 1) below = put([dir('l', below), dir('r', below)])
        return below
      })
      const where = { tree, targetPath: join(home, 'target'), lockSignal, sectionFilesMax: 100 }
      const loading = loadDirectory(vault, where, { signal: AbortSignal.timeout(1000) })
      await expect(loading).rejects.toMatchObject(expected)
    })
  }

  test('a size that is not that of the content is a problem of the file', async () => {
    const home = await scratch()
    await newRepository(join(home, 'repository'))
    const vault = await newVault(join(home, 'repository'))
    const tree = await storeTrees(vault, (put) =>
      put([
        node('huge', '"type":"file","size":9007199254740991,"content":[]'),
        node('lost', `"type":"file","size":3,"content":["${'0'.repeat(64)}"]`),
        node('fine', '"type":"file","content":[]'),
      ]),
    )
    const where = { tree, targetPath: join(home, 'target'), lockSignal }
    const { problems, files } = await loadDirectory(vault, where, { onProblem: 'continue' })
    expect(problems.map(({ path, failure }) => [path, failure.code])).toEqual([
      ['huge', 'object_damaged'],
      ['lost', 'object_missing'],
    ])
    expect(files).toBe(1)
    expect(await readdir(join(home, 'target'))).toEqual(['fine'])
  })
})
