/** Tar archives as the real tar and Python's tarfile read them. */
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { collected, newRepository, scratch, seeded } from '../testing/testbed.ts'
import { collectedUntilFailure, damageData } from './archive-testbed.ts'

const run = promisify(execFile)

/** What Python's tarfile finds of each entry. */
const python = `
import sys, tarfile, json
with tarfile.open(sys.argv[1]) as archive:
    print(json.dumps([[i.name, i.size, i.mtime, i.uid, i.uname, i.gname, i.pax_headers] for i in archive]))
`

async function readByPython(path: string): Promise<readonly unknown[]> {
  const { stdout } = await run('python3', ['-c', python, path])
  return JSON.parse(stdout)
}

/** What was written before a failure ends in the middle of an entry, and tar says so. */
async function requireNoArchive(path: string, written: Buffer): Promise<void> {
  const tar = join(path, 'broken.tar')
  await writeFile(tar, written)
  // Its words differ by where it ends; 2 is its code for what it cannot recover from.
  await expect(run('tar', ['-tf', tar])).rejects.toMatchObject({ code: 2 })
}

describe('a tar archive', () => {
  test('keeps times, names of users and attributes that its first headers have no room for', async () => {
    const path = await scratch()
    const repository = await newRepository(join(path, 'repository'))
    const save = await repository.startSave()
    const file = { type: 'file', content: [], bytes: 0 } as const
    const seconds = (value: number) => BigInt(value) * 1_000_000_000n
    const [long, same] = [`${'u'.repeat(31)}r`, 'u'.repeat(31)]
    const tree = await save.saveTree([
      { ...file, name: 'after 2242', mtime: seconds(8 ** 11) },
      { ...file, name: 'before 1970', mtime: -1_500_000_000n },
      { ...file, name: 'last of 2242', mtime: seconds(8 ** 11 - 1), uid: 8 ** 7 },
      { ...file, name: 'long', mtime: 0n, user: long, group: `${'ü'.repeat(15)}xx` },
      { ...file, name: 'odd', mtime: 0n, extendedAttributes: [{ name: 'user.a=b%3D', value: Buffer.from('x=y') }] },
      { ...file, name: 'same', mtime: 0n, user: same, group: same },
    ])
    await save.finish()
    const tar = join(path, 'archive.tar')
    await writeFile(tar, await collected(repository.upkeep.tar(tree)))
    expect(await readByPython(tar)).toEqual([
      ['after 2242', 0, 8 ** 11, 0, '', '', { mtime: `${8 ** 11}` }],
      ['before 1970', 0, -1.5, 0, '', '', { mtime: '-1.5' }],
      ['last of 2242', 0, 8 ** 11 - 1, 8 ** 7, '', '', { uid: `${8 ** 7}` }],
      ['long', 0, 0, 0, long, `${'ü'.repeat(15)}xx`, { uname: long, gname: `${'ü'.repeat(15)}xx` }],
      ['odd', 0, 0, 0, '', '', { 'SCHILY.xattr.user.a%3Db%253D': 'x=y' }],
      ['same', 0, 0, 0, same, same, {}],
    ])
    const { stdout } = await run('tar', ['--xattrs', '--xattrs-include=*', '-tvvf', tar])
    expect(stdout).toMatch(/x: +3 user\.a=b%3D\n/)
    expect(stdout).toContain(`${long}/`)
  })

  test('has no size that is not the content’s, and no end where its content is damaged', async () => {
    const path = await scratch()
    const repository = await newRepository(join(path, 'repository'))
    const save = await repository.startSave()
    const saved = await save.saveBytes(seeded(6).bytes(3 << 20))
    const file = (name: string, bytes: number) => save.saveTree([{ name, type: 'file', content: saved.content, bytes }])
    const whole = await file('whole', saved.bytes)
    const failing = { short: await file('short', saved.bytes + 1), long: await file('long', saved.bytes - 1) }
    await save.finish()
    for (const [name, tree] of Object.entries(failing)) {
      const { error, bytes } = await collectedUntilFailure(repository.upkeep.tar(tree))
      expect(error, name).toMatchObject({ code: 'object_damaged' })
      expect(error?.message, name).toContain(`"/${name}" should have `)
      await requireNoArchive(path, bytes)
    }
    await writeFile(join(path, 'archive.tar'), await collected(repository.upkeep.tar(whole)))
    expect((await run('tar', ['-tf', join(path, 'archive.tar')])).stdout).toBe('whole\n')

    await damageData(join(path, 'repository'))
    const { error, bytes } = await collectedUntilFailure(repository.upkeep.tar(whole))
    expect(error).toMatchObject({ code: 'object_damaged' })
    await requireNoArchive(path, bytes)
  })
})
