/**
 * The store on S3 against Ceph's gateway: the conformance suite, conditional uploads, both ways to address a bucket,
 * credentials from all places, and the real restic in both directions. Object Lock is in s3-object-lock.test.ts.
 */
import { randomBytes } from 'node:crypto'
import dns from 'node:dns'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CreateBucketCommand, PutBucketVersioningCommand } from '@aws-sdk/client-s3'
import { type CephServer, hasCeph } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { sha256 } from '../format/ids.ts'
import { makeSource } from '../testing/source-directory.ts'
import { fingerprint, hasTool, scratch, seeded, takeSnapshot } from '../testing/testbed.ts'
import { configObject, listAll } from './blob-store.ts'
import { describeBlobStore } from './conformance.ts'
import { newRepositoryOn, ownClient, repositoryOn, resticOn, type S3Place, startCephPlace } from './s3-testbed.ts'

const pack = (bytes: Uint8Array) => ({ kind: 'pack', name: sha256(bytes) }) as const

/** For one test, in this process. */
function environment(values: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(values)) vi.stubEnv(name, value)
  onTestFinished(() => void vi.unstubAllEnvs())
}

describe.skipIf(!hasCeph())('on Ceph [needs ceph-mon, ceph-osd, radosgw]', () => {
  let place: S3Place<CephServer>
  beforeAll(async () => {
    place = await startCephPlace()
  })
  afterAll(() => place?.stop())

  describe('it conforms', () => {
    describeBlobStore({ test }, async () => {
      const path = place.newPath()
      return { store: await place.open(path), reopen: () => place.open(path), dispose: async () => {} }
    })
  })

  describe('create-only', () => {
    test('the server honours the condition, which is found out', async () => {
      const { store } = await place.prepared()
      expect(store.traits.atomicCreate).toBe(false)
      expect(await store.put(configObject, Buffer.from('config'))).toBe('created')
      expect(store.traits.atomicCreate).toBe(true)
      expect(await store.put(configObject, Buffer.from('other'))).toBe('exists')
      expect((await store.get(configObject)).toString()).toBe('config')
    })

    test('of writers at once exactly one creates, 10 times of 8', async () => {
      const { path } = await place.prepared()
      for (let round = 0; round < 10; round += 1) {
        const prefix = `${path}/${round}`
        const writers = await Promise.all(Array.from({ length: 8 }, () => place.open(prefix)))
        // Each has found out before that the condition is honoured, so that none looks first.
        const probes = writers.map((_, at) => Buffer.from(`probe ${at}`))
        await Promise.all(
          writers.map((writer, at) => writer.put(pack(probes[at] ?? Buffer.of()), probes[at] ?? Buffer.of())),
        )
        expect(writers.map(({ traits }) => traits.atomicCreate)).toEqual(writers.map(() => true))
        const outcomes = await Promise.all(writers.map((writer, at) => writer.put(configObject, Buffer.from(`${at}`))))
        expect(outcomes.filter((outcome) => outcome === 'created')).toHaveLength(1)
        const [reader] = writers
        expect((await reader?.get(configObject))?.toString()).toBe(`${outcomes.indexOf('created')}`)
      }
    })

    test('objects in parts, for which the server ignores it: it is looked first, and nothing is claimed', async () => {
      const { store } = await place.prepared({ partBytes: 5 << 20 })
      await store.put(configObject, Buffer.from('config'))
      expect(store.traits.atomicCreate).toBe(true)
      const bytes = randomBytes((11 << 20) + 3)
      expect(await store.put(pack(bytes), bytes)).toBe('created')
      expect(await store.put(pack(bytes), bytes)).toBe('exists')
      expect((await store.get(pack(bytes))).equals(bytes)).toBe(true)
      expect(store.traits.atomicCreate).toBe(false)
    })

    test('in a bucket with versions the server ignores it, which is found out', async () => {
      const path = place.newPath()
      const [Bucket = ''] = path.split('/')
      await using client = ownClient(place.server)
      await client.sdk.send(new CreateBucketCommand({ Bucket }))
      const VersioningConfiguration = { Status: 'Enabled' } as const
      await client.sdk.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration }))
      const store = await place.open(path)
      expect(await store.put(configObject, Buffer.from('config'))).toBe('created')
      expect(store.traits.atomicCreate).toBe(false)
      expect(await store.put(configObject, Buffer.from('other'))).toBe('exists')
      expect((await store.get(configObject)).toString()).toBe('config')
    })

    test('bytes that are not those of the name are refused', async () => {
      const { store } = await place.prepared()
      const object = pack(Buffer.from('what it should be'))
      await expect(store.put(object, Buffer.from('what it is'))).rejects.toMatchObject({ code: 'storage_failed' })
      expect(await store.size(object)).toBeUndefined()
    })
  })

  test('the bucket in the host’s name, and in the path', async () => {
    const { lookup } = dns
    const names: string[] = []
    // No resolver knows the name.
    const spy = vi.spyOn(dns, 'lookup').mockImplementation(((name: string, ...rest: [never, never]) => {
      names.push(name)
      return lookup(place.server.host, ...rest)
    }) as typeof lookup)
    onTestFinished(() => spy.mockRestore())
    const path = place.newPath()
    const location = `s3:http://${place.server.hostStyleDomain}:${place.server.port}/${path}`
    const hostStyle = await place.open(path, { location, addressing: 'host' })
    await hostStyle.prepare()
    const bytes = randomBytes(10)
    expect(await hostStyle.put(pack(bytes), bytes)).toBe('created')
    expect(new Set(names)).toEqual(new Set([`${path.split('/')[0]}.${place.server.hostStyleDomain}`]))
    const pathStyle = await place.open(path)
    expect(await pathStyle.get(pack(bytes))).toEqual(bytes)
    expect(await listAll(hostStyle, 'pack')).toEqual(await listAll(pathStyle, 'pack'))
  })

  describe('credentials', () => {
    const bare = async (path: string) => {
      // The SDK's own search, with nothing named by us.
      const { openS3Store } = await import('./s3-store.ts')
      return openS3Store({ location: `s3:${place.server.endpoint}/${path}` })
    }
    const nowhere = {
      AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
      AWS_CONFIG_FILE: '/dev/null',
      AWS_EC2_METADATA_DISABLED: 'true',
    }

    test('from the environment', async () => {
      const { path } = await place.prepared()
      environment({ ...nowhere, ...place.server.env })
      expect(await listAll(await bare(path), 'pack')).toEqual([])
    })

    test('from the shared file, by its default and by a named profile, with the region of the configuration', async () => {
      const { accessKeyId, secretAccessKey } = place.server
      const { path } = await place.prepared()
      const config = join(await scratch(), 'config')
      await writeFile(config, '[default]\nregion = default\n[profile ours]\nregion = default\n')
      const shared = await place.credentials(accessKeyId, secretAccessKey)
      environment({ ...nowhere, AWS_SHARED_CREDENTIALS_FILE: shared, AWS_CONFIG_FILE: config })
      expect(await listAll(await bare(path), 'pack')).toEqual([])
      const named = await place.credentials(accessKeyId, secretAccessKey, 'ours')
      environment({ AWS_SHARED_CREDENTIALS_FILE: named, AWS_PROFILE: 'ours' })
      expect(await listAll(await bare(path), 'pack')).toEqual([])
      environment({ AWS_PROFILE: 'absent' })
      await expect(listAll(await bare(path), 'pack')).rejects.toMatchObject({
        code: 'storage_denied',
        message: expect.stringContaining('there are no credentials'),
      })
    })

    test('wrong ones, those of nobody, and those of somebody else', async () => {
      const { path } = await place.prepared()
      const other = await place.server.addUser('somebody-else')
      for (const [id, secret] of [
        [place.server.accessKeyId, 'wrong'],
        ['NOBODY', place.server.secretAccessKey],
        [other.accessKeyId, other.secretAccessKey],
      ] as const) {
        const store = await place.open(path, { credentialsFile: await place.credentials(id, secret) })
        for (const call of [
          () => listAll(store, 'pack'),
          () => store.get(configObject),
          () => store.put(configObject, Buffer.of(1)),
        ]) {
          await expect(call()).rejects.toMatchObject({ code: 'storage_denied', retry: 'never' })
        }
      }
    })
  })

  test('large objects in parts, and what is left of uploads that ended early', async () => {
    const { path, store } = await place.prepared({ partBytes: 5 << 20 })
    const bytes = randomBytes((11 << 20) + 3)
    await store.put(pack(bytes), bytes)
    const range = { offset: (5 << 20) - 7, length: 100 }
    expect(await store.get(pack(bytes), range)).toEqual(bytes.subarray(range.offset, range.offset + range.length))
    await using client = ownClient(place.server)
    await client.beginUpload(path)
    expect(await store.sweep()).toBe(1)
    expect(await store.sweep()).toBe(0)
    expect((await store.get(pack(bytes))).equals(bytes)).toBe(true)
  })

  describe.skipIf(!hasTool('restic'))('with restic [needs restic]', () => {
    test('restic makes it and backs up; we check, restore, add and prune; restic agrees', async () => {
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
      await repository.deleteSnapshot(theirs.id)
      await repository.upkeep.prune({ maxUnused: { kind: 'bytes', bytes: 0 } })
      expect(await resticOn(place, path, 'check', '--read-data')).toContain('no errors were found')
      expect(JSON.parse(await resticOn(place, path, 'snapshots', '--json'))).toMatchObject([{ id: ours.id }])
    })

    test('we make it; restic checks, restores, adds, forgets and prunes; we agree', async () => {
      const home = await scratch()
      const source = await makeSource(join(home, 'source'))
      const path = place.newPath()
      const repository = await newRepositoryOn(place, path)
      await takeSnapshot(repository, source)
      expect(await resticOn(place, path, 'check', '--read-data')).toContain('no errors were found')
      await resticOn(place, path, 'restore', 'latest', '--target', join(home, 'restored'))
      expect(await fingerprint(join(home, 'restored', 'files'))).toEqual(await fingerprint(source))
      await writeFile(join(source, 'more'), seeded(10).bytes(1_000_000))
      await resticOn(place, path, 'backup', source)
      await resticOn(place, path, 'forget', '--prune', '--keep-last', '1', '--group-by', '')
      const again = await repositoryOn(place, path)
      expect((await again.check({ readData: true })).problems).toEqual([])
      expect(await again.snapshots()).toHaveLength(1)
      expect(await resticOn(place, path, 'list', 'locks')).toBe('')
    })
  })
})
