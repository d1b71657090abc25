import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { hasTool, newRepository, restic, scratch, seeded, takeSnapshot } from './testbed.ts'

describe.skipIf(!hasTool('restic'))('written by us, read by restic [needs restic]', () => {
  test('check --read-data finds no error', async () => {
    const home = await scratch()
    const source = join(home, 'source')
    await mkdir(join(source, 'below'), { recursive: true })
    await writeFile(join(source, 'a'), 'hello')
    await writeFile(join(source, 'below', 'large'), seeded(7).bytes(5 << 20))
    const repository = await newRepository(join(home, 'repository'))
    await takeSnapshot(repository, source)
    expect(await restic(join(home, 'repository'), 'check', '--read-data')).toContain('no errors were found')
    console.log(await restic(join(home, 'repository'), 'ls', 'latest'))
    console.log(await repository.check({ readData: true }))
  })
})
