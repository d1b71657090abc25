/** What a walk leaves behind where the operating system fails in its middle. */
import fs, { type StatOptions } from 'node:fs'
import { mkdir, readdir, readlink, writeFile } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { newRepository, scratch } from '../testing/testbed.ts'

/** What of this directory this process has open. */
async function openBelow(directory: string): Promise<readonly string[]> {
  const links = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''))
  return (await Promise.all(links)).filter((path) => path.startsWith(directory))
}

describe.skipIf(process.platform !== 'linux')('a directory whose status cannot be read [needs /proc]', () => {
  test.each(['', 'in', 'in/deep'])('in %j is reported, the rest is saved, and nothing stays open', async (below) => {
    const home = await scratch()
    const source = join(home, 'source')
    for (const name of ['a', 'b', 'c']) {
      await mkdir(join(source, below, name), { recursive: true })
      await writeFile(join(source, below, name, 'file'), name)
    }
    const repository = await newRepository(join(home, 'repository'))
    const save = await repository.startSave()
    const { fstatSync } = fs
    // As a network file system answers where its server has failed between two calls.
    function failingStat(fd: number, options?: StatOptions) {
      if (fs.readlinkSync(`/proc/self/fd/${fd}`) !== join(source, below, 'b')) return fstatSync(fd, options)
      throw Object.assign(new Error('EIO: i/o error, fstat'), { code: 'EIO' })
    }
    // So little is done in this thread.
    Object.assign(fs, { fstatSync: failingStat })
    syncBuiltinESMExports()
    try {
      const { tree, errors } = await save.saveDirectory(source)
      expect(errors.map(({ path, failure }) => [path, failure.code])).toEqual([[join(below, 'b'), 'storage_failed']])
      await save.finish()
      expect((await repository.resolve(tree, join(below, 'c/file'))).type).toBe('file')
    } finally {
      Object.assign(fs, { fstatSync })
      syncBuiltinESMExports()
    }
    expect(await openBelow(source)).toEqual([])
  })
})
