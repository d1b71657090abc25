/** Connections that break, a server that hangs, and a storage node that dies while a backup runs. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hasSwift, type SwiftServer, startBreakingProxy } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { sha256 } from '../format/ids.ts'
import { initRepository, openRepository } from '../repository.ts'
import {
  clock,
  entropy,
  hasTool,
  password,
  scratch,
  scryptCost,
  seeded,
  takeSnapshot,
  world,
} from '../testing/testbed.ts'
import { listAll } from './blob-store.ts'
import { retryingStore } from './retrying.ts'
import { backUpThrough } from './s3-suite-testbed.ts'
import { repositoryOn, type S3Place, startSwiftPlace } from './s3-testbed.ts'

describe.skipIf(!hasSwift() || !hasTool('restic'))('outages of Swift [needs python3-swift, restic]', () => {
  let place: S3Place<SwiftServer>
  beforeAll(async () => {
    place = await startSwiftPlace()
  })
  afterAll(() => place?.stop())

  test.each([1, 2])(
    'connections break at random places, seed %i: nothing is lost, and nothing left behind',
    async (seed) => {
      const place = await startSwiftPlace()
      onTestFinished(() => place.stop())
      const random = seeded(seed)
      await using proxy = await startBreakingProxy({ port: place.server.port, random, bytesMax: 1_000_000 })
      const path = place.newPath()
      const rest = await place.open(path, { location: `s3:${proxy.url}/${path}` })
      const retry = { clock, random, pauseMs: 2, pauseMsMax: 20, attemptsMax: 30 }
      const store = retryingStore(rest, retry)
      await initRepository({ store, password, clock, entropy, scryptCost })
      const repository = await openRepository({ store, password, ...world })
      const source = join(await scratch(), 'source')
      await mkdir(source)
      for (let at = 0; at < 4; at += 1) {
        await writeFile(join(source, `file-${at}`), random.bytes(600_000))
        await takeSnapshot(repository, source)
      }
      expect(proxy.cuts()).toBeGreaterThan(3)
      const direct = await repositoryOn(place, path)
      expect(await direct.snapshots()).toHaveLength(4)
      expect((await direct.check({ readData: true })).problems).toEqual([])
      expect(await listAll(await place.open(path), 'lock')).toEqual([])
    },
  )

  test('a server that hangs for a while', async () => {
    const { path, store } = await place.prepared()
    const object = { kind: 'index', name: sha256(Buffer.from('x')) } as const
    await store.put(object, Buffer.from('x'))
    const impatient = await place.open(path, { silenceMsMax: 300 })
    const patient = retryingStore(impatient, { clock, random: seeded(1), pauseMs: 100, attemptsMax: 30 })
    await place.server.proxy.pause()
    await expect(impatient.get(object)).rejects.toMatchObject({ code: 'storage_failed', retry: 'later' })
    const waiting = patient.get(object)
    await place.server.proxy.unpause()
    expect((await waiting).toString()).toBe('x')
  })

  // The last: the node stays dead.
  test('a storage node is killed while a backup runs: it ends well, and all is there', async () => {
    await backUpThrough(place, {
      seed: 21,
      strike: async () => place.server.storage[0]?.kill(),
      // With the node still dead; the lists of those that live have what was under way when it died.
      settle: () => place.server.replicate(),
    })
  })
})
