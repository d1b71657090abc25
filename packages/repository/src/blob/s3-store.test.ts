/**
 * What of the store on S3 is only shown by Swift, a real server with an S3 API. What every server must pass is in
 * s3-suite-testbed.ts, what servers could do wrong in s3-server.test.ts.
 */
import { randomBytes } from 'node:crypto'
import { Failure } from '@stillpoint/core/kernel'
import { freePort, hasSwift, type SwiftServer } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { sha256 } from '../format/ids.ts'
import { clock, seeded } from '../testing/testbed.ts'
import { configObject, listAll } from './blob-store.ts'
import { retryingStore } from './retrying.ts'
import { packOf, type S3Place, startSwiftPlace } from './s3-testbed.ts'

let place: S3Place<SwiftServer>
const retry = { clock, random: seeded(1), pauseMs: 5 }

describe.skipIf(!hasSwift())('on Swift [needs python3-swift]', () => {
  beforeAll(async () => {
    place = await startSwiftPlace()
  })
  afterAll(() => place?.stop())

  test('with retries around it, and over TLS, what is stored is found again', async () => {
    const path = place.newPath()
    const tls = { location: `s3:${place.server.tlsEndpoint}/${path}`, caFile: place.server.caFile }
    const store = retryingStore(await place.open(path, tls), retry)
    await store.prepare()
    const bytes = randomBytes(100_000)
    expect(await store.put(packOf(bytes), bytes)).toBe('created')
    expect((await (await place.open(path)).get(packOf(bytes))).equals(bytes)).toBe(true)
    const untrusting = await place.open(path, { location: tls.location })
    await expect(untrusting.get(packOf(bytes))).rejects.toMatchObject({
      code: 'storage_failed',
      retry: 'never',
      message: expect.stringContaining('certificate is not trusted'),
    })
  })

  test('it finds out that this server knows no conditions', async () => {
    const { store } = await place.prepared()
    expect(await store.put(configObject, Buffer.from('config'))).toBe('created')
    expect(await store.put(configObject, Buffer.from('config'))).toBe('exists')
    expect(store.traits).toEqual({ atomicCreate: false })
  })

  test('lists with pages', async () => {
    const { store } = await place.prepared()
    const all = Array.from({ length: 60 }, (_, at) => Buffer.from(`object ${at}`))
    await Promise.all(all.map((bytes) => store.put(packOf(bytes), bytes)))
    const listed = await listAll(store, 'pack')
    expect(listed.map(({ name }) => name).sort()).toEqual(all.map((bytes) => sha256(bytes)).sort())
  })

  test('credentials of a named profile, and of one that the file has not', async () => {
    const { path } = await place.prepared()
    const elsewhere = await place.credentials('a', 'b', 'other-profile')
    await expect(place.open(path, { credentialsFile: elsewhere })).rejects.toMatchObject({ code: 'secret_empty' })
    const profile = await place.open(path, {
      credentialsFile: await place.credentials(place.server.accessKeyId, place.server.secretAccessKey, 'ours'),
      profile: 'ours',
    })
    expect(await listAll(profile, 'pack')).toEqual([])
  })

  test('a bucket that is not there', async () => {
    const store = await place.open('absent/x')
    expect(await store.size(configObject)).toBeUndefined()
    await expect(store.get(configObject)).rejects.toMatchObject({ code: 'object_missing' })
    await expect(store.delete(configObject)).rejects.toMatchObject({ code: 'object_missing' })
    await expect(listAll(store, 'pack')).rejects.toMatchObject({ code: 'storage_failed', retry: 'never' })
    await expect(store.put(configObject, Buffer.from('x'))).rejects.toMatchObject({
      code: 'storage_failed',
      retry: 'never',
    })
  })

  test('protection that the server cannot give is refused, not left out', async () => {
    const { path, store } = await place.prepared()
    const protecting = await place.open(path, { retention: { mode: 'GOVERNANCE', days: 1 } })
    const bytes = Buffer.from('protected')
    await expect(protecting.put(packOf(bytes), bytes)).rejects.toMatchObject({
      code: 'options_invalid',
      message: expect.stringContaining('no Object Lock'),
    })
    expect(await store.size(packOf(bytes))).toBeUndefined()
    const lock = { kind: 'lock', name: sha256(bytes) } as const
    expect(await protecting.put(lock, bytes)).toBe('created')
  })

  test('a clock that is an hour off is named, and reckoned with the next time', async () => {
    const { path } = await place.prepared()
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 })
    onTestFinished(() => void vi.useRealTimers())
    const store = await place.open(path)
    await expect(listAll(store, 'pack')).rejects.toMatchObject({
      code: 'storage_denied',
      retry: 'later',
      hint: expect.stringContaining('clock'),
    })
    expect(await listAll(store, 'pack')).toEqual([])
  })

  test('an abort ends what is under way, with its reason', async () => {
    const abort = new AbortController()
    const { store } = await place.prepared({ signal: abort.signal })
    const bytes = randomBytes(8 << 20)
    await store.put(packOf(bytes), bytes)
    const reason = new Failure({ code: 'interrupted', message: 'stop' })
    const calls = [store.get(packOf(bytes)), listAll(store, 'pack'), store.put(configObject, bytes)]
    setTimeout(() => abort.abort(reason), 5)
    for (const outcome of await Promise.allSettled(calls)) {
      expect(outcome.status === 'fulfilled' || outcome.reason === reason).toBe(true)
    }
    await expect(store.get(packOf(bytes))).rejects.toBe(reason)
  })

  test('nobody listens', async () => {
    const store = await place.open('b', { location: `s3:http://127.0.0.1:${await freePort()}/b` })
    await expect(listAll(store, 'pack')).rejects.toMatchObject({ code: 'storage_failed', retry: 'later' })
  })
})
