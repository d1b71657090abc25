/** What a walk leaves behind where the operating system fails in its middle. */
import type { StatOptions } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, readlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { newRepository, scratch } from '../testing/testbed.ts'

/** What of this directory this process has open. */
async function openBelow(directory: string): Promise<readonly string[]> {
  const links = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''))
  return (await Promise.all(links)).filter((path) => path.startsWith(directory))
}

describe.skipIf(process.platform !== 'linux')('a directory whose status cannot be read [needs /proc]', () => {
  test('is reported, the rest is saved, and nothing stays open', async () => {
    const home = await scratch()
    const source = join(home, 'source')
    for (const name of ['a', 'b', 'c']) {
      await mkdir(join(source, name), { recursive: true })
      await writeFile(join(source, name, 'file'), name)
    }
    const repository = await newRepository(join(home, 'repository'))
    const save = await repository.startSave()
    await using probe = await open(home)
    const handles: FileHandle = Object.getPrototypeOf(probe)
    const { stat } = handles
    // As a network file system answers where its server has failed between two calls.
    async function failingStat(this: FileHandle, options?: StatOptions) {
      if ((await readlink(`/proc/self/fd/${this.fd}`)) !== join(source, 'b')) return stat.call(this, options)
      throw Object.assign(new Error('EIO: i/o error, fstat'), { code: 'EIO' })
    }
    Object.assign(handles, { stat: failingStat })
    try {
      const { tree, errors } = await save.saveDirectory(source)
      expect(errors.map(({ path, failure }) => [path, failure.code])).toEqual([['b', 'storage_failed']])
      await save.finish()
      expect((await repository.resolve(tree, 'c/file')).type).toBe('file')
    } finally {
      Object.assign(handles, { stat })
    }
    expect(await openBelow(source)).toEqual([])
  })
})
