/** Zip archives as the real unzip and Python's zipfile read them. */
import { execFile } from 'node:child_process'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { nameFromBytes } from '../format/node-name.ts'
import { collected, fingerprint, newRepository, newVault, scratch, seeded } from '../testing/testbed.ts'
import { collectedUntilFailure, damageData } from './archive-testbed.ts'
import { zipOf } from './zip.ts'

const run = promisify(execFile)
const random = seeded(5).bytes(3 << 20)
const text = Buffer.from('compressible '.repeat(300_000))
const mtime = BigInt(Date.UTC(2021, 4, 6, 7, 8, 9)) * 1_000_000n

/** What Python's zipfile finds: names, sizes, modes, CRC of all that is in it. */
const python = `
import sys, zipfile, json, hashlib
with zipfile.ZipFile(sys.argv[1]) as archive:
    assert archive.testzip() is None
    print(json.dumps([[i.filename, i.file_size, i.external_attr >> 16, i.compress_type, hashlib.sha256(archive.read(i)).hexdigest()[:8]] for i in archive.infolist()]))
`

async function readByPython(path: string): Promise<readonly (readonly unknown[])[]> {
  const { stdout } = await run('python3', ['-c', python, path], { maxBuffer: 1 << 26 })
  return JSON.parse(stdout)
}

/** Neither reader takes what was written before a failure for an archive. */
async function requireNoArchive(path: string, written: Buffer): Promise<void> {
  const zip = join(path, 'broken.zip')
  await writeFile(zip, written)
  const stdout = expect.stringContaining('End-of-central-directory signature not found')
  await expect(run('unzip', ['-t', zip])).rejects.toMatchObject({ stdout })
  await expect(readByPython(zip)).rejects.toThrow('BadZipFile')
}

async function archived(wideBytesMin?: number) {
  const path = await scratch()
  const repository = await newRepository(join(path, 'repository'))
  const save = await repository.startSave()
  const file = async (name: string, bytes: Buffer, permissions = 0o644) =>
    ({ name, type: 'file', permissions, mtime, uid: 7, gid: 100_000, ...(await save.saveBytes(bytes)) }) as const
  const below = await save.saveTree([
    await file('large', text, 0o4755),
    await file('random', random),
    { name: 'pipe', type: 'fifo', permissions: 0o600, mtime },
  ])
  const tree = await save.saveTree([
    await file('empty', Buffer.alloc(0)),
    await file('ümläut', Buffer.from('hello')),
    await file('a name with spaces and "quotes"', Buffer.from('x'.repeat(1000)), 0o600),
    { name: 'below', type: 'dir', subtree: below, permissions: 0o1750, mtime },
    { name: 'link', type: 'symlink', target: 'below/large', permissions: 0o777, mtime },
  ])
  await save.finish()
  const vault = await newVault(join(path, 'repository'))
  const zip = join(path, 'archive.zip')
  await writeFile(zip, await collected(zipOf(vault, tree, wideBytesMin === undefined ? {} : { wideBytesMin })))
  return { path, zip }
}

describe('a zip archive', () => {
  test.each([[undefined], [1 << 20]])(
    'is what unzip and Python take it for (64 bits from %s on)',
    async (wideBytesMin) => {
      const { path, zip } = await archived(wideBytesMin)
      const entries = new Map((await readByPython(zip)).map(([name, ...rest]) => [name, rest]))
      expect([...entries.keys()].sort()).toEqual(
        ['a name with spaces and "quotes"', 'below/', 'below/large', 'below/random', 'empty', 'link', 'ümläut'].sort(),
      )
      expect(entries.get('below/large')?.slice(0, 3)).toEqual([text.length, 0o104755, 8])
      expect(entries.get('below/')?.[1]).toBe(0o041750)
      expect(entries.get('link')?.[1]).toBe(0o120777)
      expect((await run('unzip', ['-t', zip])).stdout).toContain('No errors detected')
      await run('unzip', ['-q', '-K', '-X', zip, '-d', join(path, 'out')])
      const found = await fingerprint(join(path, 'out'))
      expect(Object.keys(found)).toHaveLength(7)
      expect(found['/link']).toContain('below/large')
      expect(await readFile(join(path, 'out', 'below', 'random'))).toEqual(random)
      const large = await stat(join(path, 'out', 'below', 'large'))
      expect([large.mode & 0o7777, large.uid, large.gid, large.mtimeMs * 1e6]).toEqual([
        0o4755,
        7,
        100_000,
        Number(mtime),
      ])
      expect((await readFile(zip)).length).toBeLessThan(random.length + 100_000)
    },
  )

  test('of more entries than 16 bits count', async () => {
    const path = await scratch()
    const repository = await newRepository(join(path, 'repository'))
    const save = await repository.startSave()
    const names = Array.from({ length: 70_000 }, (_, at) => `file-${at}`)
    const tree = await save.saveTree(names.map((name) => ({ name, type: 'file', content: [], bytes: 0 })))
    await save.finish()
    const zip = join(path, 'archive.zip')
    await writeFile(zip, await collected(repository.upkeep.zip(tree)))
    expect(await readByPython(zip)).toHaveLength(70_000)
    expect((await run('unzip', ['-l', zip], { maxBuffer: 1 << 26 })).stdout).toContain('70000 files')
  })

  test('has no size that is not the content’s, no name that leads elsewhere, and no path that is too long', async () => {
    const path = await scratch()
    const repository = await newRepository(join(path, 'repository'))
    const save = await repository.startSave()
    const { content } = await save.saveBytes(text)
    const lying = await save.saveTree([{ name: 'file', type: 'file', content, bytes: text.length - 1 }])
    const short = await save.saveTree([{ name: 'file', type: 'file', content, bytes: text.length + 1 }])
    let deep = await save.saveTree([])
    for (let level = 0; level < 300; level += 1) {
      deep = await save.saveTree([{ name: 'd'.repeat(250), type: 'dir', subtree: deep }])
    }
    const bytes = nameFromBytes(Buffer.of(0x66, 0xff))
    const odd = await save.saveTree([{ name: bytes, type: 'file', content: [], bytes: 0 }])
    await save.finish()
    const failing = { [lying]: 'object_damaged', [short]: 'object_damaged', [deep]: 'options_invalid' }
    for (const [tree, code] of Object.entries(failing)) {
      await expect(collected(repository.upkeep.zip(tree as typeof lying)), code).rejects.toMatchObject({ code })
    }
    // Not UTF-8: as it is, and not said to be.
    const archive = await collected(repository.upkeep.zip(odd))
    expect([archive.includes(Buffer.of(0x66, 0xff)), archive.readUInt16LE(6)]).toEqual([true, 0])
  })

  test.each([
    ['small', 1000, undefined],
    ['large', text.length, undefined],
    ['large, with 64 bits', text.length, 1 << 20],
  ])('of a %s file whose content is longer or shorter than it says fails, and is no archive', async (...of) => {
    const [, bytes, wideBytesMin] = of
    const path = await scratch()
    const repository = await newRepository(join(path, 'repository'))
    const save = await repository.startSave()
    const { content } = await save.saveBytes(text.subarray(0, bytes))
    const tree = (said: number) => save.saveTree([{ name: 'file', type: 'file', content, bytes: said }])
    const said = { [bytes - 1]: await tree(bytes - 1), [bytes + 1]: await tree(bytes + 1), 0: await tree(0) }
    await save.finish()
    const vault = await newVault(join(path, 'repository'))
    for (const [number, root] of Object.entries(said)) {
      const options = wideBytesMin === undefined ? {} : { wideBytesMin }
      const { bytes: written, error } = await collectedUntilFailure(zipOf(vault, root, options))
      expect(error).toMatchObject({ code: 'object_damaged' })
      expect(error?.message).toContain(`"/file" should have ${number} bytes`)
      await requireNoArchive(path, written)
    }
  })

  test('of damaged data fails, and is no archive', async () => {
    const path = await scratch()
    const repository = await newRepository(join(path, 'repository'))
    const save = await repository.startSave()
    const tree = await save.saveTree([{ name: 'file', type: 'file', ...(await save.saveBytes(random)) }])
    await save.finish()
    await damageData(join(path, 'repository'))
    const { bytes, error } = await collectedUntilFailure(repository.upkeep.zip(tree))
    expect(error).toMatchObject({ code: 'object_damaged' })
    await requireNoArchive(path, bytes)
  })

  test('nobody reads to the end of leaves nothing running', async () => {
    const path = await scratch()
    const repository = await newRepository(join(path, 'repository'))
    const save = await repository.startSave()
    const tree = await save.saveTree([{ name: 'file', type: 'file', ...(await save.saveBytes(text)) }])
    await save.finish()
    for await (const piece of repository.upkeep.zip(tree)) if (piece.length > 1000) break
    const abort = new AbortController()
    const aborted = async () => {
      for await (const _ of repository.upkeep.zip(tree, abort.signal)) abort.abort(new Error('enough'))
    }
    await expect(aborted()).rejects.toThrow('enough')
  })
})
