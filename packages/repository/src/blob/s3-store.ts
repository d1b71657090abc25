/**
 * Owns the backend on S3 and what speaks its protocol, in restic's layout: `config`, `data/xx/…`, `index/`, `keys/`,
 * `locks/`, `snapshots/` below the prefix. Does not own connections (s3-client.ts), lists (s3-list.ts), uploads
 * (s3-upload.ts) and what has been (s3-as-of.ts); wrap it in `retryingStore` against networks and servers that are busy.
 *
 * Invariants: 1. `get` answers exactly the bytes asked for, whatever the server makes of ranges. 2. A bucket that is not
 * there is a repository that is not there, for what looks for one object; everything else fails by its name.
 */
import { Readable } from 'node:stream'
import type { ListMultipartUploadsOutput } from '@aws-sdk/client-s3'
import { assert, type Clock, Failure } from '@stillpoint/core/kernel'
import { isId } from '../format/ids.ts'
import { systemClock } from '../system-env.ts'
import type { BlobStore, ByteRange, ObjectKind, ObjectName, StoredObject } from './blob-store.ts'
import { createS3AsOf } from './s3-as-of.ts'
import { bodyBytes, connectS3, type S3Bucket, type S3ClientOptions } from './s3-client.ts'
import { refusalOf } from './s3-failure.ts'
import { createS3Lists } from './s3-list.ts'
import { abortUpload, createS3Upload, partBytesMin, type S3UploadOptions } from './s3-upload.ts'

export interface S3StoreOptions extends S3ClientOptions, S3UploadOptions {
  /** Default: the system's. */
  readonly clock?: Clock
  /** Shows the repository as it was at this moment, where the bucket keeps versions: to be read, not changed. */
  readonly asOf?: Date
}

const folders = { key: 'keys', lock: 'locks', snapshot: 'snapshots', index: 'index', pack: 'data' } as const
/** What one Buffer may be; no pack is near it. */
const objectBytesMax = 2 ** 31 - 1

/**
 * A repository on S3. Loads the SDK and reads the files that are named; sends nothing yet.
 * @throws Failure `options_invalid`, `secret_…` of the credentials file, `storage_failed` (CA file)
 */
export async function openS3Store(options: S3StoreOptions): Promise<BlobStore> {
  if (options.partBytes !== undefined && !(options.partBytes >= partBytesMin)) {
    throw new Failure({ code: 'options_invalid', message: `partBytes is less than ${partBytesMin}, as S3 wants it` })
  }
  const days = options.retention?.days
  if (days !== undefined && !(Number.isSafeInteger(days) && days >= 1 && days <= 36_500)) {
    throw new Failure({
      code: 'options_invalid',
      message: 'the days of retention are not a whole number from 1 to 36500',
    })
  }
  if (options.asOf !== undefined && Number.isNaN(options.asOf.getTime())) {
    throw new Failure({ code: 'options_invalid', message: 'asOf is no moment in time' })
  }
  const bucket = await connectS3(options)
  const { clock = systemClock, signal, asOf } = options
  if (asOf !== undefined) {
    return createS3AsOf(bucket, {
      asOf,
      folderOf: (kind) => (kind === 'config' ? 'config' : `${folders[kind]}/`),
      nameAt,
      locate: (object) => bucket.locate(pathOf(object)),
      get: (object, range, versionId) => get(bucket, object, range, versionId),
    })
  }
  const upload = createS3Upload(
    { bucket, clock, signal, sizeOf: (path) => sizeOf(bucket, path), read: (path) => read(bucket, { path }) },
    options,
  )
  const lists = createS3Lists(bucket, {
    folderOf: (kind) => `${folders[kind]}/`,
    pathOf: (kind, name) => pathOf({ kind, name }),
    sizeOf: (path) => sizeOf(bucket, path),
  })
  return {
    traits: {
      get atomicCreate() {
        return upload.isAtomic()
      },
    },
    locate: (object) => bucket.locate(pathOf(object)),
    prepare: () => prepare(bucket, options),
    async put(object, bytes) {
      const outcome = await upload.put(object, pathOf(object), bytes)
      lists.hasPut(object.kind, object.name)
      return outcome
    },
    get: (object, range) => (range?.length === 0 ? emptyRange(bucket, object, range) : get(bucket, object, range)),
    size: (object) => sizeOf(bucket, pathOf(object)),
    list: (kind) => (kind === 'config' ? listConfig(bucket) : lists.list(kind)),
    async delete(object) {
      await remove(bucket, object)
      lists.hasDeleted(object.kind, object.name)
    },
    sweep: () => sweep(bucket),
  }
}

function pathOf({ kind, name }: ObjectName): string {
  if (kind === 'config') return 'config'
  if (!isId(name)) {
    throw new Failure({ code: 'object_missing', message: `${JSON.stringify(name)} is no name of a ${kind}` })
  }
  return kind === 'pack' ? `${folders.pack}/${name.slice(0, 2)}/${name}` : `${folders[kind]}/${name}`
}

/** The other way round: undefined for what others have put there. */
function nameAt(kind: ObjectKind, path: string): string | undefined {
  const name = path.slice(path.lastIndexOf('/') + 1)
  const isOurs = (kind === 'config' || isId(name)) && path === pathOf({ kind, name })
  return isOurs ? name : undefined
}

const target = (bucket: S3Bucket, path: string) => ({ Bucket: bucket.bucket, Key: bucket.keyOf(path) })

/** Makes the bucket where there is none, as restic does. */
async function prepare(bucket: S3Bucket, { retention }: S3StoreOptions): Promise<void> {
  const { sdk } = bucket
  const name = { Bucket: bucket.bucket }
  try {
    await bucket.send((client, options) => client.send(new sdk.HeadBucketCommand(name), options))
    return
  } catch (error) {
    const status = refusalOf(error)?.status
    // Who may not look at the bucket may still use it: what comes next says whether.
    if (status === 403) return
    // 400 has no words here: making it says what is wrong, such as its name.
    if (status !== 404 && status !== 400) throw bucket.failure(error, { doing: 'looking at the bucket', path: '' })
  }
  try {
    const command = new sdk.CreateBucketCommand({
      ...name,
      ...(retention === undefined ? {} : { ObjectLockEnabledForBucket: true }),
      ...locationOf(bucket),
    })
    await bucket.send((client, options) => client.send(command, options))
  } catch (error) {
    // Somebody has made it meanwhile, or an earlier attempt whose answer was lost.
    if (refusalOf(error)?.code === 'BucketAlreadyOwnedByYou') return
    throw bucket.failure(error, { doing: 'making the bucket', path: '' })
  }
}

/** Amazon wants to be told its own region; other servers know but their own. */
function locationOf({ isAmazon, region, sdk }: S3Bucket) {
  if (!isAmazon || region === 'us-east-1') return {}
  const constraint = Object.values(sdk.BucketLocationConstraint).find((known) => known === region)
  return constraint === undefined ? {} : { CreateBucketConfiguration: { LocationConstraint: constraint } }
}

interface Wanted {
  readonly path: string
  readonly range?: ByteRange | undefined
  /** Default: the newest. */
  readonly versionId?: string | undefined
}

/** Throws what the SDK throws. */
function read(bucket: S3Bucket, { path, range, versionId }: Wanted): Promise<Buffer> {
  const Range = range === undefined ? {} : { Range: `bytes=${range.offset}-${range.offset + range.length - 1}` }
  return bucket.send(async (client, options) => {
    const version = versionId === undefined ? {} : { VersionId: versionId }
    const command = new bucket.sdk.GetObjectCommand({ ...target(bucket, path), ...version, ...Range })
    const answer = await client.send(command, options)
    if (range === undefined) return bodyBytes(answer.Body, objectBytesMax, options)
    // Invariant 1. A server that does not know ranges sends the whole.
    if (answer.ContentRange === undefined) {
      const whole = await bodyBytes(answer.Body, objectBytesMax, options)
      return whole.subarray(range.offset, range.offset + range.length)
    }
    if (!answer.ContentRange.startsWith(`bytes ${range.offset}-`)) {
      if (answer.Body instanceof Readable) answer.Body.destroy()
      throw new Failure({
        code: 'storage_failed',
        message: `reading ${bucket.locate(path)}: the server answers with another range than was asked for`,
        hint: 'See whether a proxy between here and the server changes answers.',
        retry: 'later',
      })
    }
    return bodyBytes(answer.Body, range.length, options)
  })
}

async function get(
  bucket: S3Bucket,
  object: ObjectName,
  range: ByteRange | undefined,
  versionId?: string,
): Promise<Buffer> {
  if (range !== undefined) {
    const { offset, length } = range
    assert(Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(length) && length >= 0, 'a range')
  }
  const path = pathOf(object)
  let bytes: Buffer
  try {
    bytes = await read(bucket, { path, range, versionId })
  } catch (error) {
    const refusal = refusalOf(error)
    if (refusal?.status === 404) throw missing(bucket, object, refusal.code)
    if (refusal?.status === 416 && range !== undefined) throw tooShort(bucket, object, range)
    throw bucket.failure(error, { doing: 'reading', path })
  }
  if (range !== undefined && bytes.length < range.length) throw tooShort(bucket, object, range)
  return bytes
}

/** HTTP has no empty ranges. */
async function emptyRange(bucket: S3Bucket, object: ObjectName, { offset }: ByteRange): Promise<Buffer> {
  const bytes = await sizeOf(bucket, pathOf(object))
  if (bytes === undefined) throw missing(bucket, object)
  if (offset > bytes) throw tooShort(bucket, object, { offset, length: 0 })
  return Buffer.alloc(0)
}

async function sizeOf(bucket: S3Bucket, path: string): Promise<number | undefined> {
  try {
    const command = new bucket.sdk.HeadObjectCommand(target(bucket, path))
    const { ContentLength } = await bucket.send((client, options) => client.send(command, options))
    if (ContentLength !== undefined) return ContentLength
  } catch (error) {
    const refusal = refusalOf(error)
    if (refusal?.status === 404) return undefined
    const why = refusal !== undefined && refusal.status < 500 ? await wordsFor(bucket, path, error) : error
    throw bucket.failure(why, { doing: 'looking at', path })
  }
  const message = `looking at ${bucket.locate(path)}: the server does not say how long it is`
  throw new Failure({ code: 'storage_failed', message, hint: 'See whether a proxy on the way changes answers.' })
}

/** The answer to HEAD has no words: whether the secret is wrong or the clock, the answer to GET says. */
async function wordsFor(bucket: S3Bucket, path: string, refused: unknown): Promise<unknown> {
  const command = new bucket.sdk.GetObjectCommand({ ...target(bucket, path), Range: 'bytes=0-0' })
  return bucket.send(async (client, options) => {
    try {
      const { Body } = await client.send(command, options)
      if (Body instanceof Readable) Body.destroy()
      return refused
    } catch (error) {
      return refusalOf(error)?.status === refusalOf(refused)?.status ? error : refused
    }
  })
}

async function* listConfig(bucket: S3Bucket): AsyncGenerator<readonly StoredObject[]> {
  const bytes = await sizeOf(bucket, 'config')
  if (bytes !== undefined) yield [{ name: 'config', bytes }]
}

async function remove(bucket: S3Bucket, object: ObjectName): Promise<void> {
  const path = pathOf(object)
  // S3 answers the same whether there was one.
  if ((await sizeOf(bucket, path)) === undefined) throw missing(bucket, object)
  const command = new bucket.sdk.DeleteObjectCommand(target(bucket, path))
  try {
    await bucket.send((client, options) => client.send(command, options))
  } catch (error) {
    if (refusalOf(error)?.status === 404) throw missing(bucket, object)
    throw bucket.failure(error, { doing: 'deleting', path })
  }
}

/** Uploads in parts that were never completed: they are paid for, and nobody sees them. */
async function sweep(bucket: S3Bucket): Promise<number> {
  const { sdk } = bucket
  let swept = 0
  let marker: UploadMarker | undefined = {}
  while (marker !== undefined) {
    const command = new sdk.ListMultipartUploadsCommand({
      Bucket: bucket.bucket,
      Prefix: bucket.keyOf(''),
      ...marker,
    })
    const answer: ListMultipartUploadsOutput | undefined = await bucket
      .send((client, options) => client.send(command, options))
      .catch((error: unknown) => {
        const status = refusalOf(error)?.status
        // Not known to this server, or not for this user: there is nothing that we could remove.
        if (status === 403 || status === 405 || status === 501) return undefined
        throw bucket.failure(error, { doing: 'looking for unfinished uploads at', path: '' })
      })
    for (const { Key, UploadId } of answer?.Uploads ?? []) {
      if (await abortUpload(bucket, { Bucket: bucket.bucket, Key, UploadId })) swept += 1
    }
    marker = markerAfter(answer, marker)
  }
  return swept
}

interface UploadMarker {
  readonly KeyMarker?: string
  readonly UploadIdMarker?: string
}

function markerAfter(answer: ListMultipartUploadsOutput | undefined, last: UploadMarker): UploadMarker | undefined {
  const { IsTruncated, NextKeyMarker, NextUploadIdMarker } = answer ?? {}
  if (IsTruncated !== true || NextKeyMarker === undefined) return undefined
  const next = { KeyMarker: NextKeyMarker, ...(NextUploadIdMarker ? { UploadIdMarker: NextUploadIdMarker } : {}) }
  // A server that stays where it is would keep us here for ever.
  return next.KeyMarker === last.KeyMarker && next.UploadIdMarker === last.UploadIdMarker ? undefined : next
}

function missing(bucket: S3Bucket, object: ObjectName, refusalCode?: string): Failure {
  const message = `${object.kind} ${object.name} is not at ${bucket.locate(pathOf(object))}`
  // Invariant 2.
  if (refusalCode !== 'NoSuchBucket') return new Failure({ code: 'object_missing', message })
  return new Failure({ code: 'object_missing', message: `${message}: there is no bucket ${bucket.bucket}` })
}

function tooShort(bucket: S3Bucket, object: ObjectName, { offset, length }: ByteRange): Failure {
  const where = bucket.locate(pathOf(object))
  return new Failure({
    code: 'object_damaged',
    message: `${object.kind} ${object.name} at ${where} is damaged: it ends before byte ${offset + length}`,
    hint: 'See what is affected: check the repository with all data read.',
  })
}
