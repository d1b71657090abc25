/** The tests that every server must pass, on Swift with its storage nodes. On Ceph they are in s3-ceph.test.ts. */
import { hasSwift, type SwiftServer } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe } from 'vitest'
import { describeS3Store } from './s3-suite-testbed.ts'
import { type S3Place, startSwiftPlace } from './s3-testbed.ts'

describe.skipIf(!hasSwift())('a store on Swift [needs python3-swift]', () => {
  let place: S3Place<SwiftServer>
  beforeAll(async () => {
    place = await startSwiftPlace()
  })
  afterAll(() => place?.stop())

  describeS3Store(() => place)
})
