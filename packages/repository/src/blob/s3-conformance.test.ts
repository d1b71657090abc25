/** The conformance suite on a real server that speaks S3: Swift, with its storage nodes. */
import { hasSwift, type SwiftServer } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { describeBlobStore } from './conformance.ts'
import { type S3Place, startSwiftPlace } from './s3-testbed.ts'

describe.skipIf(!hasSwift())('a store on Swift conforms [needs python3-swift]', () => {
  let place: S3Place<SwiftServer>
  beforeAll(async () => {
    place = await startSwiftPlace()
  })
  afterAll(() => place?.stop())

  describeBlobStore({ test }, async () => {
    const path = place.newPath()
    return { store: await place.open(path), reopen: () => place.open(path), dispose: async () => {} }
  })
})
