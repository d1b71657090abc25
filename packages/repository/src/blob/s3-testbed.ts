/** Owns what the tests of the store on S3 share: buckets on a Swift of their own, and files of credentials. */
import { writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type SwiftOptions, type SwiftServer, startSwift } from '@stillpoint/testbed'
import type { BlobStore } from './blob-store.ts'
import { openS3Store, type S3StoreOptions } from './s3-store.ts'

export interface S3Place {
  readonly swift: SwiftServer
  /** `BUCKET/some/prefix` of a bucket that is not there yet. */
  newPath(): string
  /** A file as ~/.aws/credentials with this profile, and with another that has no secret. */
  credentials(accessKeyId: string, secret: string, profile?: string): Promise<string>
  /** With the credentials of the server, unless others are named. */
  open(path: string, options?: Partial<S3StoreOptions>): Promise<BlobStore>
  /** In a new bucket. */
  prepared(options?: Partial<S3StoreOptions>): Promise<{ readonly path: string; readonly store: BlobStore }>
  stop(): Promise<void>
}

export async function startS3Place(options: SwiftOptions = {}): Promise<S3Place> {
  const swift = await startSwift(options)
  let files = 0
  let buckets = 0
  async function credentials(accessKeyId: string, secret: string, profile = 'default'): Promise<string> {
    files += 1
    const path = join(dirname(swift.caFile), `credentials-${files}`)
    const keys = `aws_access_key_id = ${accessKeyId}\naws_secret_access_key=${secret}\n`
    await writeFile(path, `[other]\naws_access_key_id = x\n\n# keys\n[${profile}]\n${keys}`, { mode: 0o600 })
    return path
  }
  function newPath(): string {
    buckets += 1
    return `bucket-${buckets}/some/prefix`
  }
  const credentialsFile = await credentials(swift.accessKeyId, swift.secretAccessKey)
  const open: S3Place['open'] = (path, options = {}) =>
    openS3Store({ location: `s3:${swift.endpoint}/${path}`, region: swift.region, credentialsFile, ...options })
  return {
    swift,
    newPath,
    credentials,
    open,
    async prepared(options) {
      const path = newPath()
      const store = await open(path, options)
      await store.prepare()
      return { path, store }
    },
    stop: () => swift.stop(),
  }
}
