/** The conformance suite on a real server that speaks S3: Swift, with its storage nodes. */
import { hasSwift } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { describeBlobStore } from './conformance.ts'
import { type S3Place, startS3Place } from './s3-testbed.ts'

describe.skipIf(!hasSwift())('a store on Swift conforms [needs python3-swift]', () => {
  let place: S3Place
  beforeAll(async () => {
    place = await startS3Place()
  })
  afterAll(() => place?.stop())

  describeBlobStore({ test }, async () => {
    const path = place.newPath()
    return { store: await place.open(path), reopen: () => place.open(path), dispose: async () => {} }
  })
})
