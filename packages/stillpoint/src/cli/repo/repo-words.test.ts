/** Options that choose how things are written, with the real restic as the judge of what they leave. */
import { readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { hasRestic, makeBench, type RepoBench } from './repo-workbench.ts'

let bench: RepoBench
beforeAll(async () => {
  bench = await makeBench()
})
afterAll(() => bench.remove())
afterEach(() => vi.unstubAllEnvs())

const sizesOfPacks = async (repository: string) => {
  const entries = await readdir(join(bench.directory, repository, 'data'), { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  return Promise.all(files.map(async ({ parentPath, name }) => (await stat(join(parentPath, name))).size))
}

describe.skipIf(!hasRestic)('writing [needs restic]', () => {
  test('--compression, --pack-size and their variables', async () => {
    await writeFile(join(bench.source, 'text'), 'a line like the others\n'.repeat(400_000))
    const storedBytes = async (...flags: readonly string[]) => {
      const [summary] = (await bench.json('backup', 'source', '--force', '--dry-run', ...flags)).slice(-1)
      return Number(Object(summary)['data_added_packed'])
    }
    const off = await storedBytes('--compression', 'off')
    const auto = await storedBytes()
    expect(off).toBeGreaterThan(9_000_000)
    expect(auto).toBeLessThan(100_000)
    vi.stubEnv('RESTIC_COMPRESSION', 'off')
    expect(await storedBytes()).toBe(off)
    expect(await storedBytes('--compression', 'max')).toBeLessThanOrEqual(auto)
    const conflict = await bench.ours('prune', '--repack-uncompressed')
    expect(conflict).toMatchObject({ code: 2, stdout: '' })
    await bench.ok('backup', 'source', '--pack-size', '4', '--read-concurrency', '8')
    expect(Math.max(...(await sizesOfPacks('repository')))).toBeLessThan(13 << 20)
    expect((await sizesOfPacks('repository')).length).toBeGreaterThan(2)
    vi.stubEnv('RESTIC_COMPRESSION', 'most')
    expect((await bench.ours('snapshots')).stderr).toContain(
      'RESTIC_COMPRESSION="most": Give auto, off, fastest, better, max.',
    )
    vi.unstubAllEnvs()
    await bench.ok('prune', '--repack-uncompressed', '--compression', 'max')
    expect((await sizesOfPacks('repository')).reduce((sum, bytes) => sum + bytes, 0)).toBeLessThan(200_000)
    expect(await bench.restic('check', '--read-data')).toContain('no errors were found')
    expect((await bench.ours('backup', 'source', '--pack-size', '3')).code).toBe(2)
    vi.stubEnv('RESTIC_READ_CONCURRENCY', 'many')
    expect((await bench.ours('backup', 'source')).code).toBe(2)
  })

  test('init: chunker parameters of another repository, and an empty password', async () => {
    const second = join(bench.directory, 'second')
    const from = ['--from-repo', join(bench.directory, 'repository'), '--from-password-file', 'password']
    expect((await bench.ours('init', '-r', second, ...from)).code).toBe(2)
    const [made] = await bench.json('init', '-r', second, ...from, '--copy-chunker-params', '--repository-version', '2')
    expect(made).toMatchObject({ message_type: 'initialized', repository: second })
    const polynomial = async (...args: readonly string[]) =>
      JSON.parse(await bench.restic('cat', 'config', ...args)).chunker_polynomial
    expect(await polynomial('-r', second)).toBe(await polynomial())
    // What restic cuts in both is shared after a copy.
    await bench.restic('backup', 'source', '--quiet')
    await bench.ok('copy', '-r', second, ...from, 'latest')
    const again = (await bench.resticJson('backup', 'source', '-r', second, '--force')).at(-1)
    expect(again).toMatchObject({ data_blobs: 0 })
    vi.stubEnv('RESTIC_PASSWORD_FILE', undefined)
    const open = join(bench.directory, 'open')
    await bench.ok('init', '-r', open, '--insecure-no-password')
    expect(await bench.ok('list', 'keys', '-r', open, '--insecure-no-password')).toMatch(/^[0-9a-f]{64}\n$/)
    expect((await bench.ours('snapshots', '-r', open)).code).toBe(2)
    vi.unstubAllEnvs()
    expect((await bench.ours('snapshots', '-r', open)).code).toBe(12)
  })

  test('a backup without changes needs no snapshot; the parent may have another host', async () => {
    const snapshots = async () => ((await bench.json('snapshots')) as [readonly unknown[]])[0].length
    await bench.ok('backup', 'source')
    const before = await snapshots()
    const same = (await bench.json('backup', 'source', '--skip-if-unchanged')).at(-1)
    expect(same).not.toHaveProperty('snapshot_id')
    expect(await snapshots()).toBe(before)
    await writeFile(join(bench.source, 'one more'), 'x')
    const changed = (await bench.json('backup', 'source', '--skip-if-unchanged')).at(-1)
    expect(changed).toMatchObject({ files_new: 1, snapshot_id: expect.stringMatching(/^[0-9a-f]{64}$/) })
    const elsewhere = async (...flags: readonly string[]) =>
      (await bench.json('backup', 'source', '--host', 'other', '--dry-run', ...flags)).at(-1)
    expect(await elsewhere()).toMatchObject({ files_unmodified: 0 })
    expect(await elsewhere('--group-by', 'paths')).toMatchObject({ files_new: 0, files_changed: 0 })
  })

  test('--no-extra-verify, before the word or behind it', async () => {
    await writeFile(join(bench.source, 'more'), 'more')
    await bench.ok('--no-extra-verify', 'backup', 'source')
    await writeFile(join(bench.source, 'more'), 'much more')
    await bench.ok('backup', '--no-extra-verify', 'source')
    expect(await bench.restic('check', '--read-data')).toContain('no errors were found')
  })
})
