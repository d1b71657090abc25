/** What the vault refuses to stock restic: other users' repositories, deletes where it is append-only, more than a quota. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { restics } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { addToken, addUser, makeSource, resticOk, snapshotsOf, startVaultBench, type VaultBench } from './workbench.ts'

const isQuotaRefused = /507 The quota of quota is used up: \d+ of 1048576 bytes/
const isDeleteRefused = /Only locks may be deleted here/
for (const restic of restics)
  describe.skipIf(!restic.isHere)(`stock ${restic.name} [needs ${restic.name}]`, () => {
    let bench: VaultBench
    let source = ''
    let appendOnlyToken = ''

    beforeAll(async () => {
      bench = await startVaultBench({}, restic)
      source = await makeSource(bench.directory, 2 << 20)
      const usersFile = join(bench.root, '.users')
      await addUser(usersFile, { user: 'quota', quotaBytes: 1 << 20 })
      appendOnlyToken = await addToken(usersFile, 'alice', true)
      await bench.restart()
    })
    afterAll(() => bench[Symbol.asyncDispose]())

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
      const [id = ''] = await snapshotsOf(bench, path)
      const byToken = await bench.restic(path, ['forget', id], { secret, until: isDeleteRefused })
      expect(byToken.stderr).toMatch(isDeleteRefused)
      await bench.restart({ appendOnly: true })
      const byPassword = await bench.restic(path, ['forget', id], { until: isDeleteRefused })
      await bench.restart()
      expect(byPassword.stderr).toMatch(isDeleteRefused)
      // Interrupted, restic has removed its locks: those may go.
      expect(await readdir(join(bench.root, 'alice', 'append', 'locks'))).toEqual([])
      expect(await snapshotsOf(bench, path)).toEqual([id])
      // The password of the same user may, where the vault lets it.
      await resticOk(bench, path, 'forget', id)
      expect(await snapshotsOf(bench, path)).toEqual([])
    })

    test('a quota stops a backup in words, keeps what was there, and can be emptied', async () => {
      const path = '/quota/'
      await bench.makeRepository(path)
      await resticOk(bench, path, 'backup', join(source, 'a.txt'))
      const { stderr } = await bench.restic(path, ['backup', join(source, 'sub')], { until: isQuotaRefused })
      expect(stderr).toMatch(isQuotaRefused)
      await resticOk(bench, path, 'unlock')
      const [first = ''] = await snapshotsOf(bench, path)
      await resticOk(bench, path, 'forget', first, '--prune')
      await resticOk(bench, path, 'check', '--read-data')
    })
  })
