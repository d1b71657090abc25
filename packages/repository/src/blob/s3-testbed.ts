/** Owns what the tests of the store on S3 share: buckets on a Swift of their own, and both programs on them. */
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { type SwiftOptions, type SwiftServer, startSwift } from '@stillpoint/testbed'
import { initRepository, openRepository, type Repository } from '../repository.ts'
import { clock, entropy, password, scratch, scryptCost, seeded, world } from '../testing/testbed.ts'
import type { BlobStore } from './blob-store.ts'
import { retryingStore } from './retrying.ts'
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

const run = promisify(execFile)

/** The real restic on `BUCKET/PREFIX` of this Swift, over TLS; rejects with its output when it fails. */
export async function resticOn({ swift }: S3Place, path: string, ...args: string[]): Promise<string> {
  const home = await scratch()
  const env = {
    ...process.env,
    ...swift.env,
    AWS_DEFAULT_REGION: swift.region,
    RESTIC_PASSWORD: password,
    RESTIC_CACHE_DIR: join(home, 'cache'),
    TZ: 'UTC',
  }
  const all = ['--cacert', swift.caFile, '--repo', `s3:${swift.tlsEndpoint}/${path}`, ...args]
  const { stdout } = await run('restic', all, { env, maxBuffer: 1 << 28, cwd: home })
  return stdout
}

/** The repository there, opened by us with retries around the store. */
export async function repositoryOn(place: S3Place, path: string): Promise<Repository> {
  return openRepository({ store: retryingStore(await place.open(path), retry), password, ...world })
}

/** A new repository there, with a key that is quick to derive. */
export async function newRepositoryOn(place: S3Place, path: string): Promise<Repository> {
  await initRepository({ store: await place.open(path), password, entropy, clock, scryptCost })
  return repositoryOn(place, path)
}

const retry = { clock, random: seeded(3), pauseMs: 50 }
