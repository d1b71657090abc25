/** What the vault refuses to stock restic: other users' repositories, deletes where it is append-only, more than a quota. */
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { restics } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemEntropy } from '../system-env.ts'
import { addToken, addUser, startVaultBench, type VaultBench } from './workbench.ts'

const isQuotaRefused = /507 The quota of quota is used up: \d+ of 1048576 bytes/
const isDeleteRefused = /Only locks may be deleted here/
for (const restic of restics)
  describe.skipIf(!restic.isHere)(`stock ${restic.name} [needs ${restic.name}]`, () => {
    let bench: VaultBench
    let source = ''
    let appendOnlyToken = ''

    beforeAll(async () => {
      bench = await startVaultBench({}, restic)
      source = join(bench.directory, 'source')
      await mkdir(join(source, 'sub'), { recursive: true })
      await writeFile(join(source, 'a.txt'), 'first\n'.repeat(1000))
      const noise = Buffer.alloc(2 << 20)
      systemEntropy.fill(noise)
      await writeFile(join(source, 'sub', 'noise'), noise)
      const usersFile = join(bench.root, '.users')
      await addUser(usersFile, { user: 'quota', quotaBytes: 1 << 20 })
      appendOnlyToken = await addToken(usersFile, 'alice', true)
      await bench.restart()
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

    test('a wrong password, a wrong user and a foreign repository are refused', async () => {
      for (const options of [{ secret: 'wrong' }, { user: 'mallory' }, { user: 'bob' }]) {
        const { code, stderr } = await bench.restic('/alice/mine/', ['snapshots'], options)
        expect(code).not.toBe(0)
        expect(stderr).toMatch(/40[13]/)
      }
    })

    test('an append-only token, and an append-only vault, add and delete nothing but locks', async () => {
      const path = '/alice/append/'
      const secret = appendOnlyToken
      await bench.makeRepository(path)
      expect((await bench.restic(path, ['backup', source], { secret })).code).toBe(0)
      expect(await readdir(join(bench.root, 'alice', 'append', 'locks'))).toEqual([])
      const [id = ''] = await snapshotsOf(path)
      const byToken = await bench.restic(path, ['forget', id], { secret, until: isDeleteRefused })
      expect(byToken.stderr).toMatch(isDeleteRefused)
      await bench.restart({ appendOnly: true })
      const byPassword = await bench.restic(path, ['forget', id], { until: isDeleteRefused })
      await bench.restart()
      expect(byPassword.stderr).toMatch(isDeleteRefused)
      // Interrupted, restic has removed its locks: those may go.
      expect(await readdir(join(bench.root, 'alice', 'append', 'locks'))).toEqual([])
      expect(await snapshotsOf(path)).toEqual([id])
      // The password of the same user may, where the vault lets it.
      await ok(path, 'forget', id)
      expect(await snapshotsOf(path)).toEqual([])
    })

    test('a quota stops a backup in words, keeps what was there, and can be emptied', async () => {
      const path = '/quota/'
      await bench.makeRepository(path)
      await ok(path, 'backup', join(source, 'a.txt'))
      const { stderr } = await bench.restic(path, ['backup', join(source, 'sub')], { until: isQuotaRefused })
      expect(stderr).toMatch(isQuotaRefused)
      await ok(path, 'unlock')
      const [first = ''] = await snapshotsOf(path)
      await ok(path, 'forget', first, '--prune')
      await ok(path, 'check', '--read-data')
    })
  })
