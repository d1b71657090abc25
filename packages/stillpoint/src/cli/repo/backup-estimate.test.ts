import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { hasManyEntries } from './backup-estimate.ts'

async function directory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'stillpoint-estimate-'))
  onTestFinished(() => rm(path, { recursive: true, force: true }))
  return path
}

async function fill(path: string, files: number): Promise<string> {
  await mkdir(path, { recursive: true })
  await Promise.all(Array.from({ length: files }, (_, at) => writeFile(join(path, `${at}`), '')))
  return path
}

test('512 entries are many, wherever they lie', async () => {
  const root = await directory()
  const few = await fill(join(root, 'few'), 255)
  expect(await hasManyEntries([few])).toBe(false)
  const inner = await fill(join(root, 'few', 'inner', 'most'), 254)
  expect(await hasManyEntries([few])).toBe(false) // 255 + two directories + 254
  expect(await hasManyEntries([root])).toBe(true)
  expect(await hasManyEntries([few, inner])).toBe(true)
})

test('files, and what is not there, are no entries of anything', async () => {
  const file = join(await fill(await directory(), 1), '0')
  expect(await hasManyEntries([file, '/no/such/place'])).toBe(false)
})
