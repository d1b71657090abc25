/**
 * The store on S3 against Ceph's gateway: what every server must pass, the real restic, conditional uploads, and
 * credentials from all places. Object Lock is in s3-object-lock.test.ts.
 */
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CreateBucketCommand, PutBucketVersioningCommand } from '@aws-sdk/client-s3'
import { type CephServer, hasCeph } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { scratch } from '../testing/testbed.ts'
import { configObject, listAll } from './blob-store.ts'
import { describeResticOnS3, describeS3Store } from './s3-suite-testbed.ts'
import { ownClient, packOf, type S3Place, startCephPlace } from './s3-testbed.ts'

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

  describeS3Store(() => place)
  describeResticOnS3(() => place)

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
          writers.map((writer, at) => writer.put(packOf(probes[at] ?? Buffer.of()), probes[at] ?? Buffer.of())),
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
      expect(await store.put(packOf(bytes), bytes)).toBe('created')
      expect(await store.put(packOf(bytes), bytes)).toBe('exists')
      expect((await store.get(packOf(bytes))).equals(bytes)).toBe(true)
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

    test('those of somebody else', async () => {
      const { path } = await place.prepared()
      const other = await place.server.addUser('somebody-else')
      const credentialsFile = await place.credentials(other.accessKeyId, other.secretAccessKey)
      const store = await place.open(path, { credentialsFile })
      for (const call of [
        () => listAll(store, 'pack'),
        () => store.get(configObject),
        () => store.put(configObject, Buffer.of(1)),
      ]) {
        await expect(call()).rejects.toMatchObject({ code: 'storage_denied', retry: 'never' })
      }
    })
  })
})
