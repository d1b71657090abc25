import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { type Estimate, estimate } from './backup-estimate.ts'

async function counted(targets: readonly string[], rules: Parameters<typeof estimate>[1]): Promise<Estimate> {
  const into: Estimate = { files: 0, bytes: 0, isComplete: false }
  await estimate(targets, rules, { into, signal: new AbortController().signal })
  return into
}

test('what the rules leave out is not counted, and what cannot be asked about stops nothing', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'stillpoint-estimate-'))
  onTestFinished(() => rm(directory, { recursive: true }))
  await mkdir(join(directory, 'below'))
  await mkdir(join(directory, 'marked'))
  for (const name of ['a', 'below/b.x', 'below/c', 'marked/mark', 'marked/d'])
    await writeFile(join(directory, name), 'text')
  expect(await counted([directory, join(directory, 'none')], undefined)).toEqual({
    files: 5,
    bytes: 20,
    isComplete: true,
  })
  const rules = { patterns: [{ text: '*.x' }], markers: [{ name: 'mark', header: 'te' }] }
  expect(await counted([directory], rules)).toEqual({ files: 3, bytes: 12, isComplete: true })
  // On no device that there is: each directory is asked about, too.
  const elsewhere = { patterns: [], fileSystems: [{ path: directory, device: -1n }] }
  expect(await counted([directory, '/none/at/all'], elsewhere)).toMatchObject({ files: 0, isComplete: true })
})
