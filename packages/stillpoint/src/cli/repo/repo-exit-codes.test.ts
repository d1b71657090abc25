/** Exit codes and environment of `stillpoint repo`. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openLocalStore, openRepository } from '@stillpoint/repository'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock, systemEntropy, systemRandom } from '../../system-env.ts'
import { run } from '../workbench.ts'
import { makeBench, type RepoBench } from './repo-workbench.ts'

let bench: RepoBench
beforeAll(async () => {
  bench = await makeBench()
})
afterAll(() => bench.remove())

describe('exit codes and environment', () => {
  test('10, 11 and 12, as restic; 2 for wrong usage', async () => {
    expect(await bench.ours('snapshots', '-r', join(bench.directory, 'nowhere'))).toMatchObject({
      code: 10,
      stdout: '',
    })
    await writeFile(join(bench.directory, 'wrong'), 'wrong', { mode: 0o600 })
    expect(await bench.ours('snapshots', '-p', 'wrong')).toMatchObject({ code: 12, stdout: '' })
    expect((await bench.ours('forget', '--keep-within', '1x')).code).toBe(2)
    expect((await bench.ours('forget', 'abc', '--keep-last', '1')).stderr).toContain('not both')
    await bench.ok('backup', 'source/a.txt')
    const all = await bench.ours('forget', '--keep-tag', 'nobody-has-it')
    expect(all).toMatchObject({ code: 1, stdout: '' })
    expect(all.stderr).toContain('error[forget_all_refused]')
  })

  test('11 while another program has the repository for itself, for all that would take a lock', async () => {
    const repository = await openRepository({
      store: openLocalStore(join(bench.directory, 'repository')),
      password: 'secret',
      clock: systemClock,
      random: systemRandom,
      entropy: systemEntropy,
    })
    await repository.withLock('exclusive', async () => {
      for (const line of ['backup source', 'check', 'forget latest', 'forget --keep-last 1', 'tag --add x', 'prune']) {
        const words = line.split(' ')
        const refused = await bench.ours(...words)
        expect(refused, line).toMatchObject({ code: 11, stdout: '' })
        expect(refused.stderr).toContain(`process ${process.pid}`)
      }
      expect(await bench.ours('snapshots', '--no-lock')).toMatchObject({ code: 0 })
    })
    await repository.close()
  })

  test('a password in the environment is taken with a warning', async () => {
    const { RESTIC_PASSWORD_FILE: file } = process.env
    delete process.env['RESTIC_PASSWORD_FILE']
    process.env['RESTIC_PASSWORD'] = 'secret'
    const { code, stderr } = await bench.ours('unlock')
    const none = await run(bench.directory, ['repo', 'unlock', '-p', 'missing'])
    delete process.env['RESTIC_PASSWORD']
    const missing = await bench.ours('unlock')
    process.env['RESTIC_PASSWORD_FILE'] = file
    expect(code).toBe(0)
    expect(stderr).toContain('stands in RESTIC_PASSWORD')
    expect(none.stderr).toContain('cannot be read')
    expect(missing).toMatchObject({ code: 2 })
  })
})
