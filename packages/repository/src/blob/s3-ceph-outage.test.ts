/** A storage daemon of Ceph's, and its gateway, killed in the middle of a backup and started again. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type CephServer, hasCeph } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openRepository } from '../repository.ts'
import { clock, hasTool, password, scratch, seeded, takeSnapshot, world } from '../testing/testbed.ts'
import { listAll } from './blob-store.ts'
import { retryingStore } from './retrying.ts'
import { newRepositoryOn, repositoryOn, resticOn, type S3Place, startCephPlace } from './s3-testbed.ts'

const needs = '[needs ceph-mon, ceph-osd, radosgw, restic]'

describe.skipIf(!hasCeph() || !hasTool('restic'))(`outages of Ceph ${needs}`, () => {
  let place: S3Place<CephServer>
  beforeAll(async () => {
    place = await startCephPlace({ storageDaemons: 2 })
  })
  afterAll(() => place?.stop())

  async function backupUnder(seed: number, outage: () => Promise<void>) {
    const source = join(await scratch(), 'source')
    await mkdir(source)
    const random = seeded(seed)
    for (let at = 0; at < 10; at += 1) await writeFile(join(source, `file-${at}`), random.bytes(4_000_000))
    const path = place.newPath()
    await newRepositoryOn(place, path)
    const store = retryingStore(await place.open(path), {
      clock,
      random,
      pauseMs: 50,
      pauseMsMax: 500,
      attemptsMax: 60,
    })
    let hasEnded = false
    const backup = takeSnapshot(await openRepository({ store, password, ...world }), source).finally(() => {
      hasEnded = true
    })
    // In the middle: when the first packs are there.
    const looking = await place.open(path)
    while ((await listAll(looking, 'pack')).length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    const atTheOutage = (await listAll(looking, 'pack')).length
    expect(hasEnded).toBe(false)
    await outage()
    const { id } = await backup
    expect((await listAll(looking, 'pack')).length).toBeGreaterThan(atTheOutage)
    const again = await repositoryOn(place, path)
    expect((await again.snapshots()).map((snapshot) => snapshot.id)).toEqual([id])
    expect((await again.check({ readData: true })).problems).toEqual([])
    expect(await listAll(looking, 'lock')).toEqual([])
    expect(await resticOn(place, path, 'check', '--read-data')).toContain('no errors were found')
  }

  test('the gateway: what was under way is sent again', async () => {
    await backupUnder(21, async () => {
      await place.server.gateway.kill()
      await place.server.gateway.restart()
    })
  })

  test('a storage daemon of two: the other takes over, and it comes back', async () => {
    const [first] = place.server.storage
    await backupUnder(22, async () => {
      await first?.kill()
      await first?.restart()
    })
  })

  // The last: one of two daemons stays dead.
  test('a storage daemon that does not come back', async () => {
    await backupUnder(23, async () => place.server.storage[1]?.kill())
  })
})
