/** How what is written is packed: compression and sizes of packs, as the real restic sees them. */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { openLocalStore } from '../blob/local-store.ts'
import { openRepository, openVault } from '../repository.ts'
import { hasTool, newRepository, password, restic, scratch, seeded, world } from '../testing/testbed.ts'
import type { CompressionMode } from '../write-settings.ts'

const text = Buffer.from('a line that is like the next one, but for its number: 1234567890\n'.repeat(3000))
const random = seeded(7).bytes(64 << 10)

/** Saves compressible text and a tree that names it; what is stored of each type. */
async function stored(compression: CompressionMode) {
  const path = await scratch()
  await newRepository(path)
  const options = { store: openLocalStore(path), password, ...world, compression }
  const repository = await openRepository(options)
  const save = await repository.startSave()
  const content = [...(await save.saveBytes(text)).content, ...(await save.saveBytes(random)).content]
  const names = Array.from({ length: 50 }, (_, at) => ({ name: `file-${at}`, type: 'file' as const }))
  const tree = await save.saveTree(names.map((entry) => ({ ...entry, content, bytes: text.length + random.length })))
  await save.finish()
  const trees = { files: tree }
  await repository.seal({ time: 0n, paths: ['/files'], hostname: 'host', username: 'user', trees })
  const vault = await openVault(options)
  const [place] = vault.index.blobs.places(tree, 'tree')
  const lengths = content.map((id) => vault.index.blobs.places(id, 'data')[0])
  return { path, repository, treePlainBytes: place?.plainBytes, lengths }
}

describe('compression', () => {
  test.each(['auto', 'off', 'fastest', 'better', 'max'] as const)('%s', async (mode) => {
    const { path, treePlainBytes, lengths } = await stored(mode)
    const isCompressed = lengths.map((place) => place?.plainBytes !== undefined)
    expect(treePlainBytes).toBeGreaterThan(0)
    // Of the random bytes nothing is won in any mode.
    if (mode === 'off') expect(isCompressed).not.toContain(true)
    else expect([isCompressed[0], isCompressed.at(-1)]).toEqual([true, false])
    if (hasTool('restic')) expect(await restic(path, 'check', '--read-data')).toContain('no errors were found')
  })

  test('max is smaller; a prune compresses what was not', async () => {
    const bytesOf = (lengths: Awaited<ReturnType<typeof stored>>['lengths']) =>
      lengths.reduce((sum, place) => sum + (place?.length ?? 0), 0)
    const off = await stored('off')
    const sizes = [off, await stored('auto'), await stored('max')].map(({ lengths }) => bytesOf(lengths))
    expect(sizes[2]).toBeLessThanOrEqual(sizes[1] ?? 0)
    expect(sizes[1]).toBeLessThan(sizes[0] ?? 0)
    const later = await openRepository({ store: openLocalStore(off.path), password, ...world, compression: 'max' })
    const { toRepack } = await later.upkeep.prune({ repackUncompressed: true })
    expect(toRepack.blobs).toBeGreaterThan(0)
    const { totalBytes } = await later.upkeep.stats({ mode: 'raw-data', snapshots: await later.snapshots() })
    expect(totalBytes).toBeLessThan(sizes[0] ?? 0)
  })
})

describe('sizes of packs', () => {
  test('are what was asked for', async () => {
    const sizesOf = async (packBytes: number) => {
      const path = await scratch()
      await newRepository(path)
      const repository = await openRepository({ store: openLocalStore(path), password, ...world, packBytes })
      const save = await repository.startSave()
      const source = seeded(3)
      await save.saveStream(
        (async function* () {
          for (let at = 0; at < 60; at += 1) yield source.bytes(1 << 20)
        })(),
      )
      await save.finish()
      const names = await readdir(join(path, 'data'), { recursive: true, withFileTypes: true })
      const files = names.filter((entry) => entry.isFile())
      return Promise.all(files.map(async ({ parentPath, name }) => (await stat(join(parentPath, name))).size))
    }
    const small = await sizesOf(4 << 20)
    const large = await sizesOf(32 << 20)
    // The last of each round is what is left over.
    expect(small.filter((bytes) => bytes < 4 << 20).length).toBeLessThanOrEqual(1)
    expect(Math.max(...small)).toBeLessThan(14 << 20)
    expect(large.length).toBeLessThan(small.length / 2)
    expect(Math.max(...large)).toBeGreaterThan(32 << 20)
  })

  test('have bounds', async () => {
    const path = await scratch()
    await newRepository(path)
    const open = (packBytes: number) => openRepository({ store: openLocalStore(path), password, ...world, packBytes })
    await expect(open((4 << 20) - 1)).rejects.toMatchObject({ code: 'options_invalid' })
    await expect(open((128 << 20) + 1)).rejects.toMatchObject({ code: 'options_invalid' })
  })
})
