/** Stock restic as the client of the vault, alone and in turns with our own repository over the same URL. */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { initRepository, openRepository, retryingStore } from '@stillpoint/repository'
import { hasTool } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock, systemEntropy, systemRandom } from '../system-env.ts'
import { startVaultBench, type VaultBench } from './workbench.ts'

const repositoryPassword = 'of the repository'
let bench: VaultBench
let source = ''

beforeAll(async () => {
  bench = await startVaultBench()
  source = join(bench.directory, 'source')
  await mkdir(join(source, 'sub'), { recursive: true })
  await writeFile(join(source, 'a.txt'), 'first\n'.repeat(1000))
  const noise = Buffer.alloc(3 << 20)
  systemEntropy.fill(noise)
  await writeFile(join(source, 'sub', 'noise'), noise)
})
afterAll(() => bench[Symbol.asyncDispose]())

async function snapshotsOf(path: string): Promise<readonly string[]> {
  const { stdout } = await bench.restic(path, ['snapshots', '--json'])
  const parsed: unknown = JSON.parse(stdout)
  if (!Array.isArray(parsed)) throw new Error(stdout)
  return parsed.map((each: { readonly id: string }) => each.id)
}

async function ok(path: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await bench.restic(path, args)
  expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' })
  return stdout
}

describe.skipIf(!hasTool('restic'))('stock restic [needs restic]', () => {
  test('init, backup, check, restore, forget, prune', async () => {
    const path = '/alice/life/'
    await ok(path, 'init')
    await ok(path, 'backup', source)
    await writeFile(join(source, 'b.txt'), 'second')
    await ok(path, 'backup', source)
    const target = join(bench.directory, 'restored')
    await ok(path, 'restore', 'latest', '--target', target)
    for (const name of ['a.txt', 'b.txt', 'sub/noise']) {
      expect((await readFile(join(target, source, name))).equals(await readFile(join(source, name)))).toBe(true)
    }
    await ok(path, 'forget', '--keep-last', '1', '--prune')
    expect(await snapshotsOf(path)).toHaveLength(1)
    await ok(path, 'check', '--read-data')
    expect(await readdir(join(bench.root, 'alice', '.uploads'))).toEqual([])
  })

  test('init where there is a repository, and without one, fails', async () => {
    await ok('/alice/twice/', 'init')
    expect((await bench.restic('/alice/twice/', ['init'])).code).toBe(1)
    expect((await bench.restic('/alice/nowhere/', ['snapshots'])).code).toBe(1)
  })
})

describe.skipIf(!hasTool('restic'))('our repository over REST [needs restic]', () => {
  async function open(path: string) {
    const store = retryingStore(await bench.store(path), { clock: systemClock, random: systemRandom })
    return { store, world: { store, password: repositoryPassword, clock: systemClock, entropy: systemEntropy } }
  }

  test('restic reads what we write, and we read what restic writes, in turns', async () => {
    const path = '/bob/turns/'
    const { world } = await open(path)
    await initRepository({ ...world, scryptCost: { n: 1024, r: 8, p: 1 } })
    const save = async () => {
      const repository = await openRepository({ ...world, random: systemRandom })
      const running = await repository.startSave()
      const saved = await running.saveDirectory(source)
      await running.finish()
      return repository.seal({
        time: BigInt(systemClock.wallMs()) * 1_000_000n,
        paths: [source],
        hostname: 'test-host',
        username: 'tester',
        tags: ['test'],
        trees: { files: saved.tree },
        programVersion: 'stillpoint test',
      })
    }
    const ours = await save()
    await ok(path, 'check', '--read-data')
    await ok(path, 'backup', source)
    await writeFile(join(source, 'c.txt'), 'third')
    await save()
    expect(await snapshotsOf(path)).toHaveLength(3)
    const target = join(bench.directory, 'of-ours')
    await ok(path, 'restore', ours, '--target', target)
    expect(await readFile(join(target, 'files', 'a.txt'), 'utf8')).toBe('first\n'.repeat(1000))
    await ok(path, 'forget', '--keep-last', '1', '--group-by', '', '--prune')
    const repository = await openRepository({ ...world, random: systemRandom })
    const [kept] = await repository.snapshots()
    expect(await repository.snapshots()).toHaveLength(1)
    const report = await repository.check({ readData: true })
    expect(report.problems).toEqual([])
    const back = join(bench.directory, 'loaded')
    await rm(back, { recursive: true, force: true })
    if (kept === undefined) throw new Error('no snapshot is left')
    await repository.loadDirectory(kept.tree, back)
    expect(await readFile(join(back, 'files', 'c.txt'), 'utf8')).toBe('third')
  })
})
