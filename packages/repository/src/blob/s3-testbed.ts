/** Owns what the tests of the store on S3 share: buckets on a server of their own, and both programs on them. */
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { CreateMultipartUploadCommand, S3Client, UploadPartCommand } from '@aws-sdk/client-s3'
import {
  type CephOptions,
  type CephServer,
  type CephUser,
  newestRestic,
  type SwiftOptions,
  type SwiftServer,
  startCeph,
  startSwift,
  temporaryDirectory,
} from '@stillpoint/testbed'
import { sha256 } from '../format/ids.ts'
import { initRepository, openRepository, type Repository } from '../repository.ts'
import { clock, entropy, password, scratch, scryptCost, seeded, world } from '../testing/testbed.ts'
import type { BlobStore } from './blob-store.ts'
import { retryingStore } from './retrying.ts'
import { openS3Store, type S3StoreOptions } from './s3-store.ts'

/** What a real server that speaks S3 is known by. */
export type S3Server = CephServer | SwiftServer

export interface S3Place<Server extends S3Server = S3Server> {
  readonly server: Server
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

export async function startSwiftPlace(options: SwiftOptions = {}): Promise<S3Place<SwiftServer>> {
  return placeOn(await startSwift(options))
}

/** The one with versions, Object Lock and conditional uploads. */
export async function startCephPlace(options: CephOptions = {}): Promise<S3Place<CephServer>> {
  return placeOn(await startCeph(options))
}

async function placeOn<Server extends S3Server>(server: Server): Promise<S3Place<Server>> {
  const directory = await temporaryDirectory('s3-credentials')
  let files = 0
  let buckets = 0
  async function credentials(accessKeyId: string, secret: string, profile = 'default'): Promise<string> {
    files += 1
    const path = join(directory.path, `credentials-${files}`)
    const keys = `aws_access_key_id = ${accessKeyId}\naws_secret_access_key=${secret}\n`
    await writeFile(path, `[other]\naws_access_key_id = x\n\n# keys\n[${profile}]\n${keys}`, { mode: 0o600 })
    return path
  }
  function newPath(): string {
    buckets += 1
    return `bucket-${buckets}/some/prefix`
  }
  const credentialsFile = await credentials(server.accessKeyId, server.secretAccessKey)
  const open: S3Place['open'] = (path, options = {}) =>
    openS3Store({ location: `s3:${server.endpoint}/${path}`, region: server.region, credentialsFile, ...options })
  return {
    server,
    newPath,
    credentials,
    open,
    async prepared(options) {
      const path = newPath()
      const store = await open(path, options)
      await store.prepare()
      return { path, store }
    },
    async stop() {
      await server.stop()
      await directory.remove()
    },
  }
}

/** What a program of somebody else's does there, in Amazon's own words; with the server's first user unless named. */
export interface OwnClient extends AsyncDisposable {
  readonly sdk: S3Client
  /** An upload in parts that nobody completes. */
  beginUpload(path: string): Promise<void>
}

export function ownClient(server: S3Server, user: CephUser = server): OwnClient {
  const { endpoint, region } = server
  const { accessKeyId, secretAccessKey } = user
  const sdk = new S3Client({
    endpoint,
    region,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  })
  return {
    sdk,
    async beginUpload(path) {
      const [Bucket = '', ...prefix] = path.split('/')
      const Key = [...prefix, 'data', 'aa', 'a'.repeat(64)].join('/')
      const { UploadId } = await sdk.send(new CreateMultipartUploadCommand({ Bucket, Key }))
      await sdk.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber: 1, Body: Buffer.alloc(5 << 20) }))
    },
    async [Symbol.asyncDispose]() {
      sdk.destroy()
    },
  }
}

/** The pack that these bytes are. */
export const packOf = (bytes: Uint8Array) => ({ kind: 'pack', name: sha256(bytes) }) as const

const run = promisify(execFile)

/**
 * The real restic on `BUCKET/PREFIX` of this server, over TLS on Swift, which does not know the signatures that restic
 * sends over plain HTTP. Rejects with its output when it fails.
 */
export async function resticOn({ server }: S3Place, path: string, ...args: string[]): Promise<string> {
  const home = await scratch()
  const env = {
    ...process.env,
    ...server.env,
    AWS_DEFAULT_REGION: server.region,
    RESTIC_PASSWORD: password,
    RESTIC_CACHE_DIR: join(home, 'cache'),
    TZ: 'UTC',
  }
  const endpoint = 'tlsEndpoint' in server ? server.tlsEndpoint : server.endpoint
  const trust = 'caFile' in server ? ['--cacert', server.caFile] : []
  const all = [...trust, '--repo', `s3:${endpoint}/${path}`, ...args]
  const { stdout } = await run(newestRestic.command, all, { env, maxBuffer: 1 << 28, cwd: home })
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
