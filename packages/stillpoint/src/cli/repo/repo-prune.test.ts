/** Options of `stillpoint repo prune`, with the real restic as the judge of what it leaves. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { hasRestic, makeBench, type RepoBench } from './repo-workbench.ts'

let bench: RepoBench
beforeAll(async () => {
  bench = await makeBench()
})
afterAll(() => bench.remove())

const rows = (text: string) => text.split('\n').filter((line) => line !== '')

describe.skipIf(!hasRestic)('prune [needs restic]', () => {
  test('small packs by size, and without room', async () => {
    const packs = async () => rows(await bench.ok('list', 'packs')).length
    for (const day of ['monday', 'tuesday', 'wednesday']) {
      await writeFile(join(bench.source, 'day'), day)
      await bench.ok('backup', 'source')
    }
    const before = await packs()
    const planned = async (...flags: readonly string[]) =>
      Number(Object((await bench.json('prune', '--dry-run', ...flags))[0])['packsRepacked'])
    expect(await planned()).toBe(0)
    expect(await planned('--repack-smaller-than', '10')).toBe(0)
    expect(await planned('--repack-smaller-than', '1m')).toBeGreaterThan(5)
    await bench.ok('prune', '--repack-smaller-than', '1m')
    expect(await packs()).toBeLessThan(before - 3)
    for (const wrong of ['0', '17m', 'small']) {
      expect(await bench.ours('prune', '--repack-smaller-than', wrong)).toMatchObject({ code: 2, stdout: '' })
    }
    const refused = await bench.ours('prune', '--unsafe-recover-no-free-space', 'SOME-ID')
    expect(refused).toMatchObject({ code: 2, stdout: '' })
    const { id } = JSON.parse(await bench.restic('cat', 'config'))
    expect(refused.stderr.replace(/\s+/g, ' ')).toContain(`The id is ${id}.`)
    await bench.ok('forget', '--keep-last', '1', '--repack-smaller-than', '1m')
    const [pruned] = await bench.json('prune', '--unsafe-recover-no-free-space', id)
    expect(pruned).toMatchObject({ packsRepacked: 0, wasFull: false })
    expect(await bench.restic('check', '--read-data')).toContain('no errors were found')
  })
})
