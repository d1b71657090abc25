/** Stock restic as the client of the vault, alone and in turns with our own repository over the same URL. */
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { initRepository, openRepository, retryingStore } from '@stillpoint/repository'
import { newerResticName, restics } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock, systemEntropy, systemRandom } from '../system-env.ts'
import { makeSource, repositoryPassword, resticOk, snapshotsOf, startVaultBench, type VaultBench } from './workbench.ts'

for (const restic of restics)
  describe.skipIf(!restic.isHere)(`stock ${restic.name} [needs ${restic.name}]`, () => {
    let bench: VaultBench
    let source = ''

    beforeAll(async () => {
      bench = await startVaultBench({}, restic)
      source = await makeSource(bench.directory, 3 << 20)
    })
    afterAll(() => bench[Symbol.asyncDispose]())

    describe('alone', () => {
      test('init, backup, check, restore, forget, prune', async () => {
        const path = '/alice/life/'
        await resticOk(bench, path, 'init')
        await resticOk(bench, path, 'backup', source)
        await writeFile(join(source, 'b.txt'), 'second')
        await resticOk(bench, path, 'backup', source)
        const target = join(bench.directory, 'restored')
        await resticOk(bench, path, 'restore', 'latest', '--target', target)
        for (const name of ['a.txt', 'b.txt', 'sub/noise']) {
          expect((await readFile(join(target, source, name))).equals(await readFile(join(source, name)))).toBe(true)
        }
        await resticOk(bench, path, 'forget', '--keep-last', '1', '--prune')
        expect(await snapshotsOf(bench, path)).toHaveLength(1)
        await resticOk(bench, path, 'check', '--read-data')
        expect(await readdir(join(bench.root, 'alice', '.uploads'))).toEqual([])
      })

      test('init where there is a repository, and without one, fails', async () => {
        await bench.makeRepository('/alice/twice/')
        expect((await bench.restic('/alice/twice/', ['init'])).code).toBe(1)
        // 0.14 has one code for all failures.
        const none = restic.name === newerResticName ? 10 : 1
        expect((await bench.restic('/alice/nowhere/', ['snapshots'])).code).toBe(none)
      })

      test('a backup that is killed while it uploads leaves nothing half, and the next one finishes', async () => {
        const path = '/alice/killed/'
        await bench.makeRepository(path)
        const killing = new AbortController()
        const uploads = join(bench.root, 'alice', '.uploads')
        const backup = bench.restic(path, ['backup', '--limit-upload', '256', source], { killed: killing.signal })
        // Packs only: the lock is written in an instant.
        const isUploading = async () =>
          (await Promise.all((await readdir(uploads)).map(sizeIn))).some((size) => size > 65_536)
        const sizeIn = async (name: string) => (await stat(join(uploads, name)).catch(() => undefined))?.size ?? 0
        await expect.poll(isUploading, { timeout: 20_000, interval: 20 }).toBe(true)
        killing.abort()
        expect((await backup).code).toBe(-1)
        await expect.poll(() => readdir(uploads), { timeout: 5000 }).toEqual([])
        await resticOk(bench, path, 'unlock')
        await resticOk(bench, path, 'backup', source)
        await resticOk(bench, path, 'check', '--read-data')
      })
    })

    describe('our repository over REST', () => {
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
        await resticOk(bench, path, 'check', '--read-data')
        await resticOk(bench, path, 'backup', source)
        await writeFile(join(source, 'c.txt'), 'third')
        await save()
        expect(await snapshotsOf(bench, path)).toHaveLength(3)
        const target = join(bench.directory, 'of-ours')
        await resticOk(bench, path, 'restore', ours, '--target', target)
        expect(await readFile(join(target, 'files', 'a.txt'), 'utf8')).toBe('first\n'.repeat(1000))
        await resticOk(bench, path, 'forget', '--keep-last', '1', '--group-by', '', '--prune')
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
  })
