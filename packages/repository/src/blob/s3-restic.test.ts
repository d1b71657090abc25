/** One repository on Swift, used by the real restic and by us. On Ceph it is in s3-ceph.test.ts. */
import { hasSwift, type SwiftServer } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe } from 'vitest'
import { describeResticOnS3 } from './s3-suite-testbed.ts'
import { type S3Place, startSwiftPlace } from './s3-testbed.ts'

describe.skipIf(!hasSwift())('on Swift [needs python3-swift]', () => {
  let place: S3Place<SwiftServer>
  beforeAll(async () => {
    place = await startSwiftPlace()
  })
  afterAll(() => place?.stop())

  describeResticOnS3(() => place)
})
