/** A storage daemon of Ceph's, and its gateway, killed in the middle of a backup and started again. */
import { type CephServer, hasCeph } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { hasTool } from '../testing/testbed.ts'
import { backUpThrough } from './s3-suite-testbed.ts'
import { type S3Place, startCephPlace } from './s3-testbed.ts'

const needs = '[needs ceph-mon, ceph-osd, radosgw, restic]'

describe.skipIf(!hasCeph() || !hasTool('restic'))(`outages of Ceph ${needs}`, () => {
  let place: S3Place<CephServer>
  beforeAll(async () => {
    place = await startCephPlace({ storageDaemons: 2 })
  })
  afterAll(() => place?.stop())

  test('the gateway: what was under way is sent again', async () => {
    const { gateway } = place.server
    await backUpThrough(place, { seed: 21, strike: () => gateway.kill().then(() => gateway.restart()) })
  })

  test('a storage daemon of two: the other takes over, and it comes back', async () => {
    const [first] = place.server.storage
    await backUpThrough(place, { seed: 22, strike: async () => first?.kill().then(() => first.restart()) })
  })

  // The last: one of two daemons stays dead.
  test('a storage daemon that does not come back', async () => {
    await backUpThrough(place, { seed: 23, strike: async () => place.server.storage[1]?.kill() })
  })
})
