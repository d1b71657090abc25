/**
 * Object Lock on a server that has it (Ceph's gateway): what is protected and what is not, against which users, and how
 * a repository is brought back after somebody has removed and overwritten all of it. docs/s3.md says the same in words.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type DeleteMarkerEntry,
  DeleteObjectCommand,
  GetObjectRetentionCommand,
  ListObjectVersionsCommand,
  type ObjectVersion,
  PutBucketPolicyCommand,
  PutObjectCommand,
  PutObjectLockConfigurationCommand,
  PutObjectRetentionCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { type CephServer, hasCeph } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sha256 } from '../format/ids.ts'
import { initRepository, openRepository, type Repository } from '../repository.ts'
import { makeSource } from '../testing/source-directory.ts'
import {
  clock,
  entropy,
  fingerprint,
  hasTool,
  password,
  scratch,
  scryptCost,
  seeded,
  takeSnapshot,
  world,
} from '../testing/testbed.ts'
import { configObject, listAll } from './blob-store.ts'
import { describeBlobStore } from './conformance.ts'
import { retryingStore } from './retrying.ts'
import type { S3Retention } from './s3-object-lock.ts'
import type { S3StoreOptions } from './s3-store.ts'
import { ownClient, resticOn, type S3Place, startCephPlace } from './s3-testbed.ts'

const governance = { mode: 'GOVERNANCE', days: 1 } as const satisfies S3Retention
const compliance = { mode: 'COMPLIANCE', days: 1 } as const satisfies S3Retention
const dayMs = 86_400_000
const retry = { clock, random: seeded(3), pauseMs: 50 }

interface Versions {
  readonly objects: readonly ObjectVersion[]
  readonly markers: readonly DeleteMarkerEntry[]
}

interface VersionName {
  readonly Bucket: string
  readonly Key: string | undefined
  readonly VersionId: string | undefined
}

async function versionsOf(client: S3Client, path: string, below = ''): Promise<Versions> {
  const [Bucket = '', ...prefix] = path.split('/')
  const Prefix = [...prefix, below].join('/')
  const answer = await client.send(new ListObjectVersionsCommand({ Bucket, Prefix }))
  expect(answer.IsTruncated).toBe(false)
  return { objects: answer.Versions ?? [], markers: answer.DeleteMarkers ?? [] }
}

describe.skipIf(!hasCeph())('Object Lock on Ceph [needs ceph-mon, ceph-osd, radosgw]', () => {
  let place: S3Place<CephServer>
  beforeAll(async () => {
    place = await startCephPlace()
  })
  afterAll(() => place?.stop())

  const bucketOf = (path: string) => ({ Bucket: path.split('/')[0] ?? '' })

  async function repositoryWith(options: Partial<S3StoreOptions>, path = place.newPath()) {
    const store = retryingStore(await place.open(path, options), retry)
    await initRepository({ store, password, entropy, clock, scryptCost })
    return { path, store, repository: await openRepository({ store, password, ...world }) }
  }

  async function sound(repository: Repository): Promise<void> {
    expect((await repository.check({ readData: true })).problems).toEqual([])
  }

  describe('a protected store conforms', () => {
    describeBlobStore({ test }, async () => {
      const path = place.newPath()
      const open = () => place.open(path, { retention: governance })
      return { store: await open(), reopen: open, dispose: async () => {} }
    })
  })

  test('all kinds but locks are protected, for as long as was said, in parts too', async () => {
    const { path, store } = await place.prepared({ retention: { mode: 'COMPLIANCE', days: 30 }, partBytes: 5 << 20 })
    await using client = ownClient(place.server)
    const beforeMs = Date.now()
    const bytes = Buffer.from('content')
    for (const kind of ['lock', 'key', 'snapshot', 'index', 'pack'] as const) {
      await store.put({ kind, name: sha256(bytes) }, bytes)
    }
    await store.put({ kind: 'config', name: 'config' }, bytes)
    const large = seeded(1).bytes((5 << 20) + 1)
    await store.put({ kind: 'pack', name: sha256(large) }, Buffer.from(large))
    const { objects } = await versionsOf(client.sdk, path)
    const found = new Map<string, number>()
    for (const { Key = '', VersionId } of objects) {
      const asked = new GetObjectRetentionCommand({ ...bucketOf(path), Key, VersionId })
      if (Key.includes('/locks/')) {
        await expect(client.sdk.send(asked)).rejects.toMatchObject({ name: 'ObjectLockConfigurationNotFoundError' })
        continue
      }
      const { Retention } = await client.sdk.send(asked)
      expect(Retention?.Mode).toBe('COMPLIANCE')
      const days = ((Retention?.RetainUntilDate?.getTime() ?? 0) - beforeMs) / dayMs
      expect(Math.abs(days - 30)).toBeLessThan(0.01)
      const kind = Key.split('/')[2] ?? ''
      found.set(kind, (found.get(kind) ?? 0) + 1)
    }
    expect(Object.fromEntries(found)).toEqual({ keys: 1, snapshots: 1, index: 1, data: 2, config: 1 })
  })

  test('what is protected cannot be removed, nor its protection shortened; who may end which mode', async () => {
    await using client = ownClient(place.server)
    for (const [retention, ownerMayEnd] of [
      [governance, true],
      [compliance, false],
    ] as const) {
      const { path, store } = await place.prepared({ retention })
      const bytes = Buffer.from('content')
      await store.put({ kind: 'pack', name: sha256(bytes) }, bytes)
      const { objects } = await versionsOf(client.sdk, path, 'data/')
      expect(objects).toHaveLength(2) // put twice, to see whether the condition is honoured
      for (const { Key, VersionId } of objects) await tryToEnd({ ...bucketOf(path), Key, VersionId }, retention)
      expect(await store.size({ kind: 'pack', name: sha256(bytes) })).toBe(ownerMayEnd ? undefined : bytes.length)
    }
    async function tryToEnd(version: VersionName, retention: S3Retention) {
      await expect(client.sdk.send(new DeleteObjectCommand(version))).rejects.toMatchObject({ name: 'AccessDenied' })
      const Retention = { Mode: retention.mode, RetainUntilDate: new Date(Date.now() + 60_000) }
      const shorter = new PutObjectRetentionCommand({ ...version, Retention })
      await expect(client.sdk.send(shorter)).rejects.toMatchObject({ name: 'AccessDenied' })
      const bypassing = new DeleteObjectCommand({ ...version, BypassGovernanceRetention: true })
      if (retention.mode === 'GOVERNANCE') await client.sdk.send(bypassing)
      else await expect(client.sdk.send(bypassing)).rejects.toMatchObject({ name: 'AccessDenied' })
    }
  })

  test('forget and prune work, and only hide; nothing of it is lost; restic agrees', async () => {
    const source = await makeSource(join(await scratch(), 'source'))
    const { path, repository } = await repositoryWith({ retention: governance })
    const first = await takeSnapshot(repository, source)
    await writeFile(join(source, 'below', 'large'), seeded(9).bytes(3_000_000))
    const second = await takeSnapshot(repository, source)
    await using client = ownClient(place.server)
    const before = await versionsOf(client.sdk, path, 'data/')
    await repository.deleteSnapshot(first.id)
    await repository.upkeep.prune({ maxUnused: { kind: 'bytes', bytes: 0 } })
    await sound(repository)
    expect((await repository.snapshots()).map(({ id }) => id)).toEqual([second.id])
    const after = await versionsOf(client.sdk, path, 'data/')
    expect(after.markers.length).toBeGreaterThan(0)
    const left = new Set(after.objects.map(({ VersionId }) => VersionId))
    expect(before.objects.filter(({ VersionId }) => !left.has(VersionId))).toEqual([])
    if (hasTool('restic')) expect(await resticOn(place, path, 'check', '--read-data')).toContain('no errors were found')
  })

  test('somebody with the backup’s own keys removes and overwrites all: it is brought back whole', async () => {
    const source = await makeSource(join(await scratch(), 'source'))
    const { accessKeyId, secretAccessKey } = await place.server.addUser('backup')
    const credentialsFile = await place.credentials(accessKeyId, secretAccessKey)
    // The owner makes the bucket, and lets the backup do what docs/s3.md says that it needs, and no more.
    const path = place.newPath()
    const owners = await place.open(path, { retention: governance })
    await owners.prepare()
    await using owner = ownClient(place.server)
    const { Bucket } = bucketOf(path)
    const Principal = { AWS: ['arn:aws:iam:::user/backup'] }
    const actions = {
      bucket: ['ListBucket', 'ListBucketMultipartUploads', 'GetBucketObjectLockConfiguration', 'ListBucketVersions'],
      object: [
        'GetObject',
        'PutObject',
        'DeleteObject',
        'AbortMultipartUpload',
        'PutObjectRetention',
        'GetObjectVersion',
      ],
    }
    const allow = (names: readonly string[], Resource: string) => ({
      Effect: 'Allow',
      Principal,
      Action: names.map((name) => `s3:${name}`),
      Resource: [Resource],
    })
    const Statement = [
      allow(actions.bucket, `arn:aws:s3:::${Bucket}`),
      allow(actions.object, `arn:aws:s3:::${Bucket}/*`),
    ]
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement })
    await owner.sdk.send(new PutBucketPolicyCommand({ Bucket, Policy }))
    const mine = { retention: governance, credentialsFile }
    const { repository } = await repositoryWith(mine, path)
    const { id } = await takeSnapshot(repository, source)
    const wanted = await fingerprint(source)
    await writeFile(join(source, 'more'), seeded(10).bytes(1_000_000))
    const forgotten = await takeSnapshot(repository, source)
    await repository.deleteSnapshot(forgotten.id)
    await repository.upkeep.prune({ maxUnused: { kind: 'bytes', bytes: 0 } })
    const good = await versionsOf(owner.sdk, path)

    const goodAt = new Date()
    await new Promise((resolve) => setTimeout(resolve, 10))
    await using thief = ownClient(place.server, { accessKeyId, secretAccessKey })
    for (const { Key, VersionId, IsLatest } of good.objects) {
      for (const BypassGovernanceRetention of [false, true]) {
        const removal = new DeleteObjectCommand({ Bucket, Key, VersionId, BypassGovernanceRetention })
        await expect(thief.sdk.send(removal)).rejects.toMatchObject({ name: 'AccessDenied' })
      }
      if (IsLatest !== true) continue
      await thief.sdk.send(new DeleteObjectCommand({ Bucket, Key }))
      await thief.sdk.send(new PutObjectCommand({ Bucket, Key, Body: 'worthless' }))
    }
    const ruined = await place.open(path, mine)
    expect((await ruined.get(configObject)).toString()).toBe('worthless')
    await expect(openRepository({ store: ruined, password, ...world })).rejects.toMatchObject({
      code: 'object_damaged',
    })

    // Seen as it was, by whoever may read versions; nothing has to be removed for that.
    const then = await place.open(path, { credentialsFile, asOf: goodAt })
    const past = await openRepository({ store: then, password, ...world })
    await sound(past)
    expect((await past.snapshots()).map((snapshot) => snapshot.id)).toEqual([id])
    const saved = await scratch()
    await past.loadDirectory((await past.findSnapshot('latest')).tree, join(saved, 'restored'))
    expect(await fingerprint(join(saved, 'restored', 'files'))).toEqual(wanted)
    await expect(past.deleteSnapshot(id)).rejects.toMatchObject({ code: 'storage_denied' })
    await expect(takeSnapshot(past, source)).rejects.toMatchObject({ code: 'storage_denied' })
    await expect(
      openRepository({ store: await place.open(path, { credentialsFile, asOf: new Date(0) }), password, ...world }),
    ).rejects.toMatchObject({ code: 'repository_absent' })

    // What docs/s3.md tells the owner to do: remove what is newer than the last good moment.
    const isGood = new Set([...good.objects, ...good.markers].map(({ VersionId }) => VersionId))
    const now = await versionsOf(owner.sdk, path)
    const newer = [...now.objects, ...now.markers].filter(({ VersionId }) => !isGood.has(VersionId))
    expect(newer).toHaveLength(2 * good.objects.filter(({ IsLatest }) => IsLatest).length)
    for (const { Key, VersionId } of newer) await owner.sdk.send(new DeleteObjectCommand({ Bucket, Key, VersionId }))
    const again = await openRepository({ store: await place.open(path, mine), password, ...world })
    await sound(again)
    expect((await again.snapshots()).map((snapshot) => snapshot.id)).toEqual([id])

    // Protection can be turned against the owner: what is put over an object may be protected, too.
    const Key = good.objects.find((object) => object.Key?.endsWith('/config'))?.Key
    const ObjectLockRetainUntilDate = new Date(Date.now() + dayMs)
    const Body = 'worthless, and to stay'
    const over = { Bucket, Key, Body, ObjectLockMode: 'COMPLIANCE', ObjectLockRetainUntilDate } as const
    const { VersionId } = await thief.sdk.send(new PutObjectCommand(over))
    const removal = new DeleteObjectCommand({ Bucket, Key, VersionId, BypassGovernanceRetention: true })
    await expect(owner.sdk.send(removal)).rejects.toMatchObject({ name: 'AccessDenied' })
    const still = await place.open(path, { credentialsFile, asOf: goodAt })
    await sound(await openRepository({ store: still, password, ...world }))
  })

  test('a retention of the bucket’s own, with nothing said here: all is protected, locks too, and nothing stops', async () => {
    const { path } = await place.prepared({ retention: governance })
    await using client = ownClient(place.server)
    const Rule = { DefaultRetention: { Mode: 'GOVERNANCE', Days: 1 } } as const
    const ObjectLockConfiguration = { ObjectLockEnabled: 'Enabled', Rule } as const
    await client.sdk.send(new PutObjectLockConfigurationCommand({ ...bucketOf(path), ObjectLockConfiguration }))
    const { store, repository } = await repositoryWith({}, path)
    const source = await makeSource(join(await scratch(), 'source'))
    const { id } = await takeSnapshot(repository, source)
    await takeSnapshot(repository, source)
    await repository.deleteSnapshot(id)
    await repository.upkeep.prune({ maxUnused: { kind: 'bytes', bytes: 0 } })
    await sound(repository)
    expect(await listAll(store, 'lock')).toEqual([])
    const { objects } = await versionsOf(client.sdk, path)
    for (const { Key, VersionId } of objects) {
      const { Retention } = await client.sdk.send(new GetObjectRetentionCommand({ ...bucketOf(path), Key, VersionId }))
      expect(Retention?.Mode).toBe('GOVERNANCE')
    }
    expect(objects.some(({ Key = '' }) => Key.includes('/locks/'))).toBe(true)
  })

  test('a bucket without it refuses to protect, and stores nothing', async () => {
    const { path } = await place.prepared()
    const store = await place.open(path, { retention: governance })
    const bytes = Buffer.from('protected')
    const pack = { kind: 'pack', name: sha256(bytes) } as const
    await expect(store.put(pack, bytes)).rejects.toMatchObject({
      code: 'options_invalid',
      message: expect.stringContaining('no Object Lock'),
    })
    expect(await store.size(pack)).toBeUndefined()
  })
})
