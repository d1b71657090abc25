/** The cache of `stillpoint repo`: where it is, and that the real restic and it can share one. */
import { chmod, mkdir, readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type CacheOptions, cacheSettings } from './cache-settings.ts'
import { hasRestic, makeBench, type RepoBench } from './repo-workbench.ts'

let bench: RepoBench
let cache: string
beforeAll(async () => {
  bench = await makeBench()
  cache = join(bench.directory, 'cache')
})
afterAll(() => bench.remove())

const namesIn = async (path: string): Promise<readonly string[]> =>
  (await readdir(path, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && /^[0-9a-f]{64}$/.test(entry.name))
    .map(({ name }) => name)
    .sort()

/** Of the one repository that is in it. */
async function cacheOfRepository(): Promise<string> {
  const [id = ''] = (await readdir(cache)).filter((name) => /^[0-9a-f]{64}$/.test(name))
  return join(cache, id)
}

const inRepository = (folder: string) => namesIn(join(bench.directory, 'repository', folder))

describe('a cache that is named', () => {
  test('has indexes, snapshots and packs of trees, for its owner only', async () => {
    await bench.ok('backup', 'source')
    await bench.ok('ls', 'latest')
    const own = await cacheOfRepository()
    expect(await namesIn(join(own, 'index'))).toEqual(await inRepository('index'))
    expect(await namesIn(join(own, 'snapshots'))).toEqual(await inRepository('snapshots'))
    expect(await namesIn(join(own, 'data'))).toHaveLength(1)
    expect((await stat(own)).mode & 0o777).toBe(0o700)
  })

  test('is repaired where it is damaged', async () => {
    const own = await cacheOfRepository()
    const listed = await bench.ok('ls', 'latest')
    for (const folder of ['index', 'snapshots', 'data']) {
      for (const name of await namesIn(join(own, folder))) {
        await writeFile(join(own, folder, name.slice(0, 2), name), 'not what it was')
      }
    }
    expect(await bench.ok('ls', 'latest')).toBe(listed)
    for (const folder of ['index', 'snapshots', 'data']) {
      for (const name of await namesIn(join(own, folder))) {
        const [kept, original] = await Promise.all(
          [join(own, folder), join(bench.directory, 'repository', folder)].map(async (base) =>
            readFile(folder === 'data' || base.startsWith(own) ? join(base, name.slice(0, 2), name) : join(base, name)),
          ),
        )
        expect(kept).toEqual(original)
      }
    }
  })

  test('hides nothing from a check: what is damaged in the repository is found, whatever is kept of it', async () => {
    const [name = ''] = await inRepository('index')
    const file = join(bench.directory, 'repository', 'index', name)
    const sound = await readFile(file)
    await chmod(file, 0o600)
    await writeFile(file, 'damaged')
    const { code, stderr, stdout } = await bench.ours('check')
    expect({ code, names: (stdout + stderr).includes(name) }).toEqual({ code: 1, names: true })
    await writeFile(file, sound)
    await bench.ok('check', '--read-data')
  })

  test('is not touched with --no-cache', async () => {
    await bench.ok('ls', 'latest', '--no-cache', '--cache-dir', 'elsewhere')
    await expect(stat(join(bench.directory, 'elsewhere'))).rejects.toThrow('ENOENT')
    await bench.ok('ls', 'latest', '--cache-dir', 'elsewhere')
    expect((await stat(join(bench.directory, 'elsewhere', 'CACHEDIR.TAG'))).mode & 0o777).toBe(0o600)
  })

  test('that cannot be made is done without, with a warning', async () => {
    await writeFile(join(bench.directory, 'a file'), '')
    const { code, stderr } = await bench.ours('ls', 'latest', '--cache-dir', join('a file', 'below'))
    expect({ code, warns: stderr.includes('continuing without the cache') }).toEqual({ code: 0, warns: true })
  })

  test('serves two at the same time', async () => {
    await mkdir(join(bench.directory, 'shared'))
    const both = await Promise.all([1, 2].map(() => bench.ok('ls', 'latest', '--cache-dir', 'shared')))
    expect(both[0]).toBe(both[1])
    expect(
      (await readdir(join(bench.directory, 'shared'), { recursive: true })).filter((path) => /tmp-/.test(path)),
    ).toEqual([])
  })
})

describe.skipIf(!hasRestic)('one cache for restic and us [needs restic]', () => {
  test('each reads what the other has kept', async () => {
    await bench.ok('backup', 'source')
    const own = await cacheOfRepository()
    expect(await bench.restic('ls', 'latest')).toContain('/source/below/deeper/c.txt')
    await bench.restic('backup', 'source/a.txt', '--quiet')
    const kept = await namesIn(own)
    expect(await bench.ok('ls', 'latest')).toContain('a.txt')
    expect((await namesIn(own)).filter((name) => !kept.includes(name))).toEqual([])
    expect(await bench.restic('check')).toContain('no errors were found')
    expect(await bench.restic('cache', '--no-size')).toContain('Repo ID')
  })
})

describe('stillpoint repo cache', () => {
  const old = '0'.repeat(63)
  const listed = async (...args: readonly string[]) => {
    const [found] = await bench.json('cache', ...args)
    const rows: readonly unknown[] = Object(found)['caches']
    return rows.map((row) => Object(row))
  }

  test('lists what there is, and removes what nobody opens', async () => {
    const [used] = (await cacheOfRepository()).split('/').slice(-1)
    for (const name of [`${old}1`, `${old}2`, 'not of a repository']) {
      await mkdir(join(cache, name, 'index'), { recursive: true })
      await writeFile(join(cache, name, 'index', 'file'), 'x'.repeat(2048))
      await utimes(join(cache, name), 1e9, 1e9)
    }
    await utimes(join(cache, `${old}2`), Date.now() / 1000, Date.now() / 1000 - 10 * 86_400)
    const before = await listed()
    expect(before.map(({ id, old: isOld }) => [id, isOld])).toEqual([
      [`${old}1`, true],
      [`${old}2`, false],
      [used, false],
    ])
    expect(before[0]).toEqual({ id: `${old}1`, last_used: '2001-09-09T01:46:40.000Z', old: true, bytes: 2048 })
    if (hasRestic) {
      const idsIn = (text: string) => text.match(/^[0-9a-f]{10}/gm)
      expect(idsIn(await bench.ok('cache'))).toEqual(idsIn(await bench.restic('cache')))
    }
    expect((await listed('--no-size'))[0]).not.toHaveProperty('bytes')
    expect((await listed('--max-age', '5')).map(({ old: isOld }) => isOld)).toEqual([true, true, false])
    expect(await bench.json('cache', '--cleanup')).toEqual([
      { message_type: 'caches_removed', directory: cache, removed: [`${old}1`] },
    ])
    expect((await listed()).map(({ id }) => id)).toEqual([`${old}2`, used])
    await bench.ok('cache', '--cleanup', '--max-age', '5')
    // What a check has read is no cache.
    const left = ['CACHEDIR.TAG', 'not of a repository', 'stillpoint-checks', used]
    expect((await readdir(cache)).sort()).toEqual(left.sort())
    expect((await bench.ours('cache', '--no-cache')).code).toBe(2)
    expect(await bench.ok('cache', '--cache-dir', 'nowhere')).toContain('no cache dirs found')
  })
})

test('stillpoint repo version needs no repository', async () => {
  const { version } = JSON.parse(await readFile(new URL('../../../package.json', import.meta.url), 'utf8'))
  expect(await bench.ok('version', '-r', 'nowhere')).toMatch(new RegExp(`^stillpoint ${version} with node v\\d+`))
  expect(await bench.json('version')).toEqual([
    { message_type: 'version', version, node_version: process.version, os: process.platform, arch: process.arch },
  ])
})

describe('where the cache is', () => {
  const settingsFor = (location: string, options: CacheOptions, env: Readonly<Record<string, string | undefined>>) => {
    const before = { ...process.env }
    for (const name of ['RESTIC_CACHE_DIR', 'XDG_CACHE_HOME']) delete process.env[name]
    Object.assign(process.env, env)
    try {
      const host = { cwd: '/work' }
      const settings = cacheSettings(host, { options, location, warn: () => {} })
      return settings === undefined ? undefined : [settings.directory, settings.removeUnused ?? false]
    } finally {
      process.env = before
    }
  }

  test.each([
    ['rest:https://host/', {}, { XDG_CACHE_HOME: '/caches' }, ['/caches/stillpoint', true]],
    ['s3:https://host/bucket', {}, { XDG_CACHE_HOME: '/caches' }, ['/caches/stillpoint', true]],
    ['rest:https://host/', { cache: false }, {}, undefined],
    ['rest:https://host/', {}, { RESTIC_CACHE_DIR: '/restic' }, ['/restic', false]],
    ['rest:https://host/', { cacheDir: 'own' }, { RESTIC_CACHE_DIR: '/restic' }, ['/work/own', false]],
    ['/srv/backup', {}, { XDG_CACHE_HOME: '/caches' }, undefined],
    ['/srv/backup', {}, { RESTIC_CACHE_DIR: '/restic' }, ['/restic', false]],
    ['/srv/backup', { cacheDir: '/own' }, {}, ['/own', false]],
  ] as const)('of %s with %j and %j: %j', (location, options, env, expected) => {
    expect(settingsFor(location, options, env)).toEqual(expected)
  })

  test('a relative XDG_CACHE_HOME is passed over', () => {
    const [directory = ''] = settingsFor('rest:https://host/', {}, { XDG_CACHE_HOME: 'here' }) ?? []
    expect(`${directory}`.startsWith(homedir())).toBe(true)
  })
})
