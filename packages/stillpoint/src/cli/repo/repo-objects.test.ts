/** Looking into a repository, rewriting and recovering with `stillpoint repo`, beside the real restic; coverage of checks. */
import { readdir } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { indented } from './cat.ts'
import { hasRestic, makeBench, type RepoBench } from './repo-workbench.ts'

let bench: RepoBench
beforeAll(async () => {
  bench = await makeBench()
})
afterAll(() => bench.remove())

const lines = (text: string) =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .sort()

describe.skipIf(!hasRestic)('stillpoint repo, beside restic [needs restic]', () => {
  test('list and cat print the same', async () => {
    await bench.restic('backup', 'source', '--quiet', '--tag', 'a,b')
    for (const kind of ['snapshots', 'packs', 'keys', 'blobs']) {
      expect(lines(await bench.ok('list', kind)), kind).toEqual(lines(await bench.restic('list', kind)))
    }
    const [snapshot = ''] = lines(await bench.ok('list', 'snapshots'))
    expect(await bench.ok('cat', 'snapshot', snapshot.slice(0, 8))).toBe(
      await bench.restic('cat', 'snapshot', snapshot),
    )
    expect(await bench.ok('cat', 'config')).toBe(await bench.restic('cat', 'config'))
    const blobs = lines(await bench.ok('list', 'blobs'))
    const data = blobs.find((line) => line.startsWith('data ')) ?? ''
    expect(await bench.ok('cat', 'blob', data.slice(5))).toBe(await bench.restic('cat', 'blob', data.slice(5)))
    expect(await bench.ours('cat', 'snapshot')).toMatchObject({ code: 2, stdout: '' })
    expect(await bench.ours('cat', 'blob', '0'.repeat(64))).toMatchObject({ code: 1, stdout: '' })
  })

  test('rewrite leaves out, and restic finds the rest whole', async () => {
    expect(await bench.ok('rewrite', '--exclude', '*.log', '--dry-run')).toContain('nothing was changed')
    const [rewritten] = await bench.json('rewrite', '--exclude', '*.log')
    expect(rewritten).toMatchObject({ message_type: 'rewritten', excluded: ['/source/below/b.log'] })
    const paths = await bench.restic('ls', 'latest', '--tag', 'rewrite')
    expect(paths).toContain('/source/a.txt')
    expect(paths).not.toContain('b.log')
    await bench.ok('rewrite', '--exclude', '*.log', '--forget')
    const [snapshots] = (await bench.json('snapshots')) as [readonly { readonly original?: string }[]]
    expect(snapshots).toHaveLength(2)
    expect(snapshots.every(({ original }) => original !== undefined)).toBe(true)
    expect(await bench.restic('check', '--read-data')).toContain('no errors were found')
    expect((await bench.ours('rewrite')).code).toBe(2)
  })

  test('what was forgotten by mistake is recovered', async () => {
    expect(await bench.ok('recover')).toContain('saved new snapshot') // what the rewriting has left behind
    await bench.ok('forget', '--host', hostname(), '--unsafe-allow-remove-all')
    expect(await bench.ok('recover')).toContain('saved new snapshot')
    const found = await bench.restic('ls', 'latest', '--tag', 'recovered')
    expect(found).toContain('/source/below/b.log')
    expect(await bench.ok('recover')).toContain('no snapshot to write')
    expect(await bench.restic('check', '--read-data')).toContain('no errors were found')
  })

  test('a budget goes round the data, and says how far it is', async () => {
    const check = async (...flags: readonly string[]) => (await bench.json('check', ...flags)).at(-1)
    const packs = (await readdir(join(bench.directory, 'repository', 'data'), { recursive: true })).filter((name) =>
      /[0-9a-f]{64}$/.test(name),
    )
    const first = await check('--read-data-budget', '1')
    expect(first).toMatchObject({ packs_read: 1, coverage: { packs: packs.length, packs_never: packs.length - 1 } })
    const rest = await check('--read-data-budget', '100%', '--coverage-days', '2')
    expect(rest).toMatchObject({ coverage: { packs_within: packs.length, packs_never: 0, within_days: 2 } })
    expect(await bench.ok('check')).toMatch(/read within 30 days; oldest read 20.*; all has been read/)
    expect(await bench.ours('check', '--read-data-budget', '1', '--no-cache')).toMatchObject({ code: 2, stdout: '' })
    expect(await bench.ours('check', '--read-data-budget', 'much')).toMatchObject({ code: 2, stdout: '' })
    expect(await bench.ours('check', '--read-data-budget', '1', '--read-data')).toMatchObject({ code: 2, stdout: '' })
  })
})

test('JSON is indented and nothing in it changes', () => {
  const json = '{"a":[1,12345678901234567890,{}],"b":"{\\"x\\": [1,2]}\\\\","c":[],"d":null,"e":-1.5e3}'
  expect(JSON.parse(indented(json))).toEqual(JSON.parse(json))
  expect(indented(json)).toContain('12345678901234567890')
  expect(indented('{"a":{"b":[1,2]},"c":{}}')).toBe(JSON.stringify({ a: { b: [1, 2] }, c: {} }, null, 2))
})
