/**
 * Owns putting an object on S3: create-only, and in parts where it is large. Does not own its protection
 * (s3-object-lock.ts) and reading (s3-store.ts).
 *
 * Create-only rests on `If-None-Match: *`, which not every server knows. Invariants:
 * 1. Whether the server honours it is found out with the first small object, which is put twice: the second time must
 *    be refused. Until that is known, and for good where it is not so, it is looked first whether the name is taken.
 *    Of what goes in parts it cannot be found out without doing harm, and servers differ there, too (Ceph 16.2 honours
 *    it for whole objects only, and in buckets with versions for none): there it is looked first on all but Amazon.
 * 2. Between that look and the upload another writer may come. All names but that of the config are the SHA-256 of the
 *    content, locks and keys included: such a rival has put the same bytes, and nothing is lost. Of two configs the
 *    later one wins, and each writer looks again after a pause that is long against an upload: `exists` for the loser.
 *    A rival that stands still between its own look and its upload for longer than the pause is not seen.
 * 3. The signature of an upload names the object's own name as the hash of the bytes, so that the server refuses bytes
 *    that do not belong to it, whatever changed them on the way.
 */
import { createHash } from 'node:crypto'
import type { CompletedPart, PutObjectCommand, PutObjectCommandInput } from '@aws-sdk/client-s3'
import type { Clock } from '@stillpoint/core/kernel'
import { isId } from '../format/ids.ts'
import { eachOf } from '../parallel.ts'
import type { ObjectName } from './blob-store.ts'
import { pause } from './retrying.ts'
import type { S3Bucket } from './s3-client.ts'
import { refusalOf } from './s3-failure.ts'
import { createS3ObjectLock, type S3Protection, type S3Retention } from './s3-object-lock.ts'

export type { S3Retention }

/** Those that are read at once: from an archive, every check and restore would wait for hours. */
export const s3StorageClasses = [
  'STANDARD',
  'STANDARD_IA',
  'ONEZONE_IA',
  'INTELLIGENT_TIERING',
  'GLACIER_IR',
  'REDUCED_REDUNDANCY',
] as const
export type S3StorageClass = (typeof s3StorageClasses)[number]

export interface S3UploadOptions {
  /** Storage class of packs, such as `STANDARD_IA`. Default: the bucket's. */
  readonly storageClass?: S3StorageClass
  /** Object Lock on all that is stored, except locks. The bucket must have it. */
  readonly retention?: S3Retention
  /** Objects that are larger are sent in parts of this many bytes, at least 5 MiB. Default: 64 MiB. */
  readonly partBytes?: number
}

export interface S3Upload {
  /** Whether two writers of one name cannot both succeed, as far as that is known by now, and of what was put by now. */
  isAtomic(): boolean
  put(object: ObjectName, path: string, bytes: Uint8Array): Promise<'created' | 'exists'>
}

export interface S3UploadParts {
  readonly bucket: S3Bucket
  readonly clock: Clock
  readonly signal: AbortSignal | undefined
  readonly sizeOf: (path: string) => Promise<number | undefined>
  readonly read: (path: string) => Promise<Buffer>
}

/** What S3 requires of all parts but the last. */
export const partBytesMin = 5 << 20
const defaultPartBytes = 64 << 20
const partsAtOnce = 4
/** What is put twice to find out: locks and keys are below it. */
const probeBytesMax = 64 << 10
/** How long a config is left alone before it is looked at again, and that in times of what its upload took. */
const configPauseMs = 1_000
const configPauseUploads = 5

type Condition = 'unknown' | 'honoured' | 'absent'

/** `refused`: the server knows no conditions. `unchecked`: it wants a checksum. */
type Attempt = 'created' | 'exists' | 'refused' | 'unchecked'

interface How {
  readonly isConditional: boolean
  readonly hasChecksum: boolean
  readonly partBytes: number
}

interface Upload {
  readonly object: ObjectName
  readonly path: string
  readonly bytes: Uint8Array
  readonly protection: S3Protection | undefined
  readonly settings: UploadSettings
}

/** What goes with each kind. */
type UploadSettings = Pick<PutObjectCommandInput, 'StorageClass' | 'ContentType'> & Partial<S3Protection>

export function createS3Upload(parts: S3UploadParts, options: S3UploadOptions): S3Upload {
  const { bucket, sizeOf } = parts
  const { storageClass } = options
  const partBytes = options.partBytes ?? defaultPartBytes
  // Invariant 1; Amazon documents it (August 2024).
  let condition: Condition = bucket.isAmazon ? 'honoured' : 'unknown'
  let hasPutInParts = false
  // Amazon wants one with all that comes under Object Lock; of a retention that is the bucket's own, its answer tells.
  let hasChecksum = options.retention !== undefined
  const objectLock = createS3ObjectLock(bucket, parts.clock, options.retention)
  const isInParts = ({ bytes }: Upload) => bytes.length > partBytes

  async function attempt(upload: Upload): Promise<Exclude<Attempt, 'unchecked'>> {
    const how = { isConditional: condition !== 'absent', hasChecksum, partBytes }
    const outcome = await (isInParts(upload) ? putInParts(parts, upload, how) : putWhole(parts, upload, how))
    if (outcome !== 'unchecked') return outcome
    hasChecksum = true
    return attempt(upload)
  }

  async function create(upload: Upload): Promise<'created' | 'exists'> {
    const isCertain = condition === 'honoured' && (bucket.isAmazon || !isInParts(upload))
    if (!isCertain && (await sizeOf(upload.path)) !== undefined) return 'exists'
    const outcome = await attempt(upload)
    if (outcome === 'created' && isInParts(upload)) hasPutInParts = true
    if (outcome === 'refused') {
      condition = 'absent'
      return create(upload)
    }
    if (outcome === 'created' && condition === 'unknown' && upload.bytes.length <= probeBytesMax) {
      // The same bytes again: where the condition is ignored, nothing is changed by it.
      condition = (await attempt(upload)) === 'exists' ? 'honoured' : 'absent'
    }
    return outcome
  }

  return {
    isAtomic: () => condition === 'honoured' && (bucket.isAmazon || !hasPutInParts),
    async put(object, path, bytes) {
      const protection = await objectLock.protectionFor(object.kind)
      const classed = storageClass === undefined || object.kind !== 'pack' ? {} : { StorageClass: storageClass }
      const settings = { ContentType: 'application/octet-stream', ...classed, ...protection }
      const upload = { object, path, bytes, protection, settings }
      const beganMs = parts.clock.monotonicMs()
      const outcome = await create(upload)
      // Also where it was there: the attempt that made it may have ended before this.
      if (protection !== undefined && isInParts(upload)) await objectLock.confirm(path, protection)
      if (outcome === 'exists' || object.kind !== 'config' || condition === 'honoured') return outcome
      // Invariant 2.
      const pauseMs = configPauseMs + configPauseUploads * (parts.clock.monotonicMs() - beganMs)
      await pause(pauseMs, {
        clock: parts.clock,
        ...(parts.signal === undefined ? {} : { signal: parts.signal }),
      })
      return (await parts.read(path)).equals(bytes) ? 'created' : 'exists'
    },
  }
}

async function putWhole({ bucket, sizeOf }: S3UploadParts, upload: Upload, how: How): Promise<Attempt> {
  const { object, path, bytes, settings } = upload
  const { sdk } = bucket
  try {
    await bucket.send((client, options) => {
      const command = new sdk.PutObjectCommand({
        ...target(bucket, path),
        ...settings,
        ...conditionIf(how),
        ...checksumIf(how, bytes),
        Body: bytes,
      })
      if (isId(object.name)) signAs(command, object.name)
      return client.send(command, options)
    })
    return 'created'
  } catch (error) {
    return refusedOr(error, { ...how, isThere: async () => (await sizeOf(path)) !== undefined }, () =>
      bucket.failure(error, { doing: 'writing', path }),
    )
  }
}

/** @throws what `otherwise` makes of it, where the refusal does not say that the object is there */
async function refusedOr(
  error: unknown,
  { isConditional, hasChecksum, isThere }: How & { readonly isThere: () => Promise<boolean> },
  otherwise: () => unknown,
): Promise<Attempt> {
  const refusal = refusalOf(error)
  if (refusal?.status === 412) return 'exists'
  if (!hasChecksum && refusal?.code === 'InvalidRequest' && /content-md5|checksum/i.test(refusal.said))
    return 'unchecked'
  const unknownCodes = ['NotImplemented', 'InvalidArgument', 'InvalidRequest']
  if (isConditional && refusal !== undefined && (refusal.status === 501 || unknownCodes.includes(refusal.code))) {
    return 'refused'
  }
  // 409: another upload of it is just ending. 400: also where the bytes are not those that the name says (invariant 3).
  if ((refusal?.status === 409 || refusal?.status === 400) && (await isThere())) return 'exists'
  throw otherwise()
}

async function putInParts(parts: S3UploadParts, upload: Upload, how: How): Promise<Attempt> {
  const { bucket, sizeOf } = parts
  const { path, bytes, settings } = upload
  const to = target(bucket, path)
  const { sdk } = bucket
  let uploadId: string | undefined
  try {
    const begun = await bucket.send((client, options) =>
      client.send(new sdk.CreateMultipartUploadCommand({ ...to, ...settings }), options),
    )
    uploadId = begun.UploadId
    const sent = await sendParts(parts, { ...upload, ...how, uploadId })
    const whole = { ...to, UploadId: uploadId, ...conditionIf(how), MultipartUpload: { Parts: sent } }
    await bucket.send((client, options) => client.send(new sdk.CompleteMultipartUploadCommand(whole), options))
    return 'created'
  } catch (error) {
    if (uploadId !== undefined) await abortUpload(bucket, { ...to, UploadId: uploadId })
    return refusedOr(error, { ...how, isThere: async () => (await sizeOf(path)) !== undefined }, () =>
      bucket.failure(error, { doing: `writing ${bytes.length} bytes to`, path }),
    )
  }
}

interface PartedUpload extends Upload, How {
  readonly uploadId: string | undefined
}

async function sendParts({ bucket }: S3UploadParts, upload: PartedUpload): Promise<CompletedPart[]> {
  const { path, bytes, uploadId, partBytes } = upload
  const { sdk } = bucket
  const sent: CompletedPart[] = []
  await eachOf(Array(Math.ceil(bytes.length / partBytes)).keys(), partsAtOnce, async (at) => {
    const Body = bytes.subarray(at * partBytes, (at + 1) * partBytes)
    const part = {
      ...target(bucket, path),
      UploadId: uploadId,
      PartNumber: at + 1,
      Body,
      ...checksumIf(upload, Body),
    }
    const { ETag } = await bucket.send((client, options) => client.send(new sdk.UploadPartCommand(part), options))
    sent[at] = { PartNumber: at + 1, ETag }
  })
  return sent
}

interface UploadName {
  readonly Bucket: string
  readonly Key: string | undefined
  readonly UploadId: string | undefined
}

/** Gives back the room of an upload that will not be completed. */
export async function abortUpload({ sdk, send }: S3Bucket, name: UploadName): Promise<boolean> {
  try {
    // Also after our own abort: nobody else would.
    await send((client, options) => client.send(new sdk.AbortMultipartUploadCommand(name), options), true)
    return true
  } catch {
    // What ended the upload is what is reported. It may be complete, or gone; else `sweep` finds it.
    return false
  }
}

const target = (bucket: S3Bucket, path: string) => ({ Bucket: bucket.bucket, Key: bucket.keyOf(path) })
const conditionIf = ({ isConditional }: How) => (isConditional ? ({ IfNoneMatch: '*' } as const) : {})

/** MD5 is the one that all servers know. */
function checksumIf({ hasChecksum }: How, bytes: Uint8Array): { readonly ContentMD5?: string } {
  return hasChecksum ? { ContentMD5: createHash('md5').update(bytes).digest('base64') } : {}
}

/** Invariant 3: the signer takes the hash of the body from this header where it is there. */
function signAs(command: PutObjectCommand, hash: string): void {
  command.middlewareStack.add(
    (next) => (args) => {
      const { request } = args
      if (typeof request === 'object' && request !== null && 'headers' in request) {
        Object.assign(request.headers ?? {}, { 'x-amz-content-sha256': hash })
      }
      return next(args)
    },
    { step: 'build', name: 'signAsObjectName' },
  )
}
