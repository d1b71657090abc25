/**
 * Owns the tests that the store on S3 must pass on every real server, and those of the real restic beside us there.
 * They take a place that is there by the time they run. What only one server can do is in that server's tests.
 */
import { randomBytes } from 'node:crypto'
import dns from 'node:dns'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { openRepository } from '../repository.ts'
import { makeSource } from '../testing/source-directory.ts'
import { clock, fingerprint, hasTool, password, scratch, seeded, takeSnapshot, world } from '../testing/testbed.ts'
import { configObject, listAll } from './blob-store.ts'
import { describeBlobStore } from './conformance.ts'
import { retryingStore } from './retrying.ts'
import { newRepositoryOn, ownClient, packOf, repositoryOn, resticOn, type S3Place } from './s3-testbed.ts'

export function describeS3Store(placeOf: () => S3Place): void {
  describe('it conforms', () => {
    describeBlobStore({ test }, async () => {
      const place = placeOf()
      const path = place.newPath()
      return { store: await place.open(path), reopen: () => place.open(path), dispose: async () => {} }
    })
  })

  test('the bucket in the host’s name, and in the path', async () => {
    const place = placeOf()
    const names = namesLookedUp(place.server.host)
    const path = place.newPath()
    const location = `s3:http://${place.server.hostStyleDomain}:${place.server.port}/${path}`
    const hostStyle = await place.open(path, { location, addressing: 'host' })
    await hostStyle.prepare()
    const pathStyle = await place.open(path)
    for (const [writer, reader] of [
      [hostStyle, pathStyle],
      [pathStyle, hostStyle],
    ] as const) {
      const bytes = randomBytes(10)
      expect(await writer.put(packOf(bytes), bytes)).toBe('created')
      expect(await reader.get(packOf(bytes))).toEqual(bytes)
    }
    expect(await listAll(hostStyle, 'pack')).toEqual(await listAll(pathStyle, 'pack'))
    expect(new Set(names)).toEqual(new Set([`${path.split('/')[0]}.${place.server.hostStyleDomain}`]))
  })

  test('large objects in parts, and what is left of uploads that ended early', async () => {
    const place = placeOf()
    const { path, store } = await place.prepared({ partBytes: 5 << 20 })
    const bytes = randomBytes((11 << 20) + 3)
    const pack = packOf(bytes)
    expect(await store.put(pack, bytes)).toBe('created')
    expect((await store.get(pack)).equals(bytes)).toBe(true)
    const range = { offset: (5 << 20) - 7, length: 100 }
    expect(await store.get(pack, range)).toEqual(bytes.subarray(range.offset, range.offset + range.length))
    expect(await store.put(pack, bytes)).toBe('exists')
    expect(await listAll(store, 'pack')).toEqual([{ name: pack.name, bytes: bytes.length }])
    await using client = ownClient(place.server)
    await client.beginUpload(path)
    expect(await store.sweep()).toBe(1)
    expect(await store.sweep()).toBe(0)
    expect((await store.get(pack)).equals(bytes)).toBe(true)
  })

  test('bytes that are not those of the name are refused', async () => {
    const { store } = await placeOf().prepared()
    const pack = packOf(Buffer.from('what it should be'))
    await expect(store.put(pack, Buffer.from('what it is'))).rejects.toMatchObject({ code: 'storage_failed' })
    expect(await store.size(pack)).toBeUndefined()
  })

  test('wrong secrets and unknown users are denied, and no secret is told', async () => {
    const place = placeOf()
    const { path } = await place.prepared()
    const { accessKeyId, secretAccessKey } = place.server
    const denied = { [accessKeyId]: 'wrong-secret', 'nobody:there': secretAccessKey }
    for (const [id, secret] of Object.entries(denied)) {
      const store = await place.open(path, { credentialsFile: await place.credentials(id, secret) })
      const calls = [listAll(store, 'pack'), store.get(configObject), store.put(configObject, Buffer.from('x'))]
      for (const failure of await Promise.all(calls.map((call) => call.catch((error: unknown) => error)))) {
        expect(failure).toMatchObject({ code: 'storage_denied', retry: 'never' })
        expect(String(failure)).not.toContain(secret)
      }
    }
  })
}

/** The names that are looked up until the test ends. No resolver knows them: all are this address. */
function namesLookedUp(address: string): readonly string[] {
  const { lookup } = dns
  const names: string[] = []
  const spy = vi.spyOn(dns, 'lookup').mockImplementation(((name: string, ...rest: [never, never]) => {
    names.push(name)
    return lookup(address, ...rest)
  }) as typeof lookup)
  onTestFinished(() => spy.mockRestore())
  return names
}

/** One repository, used by the real restic and by us, in both directions and in turns. */
export function describeResticOnS3(placeOf: () => S3Place): void {
  describe.skipIf(!hasTool('restic'))('with restic [needs restic]', () => {
    test('restic makes it and backs up; we check, restore, add and prune; restic agrees', async () => {
      const place = placeOf()
      const home = await scratch()
      const source = await makeSource(join(home, 'source'))
      const path = place.newPath()
      await resticOn(place, path, 'init', '--repository-version', '2')
      await resticOn(place, path, 'backup', source)
      const repository = await repositoryOn(place, path)
      expect((await repository.check({ readData: true })).problems).toEqual([])
      const theirs = await repository.findSnapshot('latest')
      await repository.loadDirectory(theirs.tree, join(home, 'restored'))
      expect(await fingerprint(join(home, 'restored', source))).toEqual(await fingerprint(source))
      await writeFile(join(source, 'below', 'large'), seeded(9).bytes(3_000_000))
      const ours = await takeSnapshot(repository, source)
      await requireSound(place, path)
      await repository.deleteSnapshot(theirs.id)
      await repository.upkeep.prune({ maxUnused: { kind: 'bytes', bytes: 0 } })
      await requireSound(place, path)
      const listed: unknown = JSON.parse(await resticOn(place, path, 'snapshots', '--json'))
      expect(listed).toMatchObject([{ id: ours.id }])
    })

    test('we make it; restic checks, restores, adds, forgets and prunes; we agree', async () => {
      const place = placeOf()
      const home = await scratch()
      const source = await makeSource(join(home, 'source'))
      const path = place.newPath()
      const repository = await newRepositoryOn(place, path)
      await takeSnapshot(repository, source)
      await requireSound(place, path)
      await resticOn(place, path, 'restore', 'latest', '--target', join(home, 'restored'))
      expect(await fingerprint(join(home, 'restored', 'files'))).toEqual(await fingerprint(source))
      await writeFile(join(source, 'more'), seeded(10).bytes(1_000_000))
      await resticOn(place, path, 'backup', source)
      await resticOn(place, path, 'forget', '--prune', '--keep-last', '1', '--group-by', '')
      const again = await repositoryOn(place, path)
      expect((await again.check({ readData: true })).problems).toEqual([])
      expect(await again.snapshots()).toHaveLength(1)
      // What we wrote was read by the one that opened it, too, before restic pruned: it must notice.
      await takeSnapshot(repository, source)
      await requireSound(place, path)
      expect(await resticOn(place, path, 'list', 'locks')).toBe('')
    })
  })
}

/** Rejects unless restic finds all data there as it should be. */
async function requireSound(place: S3Place, path: string): Promise<void> {
  expect(await resticOn(place, path, 'check', '--read-data')).toContain('no errors were found')
}

export interface Outage {
  readonly seed: number
  /** Comes in the middle of a backup, when the first packs are there. */
  readonly strike: () => Promise<unknown>
  /** After the backup, before it is read. */
  readonly settle?: () => Promise<void>
}

/** A backup through an outage: it ends well, all is there, and nothing is left behind. */
export async function backUpThrough(place: S3Place, { seed, strike, settle }: Outage): Promise<void> {
  const source = join(await scratch(), 'source')
  await mkdir(source)
  const random = seeded(seed)
  for (let at = 0; at < 10; at += 1) await writeFile(join(source, `file-${at}`), random.bytes(4_000_000))
  const path = place.newPath()
  await newRepositoryOn(place, path)
  const retry = { clock, random, pauseMs: 50, pauseMsMax: 500, attemptsMax: 60 }
  const store = retryingStore(await place.open(path), retry)
  let hasEnded = false
  const backup = takeSnapshot(await openRepository({ store, password, ...world }), source).finally(() => {
    hasEnded = true
  })
  const looking = await place.open(path)
  while ((await listAll(looking, 'pack')).length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  const atTheOutage = (await listAll(looking, 'pack')).length
  expect(hasEnded).toBe(false)
  await strike()
  const { id } = await backup
  expect((await listAll(looking, 'pack')).length).toBeGreaterThan(atTheOutage)
  await settle?.()
  const again = await repositoryOn(place, path)
  expect((await again.snapshots()).map((snapshot) => snapshot.id)).toEqual([id])
  expect((await again.check({ readData: true })).problems).toEqual([])
  expect(await listAll(looking, 'lock')).toEqual([])
  await requireSound(place, path)
}
